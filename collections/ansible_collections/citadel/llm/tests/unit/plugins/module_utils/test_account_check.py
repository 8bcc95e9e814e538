# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An account held against what is expected of it."""

from __future__ import annotations

import base64
import os
import pathlib
import pwd
import struct
import subprocess
from typing import Any, Dict, List, Optional

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _account_check as account_check
from ansible_collections.citadel.llm.plugins.module_utils import _account_check_keys as keys
from ansible_collections.citadel.llm.plugins.module_utils import _account_check_sight as sight
from ansible_collections.citadel.llm.plugins.module_utils._findings import Finding

ME = pwd.getpwuid(os.geteuid())


def field(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def public_key(kind: str, bits: int = 4096) -> str:
    """A line in the form of a public key, made from no private one."""
    body = field(kind.encode())
    if kind == "ssh-rsa":
        body += field(b"\x01\x00\x01") + field(b"\0" + (1 << bits - 1 | 1).to_bytes(bits // 8, "big"))
    else:
        body += field(bytes(32))
    return "%s %s someone" % (kind, base64.b64encode(body).decode())


class Home:
    """A tree with one account, which belongs to the user of the test."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.home = root / "home/citadel"
        self.home.mkdir(parents=True)
        (root / "etc").mkdir()
        self.passwd("citadel:x:%d:1001:Citadel:/home/citadel:/bin/bash" % os.geteuid())
        (root / "etc/group").write_text("citadel:x:1001:\nvideo:x:44:citadel,other\nrender:x:105:citadel\n")

    def passwd(self, *lines: str) -> None:
        (self.root / "etc/passwd").write_text("\n".join(("root:x:0:0:root:/root:/bin/bash", *lines)) + "\n")

    def ssh(self, *lines: str, directory: int = 0o700, file: int = 0o600) -> None:
        folder = self.home / ".ssh"
        folder.mkdir()
        (folder / "authorized_keys").write_text("\n".join(lines) + "\n")
        (folder / "authorized_keys").chmod(file)
        folder.chmod(directory)

    def check(self, **wanted: Any) -> List[Finding]:
        wanted.setdefault("user", "citadel")
        return account_check.check(wanted, str(self.root), 5.0)[0]


@pytest.fixture
def home(tmp_path: pathlib.Path) -> Home:
    return Home(tmp_path)


def bad(findings: List[Finding]) -> Dict[str, str]:
    return {finding.id: finding.severity for finding in findings if finding.severity != "ok"}


def test_an_account_as_expected(home: Home) -> None:
    home.ssh("# people", public_key("ssh-ed25519"), public_key("ssh-rsa", 3072))
    (home.root / "etc/shadow").write_text("citadel:!*:20000::::::\n")
    findings = home.check(
        uid=os.geteuid(),
        gid=1001,
        group="citadel",
        groups=["video", "render"],
        home="/home/citadel",
        shell="/bin/bash",
        password_locked=True,
        ssh=True,
        ssh_keys=2,
    )
    assert bad(findings) == {}
    assert [finding.id for finding in findings].count("account.ssh_keys") == 1


@pytest.mark.parametrize("before, severity", [(False, "blocking"), (True, "deviation")])
def test_an_account_that_is_not_there(home: Home, before: bool, severity: str) -> None:
    wanted = {"user": "absent", "uid": 4001, "gid": 4001, "before_provisioning": before}
    assert bad(home.check(**wanted)) == {"account.exists": severity}


def test_numbers_that_others_have_block_an_account_that_is_not_there(home: Home) -> None:
    home.passwd("ubuntu:x:1001:1001::/home/ubuntu:/bin/bash")
    findings = home.check(user="llm", uid=1001, gid=1001, group="llm", before_provisioning=True)
    assert bad(findings) == {
        "account.exists": "deviation",
        "account.uid": "blocking",
        "account.gid": "blocking",
    }
    assert "1001 belongs to ubuntu" in str(findings)
    assert "account.gid" not in bad(home.check(user="citadel", gid=1001, before_provisioning=True))


@pytest.mark.parametrize(
    "wanted, id_, severity",
    [
        ({"uid": 4711}, "account.uid", "blocking"),
        ({"gid": 4711}, "account.gid", "blocking"),
        ({"group": "llm"}, "account.group", "deviation"),
        ({"groups": ["video", "docker"]}, "account.groups", "deviation"),
        ({"home": "/srv/citadel"}, "account.home", "deviation"),
        ({"shell": "/usr/sbin/nologin"}, "account.shell", "deviation"),
    ],
)
def test_entries_that_differ(home: Home, wanted: Dict[str, Any], id_: str, severity: str) -> None:
    assert bad(home.check(**wanted)) == {id_: severity}


@pytest.mark.parametrize(
    "shadow, locked, severity, unknown",
    [
        ("citadel:!:1::::::", True, "ok", False),
        ("citadel:*:1::::::", True, "ok", False),
        ("citadel:$y$hash:1::::::", True, "deviation", False),
        ("citadel:!$y$hash:1::::::", False, "deviation", False),
        ("citadel:$y$hash:1::::::", False, "ok", False),
        ("other:!:1::::::", True, "deviation", True),
        (None, True, "deviation", True),
    ],
)
def test_password(home: Home, shadow: Optional[str], locked: bool, severity: str, unknown: bool) -> None:
    if shadow is not None:
        (home.root / "etc/shadow").write_text(shadow + "\n")
    found = [one for one in home.check(password_locked=locked) if one.id == "account.password"]
    assert [(one.severity, one.unknown) for one in found] == [(severity, unknown)]
    assert "hash" not in str(found)


@pytest.mark.parametrize(
    "directory, file, expected",
    [
        (0o755, 0o600, {"account.ssh_directory": "deviation"}),
        (0o700, 0o644, {"account.ssh_file": "deviation"}),
        (0o775, 0o600, {"account.ssh_directory": "blocking"}),
        (0o700, 0o666, {"account.ssh_file": "blocking"}),
    ],
)
def test_modes_of_ssh_files(home: Home, directory: int, file: int, expected: Dict[str, str]) -> None:
    home.ssh(public_key("ssh-ed25519"), directory=directory, file=file)
    assert bad(home.check(ssh=True)) == expected


def test_a_home_that_others_can_write_to(home: Home) -> None:
    home.ssh(public_key("ssh-ed25519"))
    home.home.chmod(0o777)
    assert bad(home.check(ssh=True)) == {"account.ssh_home": "blocking"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_keys_that_belong_to_somebody_else(home: Home) -> None:
    home.ssh(public_key("ssh-ed25519"))
    os.chown(home.home / ".ssh/authorized_keys", 65534, -1)
    assert bad(home.check(ssh=True)) == {"account.ssh_file": "blocking"}


def test_no_ssh_files(home: Home) -> None:
    assert bad(home.check(ssh=True)) == {}
    assert bad(home.check(ssh=True, ssh_keys=0)) == {}
    assert bad(home.check(ssh=True, ssh_keys=1)) == {"account.ssh_directory": "deviation"}


def test_number_of_keys_and_weak_ones(home: Home) -> None:
    home.ssh(
        public_key("ssh-rsa", 2048), public_key("ssh-dss"), public_key("ssh-ed25519"), "ssh-rsa AAAA cut"
    )
    findings = home.check(ssh=True, ssh_keys=2)
    assert bad(findings) == {"account.ssh_keys": "deviation", "account.ssh_weak_keys": "deviation"}
    weak = next(one for one in findings if one.id == "account.ssh_weak_keys")
    assert "line 1: an RSA key of 2048 bits" in weak.found and "line 2: DSA" in weak.found
    assert "line 4: the line holds no public key" in weak.found and "line 3" not in weak.found


def test_ssh_files_that_may_not_be_read(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_home: str) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sight, "_read_ssh", refuse)
    findings = [one for one in home.check(ssh=True) if one.severity != "ok"]
    assert [(one.id, one.unknown) for one in findings] == [("account.ssh", True)]


def test_lines_of_keys() -> None:
    lines = [
        'command="echo \\"ssh-rsa AAAA\\"",no-pty ' + public_key("ssh-ed25519"),
        "",
        "  # comment",
        public_key("ecdsa-sha2-nistp256"),
        public_key("sk-ssh-ed25519@openssh.com"),
        "ssh-ed25519 " + public_key("ssh-rsa").split()[1],
        "rubbish",
    ]
    found = keys.parse_keys("\n".join(lines))
    kinds = [key["type"] for key in found]
    assert kinds == ["ssh-ed25519", "ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com", None, None]
    assert [key["line"] for key in found] == [1, 4, 5, 6, 7]
    assert all(key["fingerprint"].startswith("SHA256:") for key in found[:3])


def test_the_fingerprint_is_that_of_ssh_keygen(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "key"
    try:
        subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "3072", "-N", "", "-f", str(path)], check=True)
    except FileNotFoundError:
        pytest.skip("no ssh-keygen here")
    text = (tmp_path / "key.pub").read_text()
    told = subprocess.run(["ssh-keygen", "-lf", str(path)], check=True, capture_output=True, text=True).stdout
    key = keys.parse_keys(text)[0]
    assert told.split()[1] == key["fingerprint"] and told.split()[0] == str(key["bits"]) == "3072"
    assert key["weakness"] is None


SUDO_LIST = """Matching Defaults entries for citadel on host:
    env_reset, mail_badpass, secure_path=/usr/bin

User citadel may run the following commands on host:
"""


@pytest.mark.parametrize(
    "output, errors, mode",
    [
        ("User citadel is not allowed to run sudo on host.\n", "", "none"),
        ("", "User citadel is not allowed to run sudo on host.\n", "none"),
        (SUDO_LIST + "    (ALL : ALL) NOPASSWD: ALL\n", "", "full"),
        (SUDO_LIST + "    (root) ALL\n", "", "full"),
        (SUDO_LIST + "    (postgres) NOPASSWD: ALL\n", "", "scoped"),
        (
            SUDO_LIST + "    (root) NOPASSWD: /usr/bin/systemctl restart citadel-*, /usr/bin/journalctl\n",
            "",
            "scoped",
        ),
        (SUDO_LIST + "    (root) /usr/bin/id\n    (ALL) NOPASSWD: SETENV: ALL\n", "", "full"),
        (SUDO_LIST + "    (root) !ALL\n", "", "scoped"),
        ("", "sudo: a password is required\n", None),
        ("", "", None),
    ],
)
def test_what_sudo_says(output: str, errors: str, mode: Optional[str]) -> None:
    found = sight.parse_sudo(output, errors)
    assert found["mode"] == mode
    assert (mode is None) is bool(found["reason"])


@pytest.mark.parametrize(
    "want, found, severity",
    [
        ("none", "none", "ok"),
        ("scoped", "scoped", "ok"),
        ("full", "full", "ok"),
        ("scoped", "full", "blocking"),
        ("none", "scoped", "blocking"),
        ("full", "scoped", "blocking"),
        ("full", "none", "blocking"),
        ("none", None, "deviation"),
    ],
)
def test_rights_by_sudo(
    home: Home, monkeypatch: pytest.MonkeyPatch, want: str, found: Optional[str], severity: str
) -> None:
    rights = {"mode": found, "rules": ["(ALL) ALL"], "reason": "" if found else "only root can ask"}
    monkeypatch.setattr(sight, "sudo_rights", lambda _user, _timeout: rights)
    finding = next(one for one in home.check(sudo=want) if one.id == "account.sudo")
    assert finding.severity == severity and finding.unknown is (found is None)


def test_sudo_is_asked_in_a_neutral_language_and_never_for_a_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: Dict[str, Any] = {}

    def run(argv: List[str], **options: Any) -> Any:
        asked.update(options, argv=argv)
        return subprocess.CompletedProcess(argv, 0, SUDO_LIST + "    (ALL) ALL\n", "")

    monkeypatch.setattr(sight.shutil, "which", lambda _name, path: "/usr/bin/sudo")  # type: ignore[attr-defined]
    assert sight.sudo_rights(ME.pw_name, 1.5, run)["mode"] == "full"
    assert asked["argv"][:3] == ["/usr/bin/sudo", "-n", "-l"]
    assert asked["env"]["LC_ALL"] == "C" and asked["timeout"] == 1.5


def test_sudo_that_does_not_answer_or_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(argv: List[str], **options: Any) -> Any:
        raise subprocess.TimeoutExpired(argv, options["timeout"])

    monkeypatch.setattr(sight.shutil, "which", lambda _name, path: "/usr/bin/sudo")  # type: ignore[attr-defined]
    assert sight.sudo_rights(ME.pw_name, 1.5, hang)["mode"] is None
    monkeypatch.setattr(sight.shutil, "which", lambda _name, path: None)  # type: ignore[attr-defined]
    assert sight.sudo_rights(ME.pw_name, 1.5) == {
        "mode": "none",
        "rules": [],
        "reason": "sudo is not installed",
    }


def directory(path: Any, **options: Any) -> Dict[str, Any]:
    return {"path": str(path), "mode": None, "access": "read", **options}


def test_directories_tried_as_the_user_itself(tmp_path: pathlib.Path) -> None:
    (tmp_path / "secrets").mkdir(mode=0o700)
    wanted = {
        "user": ME.pw_name,
        "directories": [
            directory(tmp_path / "secrets", mode="0700", access="write"),
            directory(tmp_path / "secrets", mode="755", access="none"),
            directory(tmp_path / "absent"),
        ],
    }
    findings, facts = account_check.check(wanted, "/", 5.0)
    severities = [(one.id, one.severity) for one in findings[1:]]
    assert severities == [
        ("account.directory", "ok"),
        ("account.directory", "deviation"),
        ("account.directory", "blocking"),
        ("account.access", "ok"),
    ]
    assert facts["exists"] and facts["uid"] == ME.pw_uid
    assert os.listdir(tmp_path / "secrets") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can try as another user")
@pytest.mark.parametrize("before, severity", [(False, "blocking"), (True, "deviation")])
def test_directories_tried_as_another_user(tmp_path: pathlib.Path, before: bool, severity: str) -> None:
    wanted = {"user": "nobody", "directories": [directory(tmp_path)], "before_provisioning": before}
    assert bad(account_check.check(wanted, "/", 5.0)[0]) == {"account.access": severity}


def test_nobody_is_switched_to_in_a_recorded_tree(home: Home) -> None:
    findings = [one for one in home.check(directories=[directory("/home/citadel")]) if one.severity != "ok"]
    assert [(one.id, one.unknown) for one in findings] == [("account.access", True)]
