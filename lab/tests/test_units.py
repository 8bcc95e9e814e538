"""The parts of the lab that need neither root nor a host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab import cgroups, cli, disks, network, preflight, records, sources, system
from lab.paths import State
from lab.records import HostRecord
from lab.sources import Source
from lab.system import LabError

DEB822 = """\
# main archive
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Enabled: yes
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Types: deb-src
URIs: http://mirror.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no
"""

V1 = "12:memory:/a/b\n5:cpu,cpuacct:/a\n1:name=systemd:/a\n0::/a/c\n"
MOUNTINFO = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 /a /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
"""


def test_deb822_gives_one_source_per_suite_and_leaves_out_what_is_off() -> None:
    found = sources.parse_deb822(DEB822)
    assert [(source.uri.rpartition("/")[2], source.suite) for source in found] == [
        ("debian", "bookworm"),
        ("debian", "bookworm-updates"),
        ("debian-security", "bookworm-security"),
    ]
    assert found[0].components == ("main", "contrib")
    assert "BEGIN PGP" in found[2].signed_by


def test_one_line_sources() -> None:
    text = (
        "# deb http://off.example x main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://m.example/d bookworm main  # here\n"
        "deb-src http://m.example/d bookworm main\n"
        "deb\thttp://m.example/s bookworm-security main contrib\n"
    )
    assert sources.parse_one_line(text) == [
        Source("http://m.example/d", "bookworm", ("main",), "/k.gpg"),
        Source("http://m.example/s", "bookworm-security", ("main", "contrib")),
    ]


def test_another_suite_comes_from_the_same_mirrors_without_other_vendors() -> None:
    found = [
        Source(
            "http://m.example/debian",
            "bookworm",
            ("main", "contrib"),
            "/usr/share/debian-archive-keyring.gpg",
        ),
        Source("http://m.example/security", "bookworm-security", ("main",)),
        Source("http://vendor.example/apt", "bookworm", ("main",), "/usr/share/keyrings/vendor.gpg"),
        Source("http://vendor.example/apt", "bookworm", ("stable",)),
        Source("http://pg.example/apt", "bookworm-pgdg", ("main",)),
    ]
    assert sources.lines_for("trixie", found, "debian", "bookworm") == [
        "deb http://m.example/debian trixie main",
        "deb http://m.example/security trixie-security main",
    ]


def test_ubuntu_needs_universe_and_cannot_give_debian() -> None:
    found = [Source("http://m.example/ubuntu", "noble", ("main", "restricted", "universe"))]
    assert sources.lines_for("noble", found, "ubuntu", "noble") == [
        "deb http://m.example/ubuntu noble main universe"
    ]
    with pytest.raises(LabError, match=r"'trixie'.*choose one of noble"):
        sources.lines_for("trixie", found, "ubuntu", "noble")


def test_no_archive_is_an_error_that_says_where_to_look() -> None:
    security = [Source("http://m.example/security", "bookworm-security", ("main",))]
    with pytest.raises(LabError, match=r"/etc/apt/sources\.list"):
        sources.lines_for("bookworm", security, "debian", "bookworm")
    with pytest.raises(LabError, match=r"'fedora'.*Debian or Ubuntu"):
        sources.suites_of("fedora")


def test_cgroup_v1_and_hybrid_directories() -> None:
    mounts = cgroups.parse_mounts(MOUNTINFO)
    located = [cgroups.locate(member, mounts) for member in cgroups.parse_memberships(V1)]
    assert located == [
        Path("/sys/fs/cgroup/memory/a/b"),
        Path("/sys/fs/cgroup/cpu,cpuacct/a"),
        Path("/sys/fs/cgroup/systemd"),  # the mount's root is /a already
        Path("/sys/fs/cgroup/unified/a/c"),
    ]
    assert not cgroups.is_pure_v2(cgroups.parse_memberships(V1))


def test_cgroup_v2_alone() -> None:
    members = cgroups.parse_memberships("0::/system.slice/x.scope\n")
    mounts = cgroups.parse_mounts("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n")
    assert cgroups.is_pure_v2(members)
    assert cgroups.locate(members[0], mounts) == Path("/sys/fs/cgroup/system.slice/x.scope")


