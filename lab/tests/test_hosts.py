"""Real hosts: they boot, keep their disks over a reboot, see each other, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lab.system import live_pid
from lab.tests.driver import Lab, settings

pytestmark = pytest.mark.lab


def _suites() -> list[str]:
    text = Path("/etc/os-release").read_text()
    return ["noble"] if "ID=ubuntu" in text else ["bookworm", "trixie"]


def _ready(lab: Lab, name: str, *arguments: str) -> None:
    assert ": running, " in lab("up", name, *arguments)


@pytest.mark.parametrize("suite", _suites())
def test_a_host_boots_and_its_disks_survive_a_reboot(lab: Lab, suite: str) -> None:
    name = f"boot-{suite}"
    _ready(lab, name, "--suite", suite, "--disk", "nvme0n1=300M", "--disk", "sda=400M")
    assert f"VERSION_CODENAME={suite}" in lab.sh(name, "cat /etc/os-release")
    assert lab.sh(name, "cat /root/marker 2>/dev/null || echo none") == "none"
    lab.sh(
        name,
        "set -e; touch /root/marker; mkfs.ext4 -q /dev/nvme0n1; mkfs.xfs -q /dev/sda; "
        "mkdir /mnt/a /mnt/b; "
        "echo UUID=$(blkid -s UUID -o value /dev/nvme0n1) /mnt/a ext4 defaults 0 2 >> /etc/fstab; "
        "echo /dev/sda /mnt/b xfs defaults 0 2 >> /etc/fstab; "
        "systemctl daemon-reload; mount -a; echo kept > /mnt/a/file; echo kept > /mnt/b/file",
    )
    hardware = lab.sh(name, "cat /sys/class/net/eth0/address")
    before = lab.sh(name, "cat /proc/sys/kernel/random/boot_id")
    assert "running" in lab("reboot", name)
    assert lab.sh(name, "cat /sys/class/net/eth0/address") == hardware
    assert lab.sh(name, "cat /proc/sys/kernel/random/boot_id") != before
    assert lab.sh(name, "cat /mnt/a/file /mnt/b/file; ls /root/marker").split() == [
        "kept",
        "kept",
        "/root/marker",
    ]
    assert lab.sh(name, "systemctl is-active mnt-a.mount mnt-b.mount").split() == ["active", "active"]
    assert lab("ssh", name, "--", "hostname") == name


def test_a_second_up_changes_nothing_and_other_parameters_are_refused(lab: Lab) -> None:
    name = f"boot-{_suites()[0]}"
    pid = lab.sh(name, "systemctl show --value -p UserspaceTimestampMonotonic")
    assert "no change" in lab("up", name, "--disk", "nvme0n1=300M")
    assert lab.sh(name, "systemctl show --value -p UserspaceTimestampMonotonic") == pid
    code, _, err = lab.result("up", name, "--disk", "nvme0n1=301M")
    assert code == 1
    assert "disk nvme0n1" in err
    code, _, err = lab.result("up", name, "--ip", lab.network.replace(".0/24", ".11"))
    assert code == 1
    assert f"lab down {name}" in err


def test_units_have_what_services_need(lab: Lab) -> None:
    name = f"boot-{_suites()[0]}"
    unit = "systemd-run --quiet --wait --pipe"
    lab.sh(
        name,
        f"set -e; echo word > /root/word; {unit} -p ProtectSystem=strict -p ProtectHome=yes "
        "-p PrivateTmp=yes -p PrivateUsers=yes "
        "-p PrivateDevices=yes -p ProtectKernelTunables=yes -p ProtectControlGroups=yes "
        "-p ProtectProc=invisible "
        "-p SystemCallFilter=@system-service sh -c '! touch /usr/x 2>/dev/null'; "
        f"{unit} -p DynamicUser=yes -p RuntimeDirectory=demo -p LoadCredential=word:/root/word "
        "sh -c 'grep -q word $CREDENTIALS_DIRECTORY/word && touch /run/demo/x'; "
        f"{unit} -p Type=notify -p NotifyAccess=all sh -c 'systemd-notify --ready'; "
        "logger from-the-test; journalctl --sync; journalctl --boot --no-pager | grep -q from-the-test",
    )
    limit = lab.sh(
        name,
        f"{unit} -p MemoryMax=50M sh -c 'cat $(find /sys/fs/cgroup -path \"*$(basename $(grep -m1 -E "
        '"memory|^0::" /proc/self/cgroup | cut -d: -f3))*" '
        "\\( -name memory.max -o -name memory.limit_in_bytes \\) | head -1)'",
    )
    assert limit == str(50 << 20)
    assert lab.sh(name, "systemctl --failed --no-legend") == ""


def test_the_machine_is_out_of_reach_from_inside(lab: Lab) -> None:
    name = f"boot-{_suites()[0]}"
    for attempt in (
        "date -s 2020-01-01",
        "echo 1 > /proc/sys/vm/drop_caches",
        "echo x > /sys/kernel/mm/ksm/run",
    ):
        code, _, _ = lab.result("exec", name, "sh", "-c", attempt)
        assert code != 0, attempt
    other = lab.sh(f"boot-{_suites()[-1]}", "ls /dev/disk/by-uuid").split()
    own = lab.sh(name, "ls /dev/disk/by-uuid").split()
    assert len(own) == 2
    assert own == other or not set(own) & set(other)


def test_two_hosts_reach_each_other_by_name(lab: Lab) -> None:
    one, two = f"boot-{_suites()[0]}", f"boot-{_suites()[-1]}"
    if one == two:
        two = "boot-second"
        _ready(lab, two)
    for here, there in ((one, two), (two, one)):
        lab.sh(here, f"ping -c 1 -W 2 {there}")
    addresses = {row["name"]: row["address"] for row in json.loads(lab("list", "--json"))}
    assert addresses[one] != addresses[two]


def test_a_disk_comes_and_goes_while_the_host_runs(lab: Lab) -> None:
    name = f"boot-{_suites()[0]}"
    lab("disk", name, "vdb", "100M")
    assert lab.sh(name, "blockdev --getsize64 /dev/vdb") == str(100 << 20)
    assert "no change" in lab("disk", name, "vdb", "100M")
    code, _, err = lab.result("undisk", name, "nvme0n1")
    assert code == 1
    assert "mounted" in err
    lab("undisk", name, "vdb")
    assert lab.sh(name, "ls /dev/vdb 2>/dev/null || echo gone") == "gone"


def test_a_killed_supervisor_takes_the_host_with_it_and_up_brings_it_back(lab: Lab) -> None:
    name = f"boot-{_suites()[-1]}"
    paths = lab.state.host(name)
    runner, pid = live_pid(paths.runner), live_pid(paths.pid)
    assert runner is not None
    assert pid is not None
    os.kill(runner, signal.SIGKILL)
    for _ in range(100):
        if live_pid(paths.pid) is None:
            break
        time.sleep(0.05)
    rows = {row["name"]: row["state"] for row in json.loads(lab("list", "--json"))}
    assert rows[name] == "stopped"
    _ready(lab, name)
    assert lab.sh(name, "cat /mnt/b/file") == "kept"


@pytest.mark.parametrize("delay", [0.15, 0.4, 0.8])
def test_an_up_that_is_killed_is_simply_run_again(lab: Lab, delay: float) -> None:
    process = lab.start("up", "aborted", "--disk", "sdb=50M")
    time.sleep(delay)
    process.kill()
    process.communicate()
    _ready(lab, "aborted", "--disk", "sdb=50M")
    assert lab.sh("aborted", "ls /dev/sdb") == "/dev/sdb"
    lab("down", "aborted")
    assert not lab.state.host("aborted").directory.exists()


def test_hosts_made_at_once_get_different_addresses(lab: Lab) -> None:
    started = [lab.start("up", f"many-{number}") for number in range(3)]
    outputs = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], outputs
    rows = json.loads(lab("list", "--json"))
    assert len({row["address"] for row in rows}) == len(rows)


def test_down_after_a_killed_supervisor_and_clean_leave_nothing(lab: Lab) -> None:
    held = lab.traces()
    for what in (
        "processes",
        "mounts",
        "loop devices",
        "interfaces",
        "firewall",
        "cgroups",
        "settings",
        "hosts",
    ):
        assert held[what], f"the test does not see the lab's {what}"
    runner = live_pid(lab.state.host("many-1").runner)
    assert runner is not None
    os.kill(runner, signal.SIGKILL)
    lab("down", "many-1")
    lab("clean")
    assert {what: found for what, found in lab.traces().items() if found} == {}
    if lab.settings is not None and (now := settings()) is not None:
        assert now == lab.settings
    lab("clean")


def test_unknown_hosts_and_addresses_in_use_are_explained(lab: Lab) -> None:
    code, _, err = lab.result("exec", "nobody", "true")
    assert code == 1
    assert "no host 'nobody'" in err
    address = lab.network.replace(".0/24", ".12")
    _ready(lab, "first", "--ip", address)
    code, _, err = lab.result("up", "second", "--ip", address)
    assert code == 1
    assert "first" in err
    assert lab("down", "second", "first").splitlines()[1] == "first: taken down"
    assert subprocess.run(
        ["ip", "link", "show", lab.state.bridge], capture_output=True, check=False
    ).returncode
