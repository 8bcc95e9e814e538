"""Changes that are interrupted, fail or make no sense leave the running service as it was."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CACHE, MODEL, ROOT, answer, playbook, playbook_argv
from openai import OpenAI
from testinfra.host import Host

STACKS = ROOT / "collections/ansible_collections/citadel/llm/roles/python_env/files/stacks"
PYTHON_ENV = "collections/ansible_collections/citadel/llm/playbooks/python_env.yml"
ENGINE = "collections/ansible_collections/citadel/llm/playbooks/engine.yml"
MODEL_STAGE = "collections/ansible_collections/citadel/llm/playbooks/model.yml"
# A lock that builds in seconds and has no engine in it.
SMALL_LOCK = STACKS / "app/requirements.txt"


def link(server: Host, path: str) -> str:
    return str(server.check_output(f"readlink {path}"))


def variables(**values: object) -> tuple[str, str]:
    return "--extra-vars", json.dumps(values)


def interrupt(book: str, *arguments: str, when: str, server: Host) -> None:
    """Run a playbook; kill it and what it started on both machines as soon as `when` holds on the host."""
    process = subprocess.Popen(
        playbook_argv(*arguments, book=book),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    # The host itself waits and kills: a look at it from here takes longer than some of what is interrupted.
    # A module that came through the pipe has no name of its own there: it is just python3.
    kill = "pkill -9 -x python3; pkill -9 -f '/uv-[0-9a-f]+/bin/uv'"
    seen = server.run(
        f"timeout 180 sh -c 'until {when}; do sleep 0.02; done' >/dev/null 2>&1 && {{ {kill}; true; }}"
    )
    ended = process.poll()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    server.run(kill)
    assert seen.rc == 0, f"{when} did not come true"
    assert ended != 0, "the playbook ended before it could be interrupted"


@pytest.fixture
def elsewhere(server: Host) -> Iterator[dict[str, object]]:
    """Another place for environments and models, so that the running ones are not in the way."""
    yield {
        "citadel_env_releases": "/opt/citadel/elsewhere/envs",
        "citadel_env_link": "/opt/citadel/elsewhere/env",
        "citadel_model_store": "/opt/citadel/elsewhere/models",
    }
    server.run("rm -rf /opt/citadel/elsewhere")


def test_interrupted_build_is_simply_run_again(server: Host, elsewhere: dict[str, object]) -> None:
    extra = variables(**elsewhere, python_env_lock=str(SMALL_LOCK), python_env_trial_imports=["aiohttp"])
    interrupt(PYTHON_ENV, *extra, when="ls /opt/citadel/elsewhere/envs/*/bin/python3", server=server)
    assert not server.file("/opt/citadel/elsewhere/env").exists
    again = playbook(*extra, book=PYTHON_ENV)
    assert again.rc == 0, again.output[-3000:]
    assert server.run("/opt/citadel/elsewhere/env/bin/python -c 'import aiohttp'").rc == 0


def test_interrupted_model_copy_is_simply_run_again(server: Host, elsewhere: dict[str, object]) -> None:
    server.check_output("install -d -o citadel -g citadel /opt/citadel/elsewhere/models")
    extra = variables(**elsewhere)
    interrupt(
        MODEL_STAGE, *extra, when="find /opt/citadel/elsewhere/models -size +1M | grep .", server=server
    )
    assert not server.file(f"/opt/citadel/elsewhere/models/{MODEL}/current").exists
    again = playbook(*extra, book=MODEL_STAGE)
    assert again.rc == 0, again.output[-3000:]
    assert link(server, f"/opt/citadel/elsewhere/models/{MODEL}/current") == link(
        server, f"/mnt/nvme0n1/models/{MODEL}/current"
    )


def test_lock_that_fails_its_trial_changes_nothing(server: Host, client: OpenAI) -> None:
    before = link(server, "/opt/citadel/env")
    run = playbook(*variables(python_env_lock=str(SMALL_LOCK)), book=PYTHON_ENV)
    assert run.rc != 0
    assert "torch" in run.output
    assert link(server, "/opt/citadel/env") == before
    assert "Paris" in answer(client)


def test_lock_that_fails_the_health_gate_is_rolled_back(server: Host, client: OpenAI) -> None:
    before = link(server, "/opt/citadel/env")
    passed = playbook(
        *variables(python_env_lock=str(SMALL_LOCK), python_env_trial_imports=["aiohttp"]), book=PYTHON_ENV
    )
    assert passed.rc == 0, passed.output[-3000:]
    assert link(server, "/opt/citadel/env") != before
    gate = playbook(book=ENGINE)
    assert gate.rc != 0
    assert "citadel-engine@smollm2.service" in gate.output
    assert "rolled_back" in gate.output
    assert link(server, "/opt/citadel/env") == before
    assert "Paris" in answer(client)
    restored = playbook(book=PYTHON_ENV)
    assert restored.rc == 0, restored.output[-3000:]


def test_engine_that_left_the_inventory_is_ended(server: Host, client: OpenAI) -> None:
    """What an earlier run left of an engine goes, after the gateway was told; others' files stay."""
    unit, marker = "citadel-engine@left.service", "# Installed by Citadel (role engine)"
    idle = "[Service]\\nExecStartPre=\\nExecStart=\\nExecStart=/bin/sleep infinity\\nExecStartPost="
    folder, engines = f"/etc/systemd/system/{unit}.d", "/opt/citadel/config/engines"
    server.check_output(
        f"mkdir {folder} && printf '{marker}\\n{idle}\\n' > {folder}/accelerator.conf"
        f" && echo '{marker}' > {engines}/left.yaml && echo '{marker}' > {engines}/left.env"
        f" && echo A=1 > {engines}/other.env"
        f" && systemctl daemon-reload && systemctl enable --now {unit}"
    )
    predicted = playbook("--check", "--diff", book=ENGINE)
    assert (predicted.rc, predicted.changed) == (0, 1), predicted.output[-3000:]
    assert f"{unit}: stopped, is no longer wanted" in predicted.output
    assert server.service(unit).is_running
    ended = playbook(book=ENGINE)
    assert (ended.rc, ended.changed) == (0, 1), ended.output[-3000:]
    assert not server.service(unit).is_running
    assert not server.service(unit).is_enabled
    left = server.check_output(f"ls -d /etc/systemd/system/citadel-engine@* {engines}/*").split()
    assert not [path for path in left if "left" in path]
    assert f"{engines}/other.env" in left
    server.check_output(f"rm {engines}/other.env")
    assert "Paris" in answer(client)


