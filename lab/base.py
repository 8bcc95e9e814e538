"""Base images: one root file system per suite, built by mmdebstrap, cached and named by all of its inputs."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import sources
from lab.paths import image_cache
from lab.system import LabError, lock, read_text, run, say

# fmt: off
PACKAGES = (
    "systemd", "systemd-sysv", "libpam-systemd", "dbus", "udev", "kmod", "python3", "python3-apt",
    "apt-utils", "ca-certificates", "curl", "gpg", "gpgv", "iproute2", "iputils-ping", "openssh-server",
    "procps", "sudo", "cron", "logrotate", "less", "util-linux", "mount", "e2fsprogs", "xfsprogs",
    "passwd", "adduser",
)
# fmt: on
CERTIFICATES = Path("/usr/local/share/ca-certificates")
EXCLUDED = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*")
# No consoles to log in at, and no names for interfaces other than the one given.
MASKED = (
    "etc/systemd/system/console-getty.service",
    "etc/systemd/system/getty.target",
    "etc/systemd/system/getty@.service",
    "etc/udev/rules.d/80-net-setup-link.rules",
)
FILES = {
    # The machine's devices show in /sys; only disks may concern the host, and its rules sort out which do.
    "etc/systemd/system/systemd-udev-trigger.service.d/lab.conf": (
        "[Service]\nExecStart=\n"
        "ExecStart=-udevadm trigger --action=add --subsystem-match=block --sysname-match=loop*\n"
    ),
    "etc/ssh/sshd_config.d/10-lab.conf": "PasswordAuthentication no\nUseDNS no\n",
}
LAYOUT = "1"  # raise it when customise() changes in a way that the inputs below do not show


@dataclass(frozen=True)
class Plan:
    """Everything that an image depends on."""

    suite: str
    source_lines: tuple[str, ...]
    settings: tuple[str, ...]
    certificates: tuple[Path, ...]

    @property
    def key(self) -> str:
        digest = hashlib.sha256()
        parts = [
            LAYOUT,
            self.suite,
            *self.source_lines,
            *self.settings,
            *sorted(PACKAGES),
            *EXCLUDED,
            *MASKED,
        ]
        parts += [f"{name}\n{text}" for name, text in sorted(FILES.items())]
        for part in parts:
            digest.update(part.encode() + b"\0")
        for path in self.certificates:
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        return digest.hexdigest()[:16]


def plan(suite: str) -> Plan:
    """What this machine's configuration makes of a suite. Raises LabError where it cannot serve it."""
    distribution, own = sources.machine_release()
    lines = sources.lines_for(suite, sources.machine_sources(), distribution, own)
    certificates = tuple(sorted(CERTIFICATES.rglob("*.crt"))) if CERTIFICATES.is_dir() else ()
    return Plan(suite, tuple(lines), tuple(sources.apt_settings()), certificates)


def ensure(suite: str, *, rebuild: bool = False) -> Path:
    """The image's directory, built when the cache has none for the present inputs."""
    wanted = plan(suite)
    cache = image_cache()
    image = cache / f"{suite}-{wanted.key}"
    if image.is_dir() and not rebuild:
        return image
    with lock(cache / f".{suite}.lock", f"base image {suite}"):
        if image.is_dir() and not rebuild:
            return image
        for stale in cache.glob(f".{suite}-*"):
            shutil.rmtree(stale)
        started = time.monotonic()
        say(f"base image {suite}: building, about a minute")
        building = cache / f".{suite}-{wanted.key}.{os.getpid()}"
        _build(wanted, building)
        if image.is_dir():
            image.rename(cache / f".{suite}-replaced.{os.getpid()}")
        building.rename(image)
        say(f"base image {suite}: built in {time.monotonic() - started:.0f} s, {image}")
    return image


def _build(wanted: Plan, root: Path) -> None:
    command = ["mmdebstrap", "--variant=minbase", "--mode=root", "--format=directory"]
    command += [f"--include={','.join(PACKAGES)}", '--aptopt=Acquire::Languages "none"']
    command += [f"--aptopt={line.rstrip(';')}" for line in wanted.settings]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED]
    # In its own mount namespace: whatever mmdebstrap mounts goes with it, even when it is killed.
    wrapper = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"]
    output = _run_with_progress([*wrapper, *command, wanted.suite, str(root), *wanted.source_lines])
    if output is not None:
        shutil.rmtree(root, ignore_errors=True)
        raise LabError(f"mmdebstrap could not build {wanted.suite}:\n{output}")
    _customise(wanted, root)


def _run_with_progress(command: list[str]) -> str | None:
    """Run mmdebstrap and show its steps; returns its last lines when it fails."""
    with _plain_locale(), subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        last: list[str] = []
        for line in process.stderr or ():
            last = [*last[-25:], line.rstrip()]
            if line.startswith("I: ") and "automatically" not in line:
                print(f"  {line[3:].rstrip()}", file=sys.stderr, flush=True)
        return None if process.wait() == 0 else "\n".join(last)


@contextmanager
def _plain_locale() -> Iterator[None]:
    """Keep the machine's language and certificate paths out of what maintainer scripts see."""
    names = ("LANG", "LC_ALL", "LANGUAGE", "SSL_CERT_FILE", "SSL_CERT_DIR", "TMPDIR")
    saved = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ["LC_ALL"] = "C.UTF-8"
    try:
        yield
    finally:
        del os.environ["LC_ALL"]
        os.environ.update(saved)


def _customise(wanted: Plan, root: Path) -> None:
    for path in wanted.certificates:
        shutil.copy(path, root / "usr/local/share/ca-certificates" / path.name)
    run(["chroot", str(root), "update-ca-certificates"])
    for name in MASKED:
        target = root / name
        target.unlink(missing_ok=True)
        target.symlink_to("/dev/null")
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for path in root.glob("etc/ssh/ssh_host_*"):
        path.unlink()
    for path in root.glob("var/cache/apt/archives/*.deb"):
        path.unlink()
    # A fresh time stamp on an empty list directory reads as "just updated", and a first install would fail.
    lists = root / "var/lib/apt/lists"
    shutil.rmtree(lists)
    lists.mkdir(mode=0o755)
    os.utime(lists, (0, 0))
    root.chmod(0o755)


def prune() -> list[Path]:
    """Remove images that nothing uses and that no present input would choose; returns them."""
    cache = image_cache()
    distribution, _ = sources.machine_release()
    current = {cache / f"{suite}-{plan(suite).key}" for suite in sources.suites_of(distribution)}
    removed = []
    for path in sorted(cache.glob("*-*")):
        if path not in current and not _in_use(path):
            shutil.rmtree(path)
            removed.append(path)
    return removed


def _in_use(image: Path) -> bool:
    option = f"lowerdir={image},"
    return any(option in read_text(path) for path in Path("/proc").glob("[0-9]*/mountinfo"))
