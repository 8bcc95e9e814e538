"""A host that is taken out of the groups keeps nothing of monitoring, and is no target any more."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml
from conftest import CENTRAL, SCENARIO, WATCHED, ask, playbook, until
from testinfra.host import Host

UNITS = ("citadel-exporter", "citadel-nvitop", "prometheus-node-exporter", "citadel-listener@metrics")


def test_a_host_that_is_taken_out_keeps_nothing(watched: Host, central: Host, tmp_path: Path) -> None:
    groups = yaml.safe_load((SCENARIO / "inventory/hosts.yml").read_text())["all"]["children"]
    hosts = {**groups["gateways"]["hosts"], **groups["monitoring"]["hosts"]}
    shutil.copytree(SCENARIO / "inventory/group_vars", tmp_path / "group_vars")
    left = {"all": {"hosts": hosts, "children": {"monitoring": {"hosts": {CENTRAL: None}}}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(left))
    run = playbook("monitoring logs", inventory=tmp_path)
    assert run.rc == 0, run.output[-3000:]
    shipping = ("systemd-journal-upload", "citadel-logrotate.timer")
    for unit in (*UNITS, *shipping):
        assert watched.run(f"systemctl is-active {unit}").stdout.strip() == "inactive", unit
        assert watched.run(f"systemctl is-enabled {unit}").stdout.strip() != "enabled", unit
    marked = "grep -rlE '^# Installed by Citadel .role (monitoring|logs)' /etc/systemd /opt/citadel/config"
    assert watched.run(marked).stdout == ""
    assert not watched.file("/opt/citadel/secrets/receivers").exists
    assert watched.run("systemctl is-active citadel-gateway citadel-engine@stand-in").rc == 0

    def targets() -> set[str]:
        return {target["labels"]["instance"] for target in ask(central, "targets")["activeTargets"]}

    until(lambda: WATCHED not in targets(), 30, "it is no target", targets)
    again = playbook("monitoring logs", inventory=tmp_path)
    assert (again.rc, again.changed) == (0, 0), again.output[-3000:]