def test_model_with_a_flipped_byte_is_refused(server: Host, tmp_path: Path) -> None:
    before = link(server, f"/mnt/nvme0n1/models/{MODEL}/current")
    damaged = tmp_path / "model"
    shutil.copytree(CACHE / "models" / MODEL, damaged)
    weights = damaged / "model.safetensors"
    with weights.open("r+b") as stream:
        stream.seek(weights.stat().st_size // 2)
        byte = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte[0] ^ 1]))
    run = playbook(
        *variables(model_artifacts=[{"name": MODEL, "source": {"directory": str(damaged)}}]), book=MODEL_STAGE
    )
    assert run.rc != 0
    assert "model.safetensors" in run.output
    assert link(server, f"/mnt/nvme0n1/models/{MODEL}/current") == before


WRONG = {
    "citadel_gateway_port": 70000,
    "citadel_edge_port": 8080,
    "python_env_stack": "rocm",
    "citadel_home": "opt/citadel",
    "account_sudo": "some",
    "edge_certificate": "/nowhere/server.crt",
    "gateway_keys": [{"note": "no id"}],
    "citadel_deployments": [{"name": "smollm2", "model": MODEL}],
    "model_artifacts": [{"name": MODEL}],
    "layout_mounts": [{"path": "mnt/x", "device": "/dev/sda"}],
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_variable_fails_before_anything_is_changed(name: str) -> None:
    run = playbook(*variables(**{name: WRONG[name]}))
    assert run.rc != 0
    assert name in run.output or name.partition("[")[0] in run.output
    assert run.changed == 0
    assert "citadel.llm.account : Create" not in run.output


def test_nothing_is_left_to_change() -> None:
    """After a reboot and all these tests, with the newest ansible-core where a Python for it is at hand."""
    python = next((found for version in ("3.13", "3.12") if (found := usable_python(version))), None)
    run = playbook(executable=newest_ansible(python) if python else None)
    assert (run.rc, run.changed) == (0, 0), run.output[-4000:]


def newest_ansible(python: str) -> str:
    """The lock of the development tools in an environment of that Python; returns its ansible-playbook."""
    environment = CACHE / "venvs" / "ansible-core-newest"
    subprocess.run(["uv", "venv", "--quiet", "--clear", "--python", python, str(environment)], check=True)
    install = ["uv", "pip", "install", "--quiet", "--python", str(environment / "bin/python")]
    subprocess.run([*install, "--require-hashes", "-r", "requirements/dev.lock"], cwd=ROOT, check=True)
    executable = str(environment / "bin/ansible-playbook")
    version = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True).stdout
    assert "core 2.21" in version
    return executable


def usable_python(version: str) -> str | None:
    """An interpreter of this version that runs: on the PATH, or among pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [
        shutil.which(f"python{version}"),
        *sorted(pyenv.glob(f"versions/{version}*/bin/python{version}")),
    ]
    for candidate in candidates:
        if (
            candidate
            and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0
        ):
            return str(candidate)
    return None
