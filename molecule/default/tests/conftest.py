"""What the tests of the first slice share: the host, its API, and playbooks run against it."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from openai import DefaultHttpxClient, OpenAI
from testinfra.host import Host

ROOT = Path(__file__).resolve().parents[3]
INVENTORY = ROOT / "molecule/default/inventory"
NAME = "citadel-slice"
ADDRESS = yaml.safe_load((INVENTORY / "hosts.yml").read_text())["all"]["children"]["llm_servers"]["hosts"][
    NAME
]["ansible_host"]
STATE = Path(os.environ.get("CITADEL_LAB_STATE", "/var/lib/citadel-lab"))
CACHE = Path(os.environ.get("CITADEL_CACHE") or Path.home() / ".cache/citadel")
MODEL = "smollm2-135m-instruct"
EMBEDDINGS = "all-minilm-l6-v2"
SIMULATED = "simulated"
COLLECTIONS = ROOT / "collections"
QUESTION = "What is the capital of France?"


@dataclass(frozen=True)
class Run:
    """A playbook's run."""

    rc: int
    output: str

    @property
    def changed(self) -> int:
        """How many tasks changed something, over all hosts."""
        counts = re.findall(r"\bchanged=(\d+)", self.output.rpartition("PLAY RECAP")[2])
        if self.rc == 0:
            assert counts, self.output[-3000:]
        return sum(map(int, counts))


def playbook_argv(
    *arguments: str, book: str = "playbooks/site.yml", executable: str | None = None
) -> list[str]:
    command = executable or str(Path(sys.executable).with_name("ansible-playbook"))
    return [command, "-i", str(INVENTORY), book, *arguments]


def playbook(*arguments: str, book: str = "playbooks/site.yml", executable: str | None = None) -> Run:
    """Run a playbook of the repository to its end."""
    return run_ansible(playbook_argv(*arguments, book=book, executable=executable))


def stages(*names: str, collections: Path = COLLECTIONS, **variables: object) -> Run:
    """Run stages one after the other, out of this collection or of another one."""
    books = [str(collections / "ansible_collections/citadel/llm/playbooks" / f"{name}.yml") for name in names]
    extra = ["--extra-vars", json.dumps(variables)]
    return run_ansible(
        playbook_argv(*books[1:], *extra, book=books[0]), ANSIBLE_COLLECTIONS_PATH=str(collections)
    )


def run_ansible(argv: list[str], **environment: str) -> Run:
    # Molecule forces colours on what it starts, and a coloured count is none that can be read.
    plain = {name: value for name, value in os.environ.items() if name != "ANSIBLE_FORCE_COLOR"}
    run = subprocess.run(
        argv,
        cwd=ROOT,
        env={**plain, "ANSIBLE_NOCOLOR": "true", **environment},
        text=True,
        capture_output=True,
        check=False,
    )
    return Run(run.returncode, run.stdout + run.stderr)


@pytest.fixture(scope="session")
def server() -> Host:
    """The host over ssh, as root."""
    options = f"-o UserKnownHostsFile={STATE}/known_hosts -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
    return testinfra.get_host(
        f"ssh://root@{ADDRESS}", ssh_identity_file=str(STATE / "id_ed25519"), ssh_extra_args=options
    )


@pytest.fixture(scope="session")
def ca(server: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "ca.crt"
    path.write_text(server.check_output("cat /opt/citadel/config/edge/tls/ca.crt") + "\n")
    return path


@pytest.fixture(scope="session")
def key(server: Host) -> str:
    return str(server.check_output("cat /opt/citadel/secrets/keys/default.key")).strip()


@pytest.fixture
def client(ca: Path, key: str) -> Iterator[OpenAI]:
    """The official client, as a user of the API would have it."""
    with DefaultHttpxClient(verify=ssl.create_default_context(cafile=str(ca))) as http:
        yield OpenAI(
            base_url=f"https://{ADDRESS}/v1", api_key=key, http_client=http, timeout=120, max_retries=0
        )


def answer(client: OpenAI) -> str:
    completion = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": QUESTION}], temperature=0, max_tokens=16
    )
    return completion.choices[0].message.content or ""


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for a condition; errors of an API that does not serve yet count as not true."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
            reason = "not yet"
        except Exception as error:
            reason = repr(error)
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen within {seconds:.0f} s: {reason}")
        time.sleep(1)


@pytest.fixture(scope="session")
def engines(server: Host) -> None:
    """Besides the first engine one for embeddings, and one that is simulated.

    The simulated one is a deployment like the others but for what its unit starts.
    """
    program = "/opt/citadel/simulated_engine.py"
    source = (ROOT / "molecule/default/files/simulated_engine.py").read_text()
    start = f"/opt/citadel/app/current/bin/python {program} 8104"
    folder = f"/etc/systemd/system/citadel-engine@{SIMULATED}.service.d"
    server.check_output(
        "printf %s {} | base64 -d > {} && mkdir -p {} && printf %b {} > {}/simulated.conf".format(
            *(base64.b64encode(source.encode()).decode(), program, folder),
            *(shlex.quote(f"[Service]\\nExecStartPre=\\nExecStart=\\nExecStart={start}\\n"), folder),
        )
    )
    run = stages("config", "model", "engine", "gateway", **more_engines())
    assert run.rc == 0, run.output[-6000:]


def more_engines() -> dict[str, Any]:
    """Variables of a host with more engines than the scenario's own."""
    base = yaml.safe_load((INVENTORY / "group_vars/all.yml").read_text())
    (first,) = base["citadel_deployments"]
    embeddings = {
        "name": "minilm",
        "model": EMBEDDINGS,
        "task": "embed",
        "port": 8103,
        "accelerator": "cpu",
        "arguments": {
            "dtype": "float32",
            "enforce-eager": True,
            "kv-cache-memory-bytes": 16 * 2**20,
            "max-num-seqs": 8,
        },
        "environment": {"VLLM_CPU_OMP_THREADS_BIND": "1"},
    }
    simulated = {
        "name": SIMULATED,
        "model": MODEL,
        "served_name": SIMULATED,
        "port": 8104,
        "accelerator": "cpu",
    }
    return {
        "citadel_deployments": [first, embeddings, simulated],
        "model_artifacts": [
            {"name": name, "source": {"directory": str(CACHE / "models" / name)}}
            for name in (MODEL, EMBEDDINGS)
        ],
        "gateway_keys": [{"id": "default"}, {"id": "one-at-a-time", "limits": {"concurrent_requests": 1}}],
        "config_routing": {SIMULATED: {"queue": {"pause_s": 60}}},
    }
