"""What makes a host of an image, and what tells hosts and people of each other: files, keys, names."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from lab import disks, inside, records
from lab.paths import State
from lab.records import HostRecord
from lab.system import LabError, live_pid, lock, read_text, run, say, write_atomic

RESOLVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))


def make_key(state: State) -> None:
    """The key pair that every host of this lab accepts, made once."""
    if not state.key.exists():
        temporary = state.key.with_name("id_ed25519.new")
        temporary.unlink(missing_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "citadel-lab", "-f", str(temporary)])
        owner, group = int(os.environ.get("SUDO_UID", "0")), int(os.environ.get("SUDO_GID", "0"))
        os.chown(temporary, owner, group)  # ssh refuses a key that its user does not own
        Path(f"{temporary}.pub").rename(f"{state.key}.pub")
        temporary.rename(state.key)


def furnish(state: State, record: HostRecord) -> None:
    """Write the files that make a host of an image, before the overlay is mounted."""
    paths = state.host(record.name)
    etc = paths.upper / "etc"
    texts = {
        "hostname": record.name + "\n",
        "machine-id": secrets.token_hex(16) + "\n",
        "resolv.conf": records.nameservers(RESOLVERS),
        "hosts": records.hosts_file(record.name, record.address, records.load_all(state)),
    }
    texts |= {f"udev/rules.d/{name}": text for name, text in disks.udev_rules(record.uid).items()}
    for name, text in texts.items():
        (etc / name).parent.mkdir(parents=True, exist_ok=True)
        (etc / name).write_text(text)
    (paths.upper / "var").mkdir(exist_ok=True)
    for part in ("etc", "var"):
        (paths.upper / part / ".updated").touch()  # the image is complete: no catch-up at the first boot
    ssh, root_ssh = etc / "ssh", paths.upper / "root" / ".ssh"
    ssh.mkdir()
    run(
        [
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            record.name,
            "-f",
            str(ssh / "ssh_host_ed25519_key"),
        ]
    )
    root_ssh.parent.mkdir(mode=0o700)
    root_ssh.mkdir(mode=0o700)
    write_atomic(root_ssh / "authorized_keys", Path(f"{state.key}.pub").read_text(), 0o600)
    (paths.directory / "ip").write_text(record.address + "\n")
    (paths.directory / "suite").write_text(record.suite + "\n")


def announce(state: State) -> None:
    """Write known_hosts and tell each running host who its neighbours are."""
    with lock(state.lock, "the host list"):
        hosts = [record for record in records.load_all(state) if record.completed]
        keys = ""
        for record in hosts:
            public = state.host(record.name).upper / "etc/ssh/ssh_host_ed25519_key.pub"
            keys += f"{record.address},{record.name} {' '.join(read_text(public).split()[:2])}\n"
        write_atomic(state.known_hosts, keys)
        for record in hosts:
            if (pid := live_pid(state.host(record.name).pid)) is not None:
                _tell_neighbours(pid, record.name, hosts)


def _tell_neighbours(pid: int, name: str, hosts: list[HostRecord]) -> None:
    try:
        current = inside.run(pid, ["cat", "/etc/hosts"], seconds=5).stdout
        wanted = records.replace_block(current, records.neighbours_block(name, hosts))
        if current and wanted != current:
            script = "cat > /etc/.hosts.lab && mv /etc/.hosts.lab /etc/hosts"
            inside.run(pid, ["sh", "-c", script], stdin=wanted, seconds=5)
    except LabError as error:  # one host that hangs must not keep the others from coming up
        say(f"warning: /etc/hosts of {name} is not up to date: {error}")


def ssh_command(state: State, address: str) -> list[str]:
    """ssh as root, accepting exactly the host's own key."""
    options = [f"UserKnownHostsFile={state.known_hosts}", "StrictHostKeyChecking=yes", "ConnectTimeout=5"]
    flags = [part for option in options for part in ("-o", option)]
    return ["ssh", "-F", "none", "-i", str(state.key), *flags, "-o", "LogLevel=ERROR", f"root@{address}"]
