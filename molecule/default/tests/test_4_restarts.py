"""The gateway is restarted, upgraded, reloaded and paused under load, and no request fails.

The bulk of the load goes to a simulated engine, because two cores would take an hour for so many answers.
Real engines are asked all the while. nginx repeats no request here: it has one gateway to send them to, and
does not send a POST twice.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import itertools
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import COLLECTIONS, MODEL, SIMULATED, answer, stages
from load import Load, Results
from openai import OpenAI
from testinfra.host import Host

pytestmark = pytest.mark.usefixtures("engines")

LEAST = 5_000
APPLICATION = "/opt/citadel/app/current"
UNIT = "citadel-gateway.service"
WHEEL = "citadel_llm-0.1.0-py3-none-any.whl"
TEMPLATE = "roles/gateway/templates/citadel-gateway.service.j2"


@pytest.fixture(scope="session")
def load(ca: Path, key: str) -> Load:
    return Load(ca, key)


@pytest.fixture(scope="module", autouse=True)
def release(server: Host) -> str:
    """The release of the application that is installed before the first test."""
    return link(server)


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[Results], None]:
    """Prints what clients saw, also of a test that passes."""
    terminal = request.config.pluginmanager.getplugin("terminalreporter")

    def write(results: Results) -> None:
        terminal.write_line(f"\n{request.node.name}: {results}")

    return write


def passed(results: Results, *, times: int) -> bool:
    assert results.failures == [], str(results)
    assert results.total >= LEAST
    assert results.times >= times
    assert results.counts["real"] > 0
    return True


def main_pid(server: Host) -> str:
    return str(server.check_output(f"systemctl show -p MainPID --value {UNIT}"))


def test_restarts(load: Load, server: Host, tell: Callable[[Results], None]) -> None:
    ways = itertools.cycle((f"systemctl restart {UNIT}", "runuser -u citadel -- citadel restart gateway"))
    before = main_pid(server)
    results = load.during(lambda: server.check_output(next(ways)) and None, least=LEAST, times=4)
    tell(results)
    assert passed(results, times=4)
    assert main_pid(server) != before


def test_reloads(load: Load, server: Host, tell: Callable[[Results], None]) -> None:
    """Each with another snapshot: a key comes, and goes."""
    verbs = itertools.cycle(("disable", "enable"))

    def reload() -> None:
        citadel = "runuser -u citadel -- citadel"
        server.check_output(
            f"{citadel} keys {next(verbs)} one-at-a-time && {citadel} routing apply"
            f" && systemctl reload {UNIT}"
        )

    pid, version = main_pid(server), server.check_output("citadel routing show")
    results = load.during(reload, least=LEAST, times=5)
    tell(results)
    assert passed(results, times=5)
    assert main_pid(server) == pid
    assert server.check_output("citadel routing show").split()[1] != version.split()[1]


def test_pauses(load: Load, server: Host, tell: Callable[[Results], None]) -> None:
    """The engine is restarted in each of them."""

    def swap() -> None:
        server.check_output(
            f"citadel routing pause {SIMULATED} --wait 30 && systemctl restart citadel-engine@{SIMULATED}"
            f" && citadel routing resume {SIMULATED}"
        )

    results = load.during(swap, least=LEAST, times=3)
    tell(results)
    assert passed(results, times=3)


def test_upgrade(
    load: Load, server: Host, release: str, tmp_path: Path, tell: Callable[[Results], None]
) -> None:
    """A newer collection brings another application and another unit."""
    newer = collection_with_another_application(tmp_path / "collections")

    def upgrade() -> None:
        run = stages("python_env", "gateway", collections=newer)
        assert run.rc == 0, run.output[-4000:]

    results = load.during(upgrade, least=LEAST, pause_s=0.25)  # the playbook needs the same two cores
    tell(results)
    assert passed(results, times=1)
    assert link(server) != release
    assert "CITADEL_NOTE=newer" in server.check_output(f"systemctl cat {UNIT}")


def test_crash(client: OpenAI, server: Host, tell: Callable[[Results], None]) -> None:
    """After a SIGKILL it serves again in under 2 s; what is sent meanwhile waits in systemd's socket."""
    seconds = []
    for _ in range(3):
        pid = main_pid(server)
        server.check_output(f"kill -9 {pid}")
        began = time.monotonic()
        client.models.list()
        seconds.append(time.monotonic() - began)
        assert main_pid(server) != pid
    tell(Results(longest_s=max(seconds), times=len(seconds), seconds=sum(seconds)))
    assert min(seconds) < 2


def test_what_left_the_inventory_is_ended(client: OpenAI, server: Host, release: str) -> None:
    """Back to the scenario's own application and engine, which are told to the gateway before any ends."""
    server.check_output(
        f"rm -r /etc/systemd/system/citadel-engine@{SIMULATED}.service.d/simulated.conf"
        " /opt/citadel/simulated_engine.py"
    )
    keys = [{"id": "default"}, {"id": "one-at-a-time", "state": "absent"}]
    run = stages("python_env", "config", "engine", "gateway", gateway_keys=keys)
    assert run.rc == 0, run.output[-6000:]
    assert link(server) == release
    assert "CITADEL_NOTE" not in server.check_output(f"systemctl cat {UNIT}")
    units = server.check_output("systemctl list-units --plain --no-legend 'citadel-engine@*'")
    assert [line.split()[0] for line in units.splitlines()] == ["citadel-engine@smollm2.service"]
    assert [model.id for model in client.models.list()] == [MODEL]
    assert "Paris" in answer(client)
    assert not server.file("/opt/citadel/secrets/keys/one-at-a-time.key").exists


def link(server: Host) -> str:
    return str(server.check_output(f"readlink {APPLICATION}"))


def collection_with_another_application(root: Path) -> Path:
    """A copy of the collection whose wheel and whose unit differ."""
    copy = root / "ansible_collections/citadel/llm"
    shutil.copytree(
        COLLECTIONS / "ansible_collections/citadel/llm",
        copy,
        ignore=shutil.ignore_patterns("tests", "__pycache__"),
    )
    template = copy / TEMPLATE
    text = template.read_text()
    template.write_text(text.replace("[Service]\n", "[Service]\nEnvironment=CITADEL_NOTE=newer\n"))
    assert template.read_text() != text
    wheel = copy / "roles/python_env/files/wheels" / WHEEL
    add_to_wheel(wheel, "citadel_llm/newer.py", b'"""Another release of the application."""\n')
    return root


def add_to_wheel(wheel: Path, name: str, content: bytes) -> None:
    """Put another module into a wheel, and into its record."""
    with zipfile.ZipFile(wheel) as old:
        files = {entry: old.read(entry) for entry in old.namelist()}
    record = next(entry for entry in files if entry.endswith(".dist-info/RECORD"))
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([name, f"sha256={digest}", len(content)])
    files[record] = line.getvalue().encode() + files[record]
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as new:
        for entry, data in {name: content, **files}.items():
            new.writestr(entry, data)
