"""The machine's own apt configuration: from which mirror, and how, a base image can be built."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.system import LabError, read_text, run

DEBIAN_SUITES = ("bookworm", "trixie")
UBUNTU_SUITES = ("noble",)
COMPONENTS = {"debian": ("main",), "ubuntu": ("main", "universe")}
# What decides whether the machine's mirror can be used at all; everything else in apt's settings is taste.
APT_SETTINGS = (
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
)


@dataclass(frozen=True)
class Source:
    """One archive: `suite` as written in the sources, `signed_by` a path, a fingerprint, a key or empty."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""


def parse_one_line(text: str) -> list[Source]:
    """Parse a `*.list` file."""
    found = []
    for raw in text.splitlines():
        match = re.match(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<rest>\S.*)", raw.split("#")[0].strip())
        if not match:
            continue
        fields = match["rest"].split()
        options = dict(part.split("=", 1) for part in (match["options"] or "").split() if "=" in part)
        if len(fields) >= 2:
            found.append(Source(fields[0], fields[1], tuple(fields[2:]), options.get("signed-by", "")))
    return found


def parse_deb822(text: str) -> list[Source]:
    """Parse a `*.sources` file."""
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    found = []
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields = _fields(stanza)
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        components = tuple(fields.get("components", "").split())
        found += [
            Source(uri, suite, components, fields.get("signed-by", ""))
            for uri in fields.get("uris", "").split()
            for suite in fields.get("suites", "").split()
        ]
    return found


def _fields(stanza: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line[:1].isspace() and name:
            fields[name] += "\n" + line.strip()
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields


def machine_sources(etc_apt: Path = Path("/etc/apt")) -> list[Source]:
    """Every enabled binary archive of this machine."""
    found = parse_one_line(read_text(etc_apt / "sources.list"))
    for path in sorted((etc_apt / "sources.list.d").glob("*")):
        if path.suffix == ".list":
            found += parse_one_line(read_text(path))
        elif path.suffix == ".sources":
            found += parse_deb822(read_text(path))
    return found


def machine_release(os_release: Path = Path("/etc/os-release")) -> tuple[str, str]:
    """`(distribution, suite)` of this machine, such as `("debian", "bookworm")`."""
    text = read_text(os_release)
    values = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', text, re.MULTILINE))
    return values.get("ID", ""), values.get("VERSION_CODENAME", "")


def suites_of(distribution: str) -> tuple[str, ...]:
    """The suites that a machine of this distribution can build."""
    known = {"debian": DEBIAN_SUITES, "ubuntu": UBUNTU_SUITES}.get(distribution)
    if known is None:
        raise LabError(
            f"this machine's distribution is {distribution or 'unknown'!r} (/etc/os-release): the lab needs "
            "Debian or Ubuntu, because it builds its images from the machine's own apt sources"
        )
    return known


def default_suite() -> str:
    """The machine's own suite where it is one that the lab knows, else the newest of its distribution."""
    distribution, own = machine_release()
    known = suites_of(distribution)
    return own if own in known else known[-1]


def lines_for(suite: str, sources: Iterable[Source], distribution: str, own: str) -> list[str]:
    """One-line sources that serve `suite` from the same mirrors that serve the machine's suite `own`.

    Only the distribution's own archives count: others may use its suite names, but not its keyring.
    Raises LabError when the suite is not one of the distribution's, or no archive is left.
    """
    known = suites_of(distribution)
    if suite not in known:
        raise LabError(f"suite {suite!r}: on this {distribution} machine choose one of {', '.join(known)}")
    wanted = {own, f"{own}-updates", f"{own}-security"}
    lines = []
    for source in sources:
        components = [name for name in COMPONENTS[distribution] if name in source.components]
        if source.suite in wanted and components and _is_distribution_key(source.signed_by):
            lines.append(f"deb {source.uri} {suite}{source.suite[len(own) :]} {' '.join(components)}")
    lines = list(dict.fromkeys(lines))
    if not any(line.split()[2] == suite for line in lines):
        raise LabError(
            f"no {distribution} archive for suite {own!r} in /etc/apt/sources.list or sources.list.d: "
            "the lab builds its images from the machine's own mirror; add its 'main' entry there"
        )
    return lines


def _is_distribution_key(signed_by: str) -> bool:
    return not signed_by or Path(signed_by.split()[0]).name.startswith(("debian-archive-", "ubuntu-archive-"))


def apt_settings() -> list[str]:
    """The machine's settings that its mirror needs, as lines of apt.conf."""
    dump = run(["apt-config", "dump", "--format", '%f "%v";%n', *APT_SETTINGS])
    return [line for line in dump.splitlines() if line.startswith(APT_SETTINGS) and not line.endswith('"";')]