def test_a_group_outside_the_mount_is_not_invented() -> None:
    mounts = cgroups.parse_mounts("30 23 0:26 /box /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    assert cgroups.locate(cgroups.Membership("", "/boxes/other"), mounts) is None
    assert cgroups.locate(cgroups.Membership("memory", "/box"), mounts) is None


def test_addresses_are_given_out_from_100_and_fixed_ones_checked() -> None:
    subnet = network.Subnet.parse("10.1.2.0/24")
    assert subnet.allocate({"10.1.2.10"}) == "10.1.2.100"
    assert subnet.allocate({"10.1.2.100", "10.1.2.101"}) == "10.1.2.102"
    assert subnet.check_static("10.1.2.10") == "10.1.2.10"
    for wrong in ("10.1.2.1", "10.1.2.255", "10.1.3.10", "host"):
        with pytest.raises(LabError, match=wrong):
            subnet.check_static(wrong)
    with pytest.raises(LabError, match="no address left"):
        subnet.allocate({f"10.1.2.{number}" for number in range(256)})


@pytest.mark.parametrize("text", ["10.1.2.0/16", "10.1.2.3/24", "fd00::/64", "x"])
def test_only_a_24_is_a_subnet(text: str) -> None:
    with pytest.raises(LabError, match="CITADEL_LAB_NET"):
        network.Subnet.parse(text)


def test_overlapping_routes_are_named_but_not_our_own() -> None:
    subnet = network.Subnet.parse("10.1.2.0/24")
    routes = [
        {"dst": "default", "dev": "eth0"},
        {"dst": "10.1.2.0/24", "dev": "lab-own"},
        {"dst": "10.1.0.0/16", "dev": "tun0"},
        {"dst": "10.1.2.7", "dev": "tun1"},
        {"dst": "10.1.3.0/24", "dev": "tun2"},
    ]
    assert network.conflicts(subnet, routes, "lab-own") == ["10.1.0.0/16 dev tun0", "10.1.2.7 dev tun1"]


def test_the_running_labs_subnet_wins_and_a_different_wish_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State(tmp_path)
    monkeypatch.delenv("CITADEL_LAB_NET", raising=False)
    state.network.write_text(json.dumps({"network": "10.1.2.0/24"}))
    assert str(network.configured_subnet(state).network) == "10.1.2.0/24"
    monkeypatch.setenv("CITADEL_LAB_NET", "10.1.9.0/24")
    with pytest.raises(LabError, match=r"10\.1\.9\.0.*10\.1\.2\.0"):
        network.configured_subnet(state)


def test_names_of_interfaces_fit(tmp_path: Path) -> None:
    state = State(tmp_path)
    assert len(state.bridge) <= 15
    assert len(state.veth("10.213.77.254")) <= 15
    assert State(tmp_path / "other").bridge != state.bridge


@pytest.mark.parametrize(
    ("text", "size"), [("512M", 512 << 20), ("2G", 2 << 30), ("1t", 1 << 40), ("4096", 4096)]
)
def test_sizes(text: str, size: int) -> None:
    assert system.size_in_bytes(text) == size


@pytest.mark.parametrize("text", ["", "G", "0G", "1.5G", "2X", "-1G"])
def test_wrong_sizes(text: str) -> None:
    with pytest.raises(LabError, match="size"):
        system.size_in_bytes(text)


@pytest.mark.parametrize("text", ["nvme0n1", "null=1G", "loop0=1G", "../x=1G", "SDA=1G", "sda="])
def test_wrong_disks(text: str) -> None:
    with pytest.raises(LabError):
        records.parse_disk(text)


@pytest.mark.parametrize("name", ["", "A", "1a", "a_b", "a-", "../a", "a" * 41, "a.b"])
def test_wrong_names(name: str) -> None:
    with pytest.raises(LabError, match="host name"):
        records.check_name(name)


def test_record_survives_the_disk(tmp_path: Path) -> None:
    state = State(tmp_path)
    paths = state.host("one")
    paths.directory.mkdir(parents=True)
    record = HostRecord("one", "10.1.2.100", "trixie", "/base", disks={"sda": 5}, completed=True)
    record.save(paths)
    assert records.load(paths) == record
    assert records.load_all(state) == [record]
    with pytest.raises(LabError, match=r"no host 'two'.*one"):
        records.require(state, "two")


def test_neighbours_replace_only_their_own_lines() -> None:
    one, two = (HostRecord(name, f"10.1.2.{n}", "trixie", "/") for n, name in enumerate(("one", "two"), 10))
    first = records.hosts_file("one", one.address, [one, two])
    assert "10.1.2.10 one\n" in first.split(records.BEGIN)[0]
    assert first.count("one") == 1
    edited = first + "192.0.2.1 kept\n"
    again = records.replace_block(edited, records.neighbours_block("one", [one]))
    assert "two" not in again
    assert again.endswith("192.0.2.1 kept\n")
    assert records.replace_block("127.0.0.1 localhost", "B\n") == "127.0.0.1 localhost\nB\n"


def test_a_resolver_on_loopback_is_of_no_use_to_a_host(tmp_path: Path) -> None:
    stub, real = tmp_path / "stub", tmp_path / "real"
    stub.write_text("nameserver 127.0.0.53\n")
    with pytest.raises(LabError, match="name server"):
        records.nameservers((stub, real))
    real.write_text("nameserver 192.0.2.53\n")
    assert records.nameservers((stub, real)) == "nameserver 192.0.2.53\n"


def test_file_system_type_is_that_of_the_innermost_mount() -> None:
    mountinfo = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:9 / /var/lib rw - overlay o rw\n"
    mountinfo += "3 1 0:8 / /var/libx rw - xfs x rw\n"
    assert preflight.filesystem_type(Path("/var/lib/citadel-lab"), mountinfo) == "overlay"
    assert preflight.filesystem_type(Path("/srv/lab"), mountinfo) == "ext4"


def test_packages_are_those_of_missing_commands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for command in set(preflight.COMMANDS) - {"nft", "ssh", "ssh-keygen"}:
        (tmp_path / command).touch(mode=0o755)
    assert cli.main(["packages"]) == 0
    assert capsys.readouterr().out.split() == ["nftables", "openssh-client"]


def test_a_machine_without_root_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert cli.main(["down", "one"]) == 1
    assert "needs root, not uid 1000" in capsys.readouterr().err


def test_udev_rules_name_own_disks_and_ignore_others() -> None:
    rules = disks.udev_rules("ab12")
    assert '!="*/disk-ab12-*"' in rules["00-lab-foreign.rules"]
    assert '=="*/disk-ab12-*"' in rules["99-lab.rules"]


def test_a_stamp_names_one_process_only(tmp_path: Path) -> None:
    stamp = tmp_path / "stamp"
    assert system.live_pid(stamp) is None
    stamp.write_text(system.process_stamp(1) + "\n")
    assert system.live_pid(stamp) == 1
    stamp.write_text("1 999999999\n")
    assert system.live_pid(stamp) is None
