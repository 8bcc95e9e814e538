"""The collection's tarball alone provisions a host, here Debian 13 without an engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.paths import State

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[1]
STATE = State.from_environment()
HOST, ADDRESS = "citadel-tarball", "10.213.77.22"
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("build")
    collection = ROOT / "collections/ansible_collections/citadel/llm"
    subprocess.run(
        [BIN / "ansible-galaxy", "collection", "build", "--output-path", target, collection], check=True
    )
    return next(target.glob("citadel-llm-*.tar.gz"))


@pytest.fixture(scope="module")
def trixie() -> Iterator[str]:
    lab = [sys.executable, "-m", "lab"]
    subprocess.run([*lab, "up", HOST, "--ip", ADDRESS, "--suite", "trixie"], cwd=ROOT, check=True)
    yield HOST
    subprocess.run([*lab, "down", HOST], cwd=ROOT, check=True)


def test_tarball_is_small_and_carries_the_application(tarball: Path) -> None:
    assert tarball.stat().st_size < 20e6
    with tarfile.open(tarball) as archive:
        names = archive.getnames()
    assert any("citadel_llm-" in name and name.endswith(".whl") for name in names)
    assert not any(name.startswith("tests/") for name in names)


def test_tarball_provisions_a_host_without_the_repository(tarball: Path, trixie: str, tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections"),
        "ANSIBLE_INJECT_FACT_VARS": "false",
        "ANSIBLE_SSH_COMMON_ARGS": f"-o UserKnownHostsFile={STATE.known_hosts} -o IdentitiesOnly=yes",
        "ANSIBLE_PRIVATE_KEY_FILE": str(STATE.key),
        "ANSIBLE_REMOTE_USER": "root",
        "ANSIBLE_PIPELINING": "true",
    }

    def run(*argv: str | Path) -> str:
        done = subprocess.run(
            argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        return done.stdout

    run(BIN / "ansible-galaxy", "collection", "install", "--offline", "-p", "collections", tarball)
    inventory = f"{ADDRESS},"
    extra = ["--extra-vars", json.dumps({"python_env_stack": "none"})]
    run(BIN / "ansible-playbook", "-i", inventory, *extra, "citadel.llm.site")
    again = run(BIN / "ansible-playbook", "-i", inventory, *extra, "citadel.llm.site")
    assert "changed=0" in again.rpartition("PLAY RECAP")[2], again[-4000:]
    shutil.rmtree(tmp_path / "collections")
