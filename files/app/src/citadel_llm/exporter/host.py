"""What the server itself tells: space, backups, certificates, the configuration, the preflight's report."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from citadel_llm import __version__
from citadel_llm.configuration import layers
from citadel_llm.exporter.samples import Definition, Sample

DEFINITIONS = {
    "citadel_build_info": Definition("The application on this server.", ("version",)),
    "citadel_config_info": Definition("The configuration in force.", ("version", "environment")),
    "citadel_config_changed_timestamp_seconds": Definition("When a file of the configuration last changed."),
    "citadel_space_size_bytes": Definition("Size of the file system that holds a store.", ("store",)),
    "citadel_space_free_bytes": Definition("What services may still write to it.", ("store",)),
    "citadel_backup_last_timestamp_seconds": Definition("When the newest backup was made.", ("kind",)),
    "citadel_backups": Definition("How many backups are kept.", ("kind",)),
    "citadel_certificate_not_after_timestamp_seconds": Definition(
        "When a certificate ends.", ("certificate",)
    ),
    "citadel_preflight_findings": Definition("Findings of the last preflight.", ("severity",)),
    "citadel_preflight_timestamp_seconds": Definition("When the last preflight was made."),
    "citadel_reboot_required": Definition("Whether the distribution waits for a restart of the server."),
}
_BACKUP = re.compile(r"(\d{8}T\d{6}Z)(-\d+)?")
_SEVERITIES = ("ok", "deviation", "blocking", "unknown")


def space(stores: Mapping[str, str]) -> list[Sample]:
    """Size and free bytes of each store's file system. One that is not there is left out."""
    samples = []
    for store, path in stores.items():
        try:
            found = os.statvfs(path)
        except OSError:
            continue
        samples.append(Sample("citadel_space_size_bytes", found.f_frsize * found.f_blocks, (store,)))
        samples.append(Sample("citadel_space_free_bytes", found.f_frsize * found.f_bavail, (store,)))
    return samples


def backups(directory: Path, kind: str = "config") -> list[Sample]:
    """Number and age of the backups below a directory, each named after its UTC time. Raises OSError."""
    if not directory.is_dir():
        return [Sample("citadel_backups", 0, (kind,))]
    times = []
    for path in directory.iterdir():
        if match := _BACKUP.fullmatch(path.name):
            with contextlib.suppress(ValueError):
                times.append(datetime.strptime(match[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp())
    samples = [Sample("citadel_backups", len(times), (kind,))]
    if times:
        samples.append(Sample("citadel_backup_last_timestamp_seconds", max(times), (kind,)))
    return samples


def certificates(paths: Mapping[str, str]) -> list[Sample]:
    """The end of each certificate, the first of its file. Raises OSError and ValueError after the others."""
    samples: list[Sample] = []
    for name, path in paths.items():
        with contextlib.suppress(FileNotFoundError):
            end = x509.load_pem_x509_certificate(Path(path).read_bytes()).not_valid_after_utc.timestamp()
            samples.append(Sample("citadel_certificate_not_after_timestamp_seconds", end, (name,)))
    return samples


def configuration(directory: Path) -> list[Sample]:
    """Version, environment and age of the configuration. Raises ConfigurationError, OSError."""
    environment, _origin = layers.active_environment(directory)
    digest, newest = hashlib.sha256(), 0.0
    files = [directory / layers.ACTIVE_FILE]
    files += sorted(path for layer in (*layers.BASE_LAYERS, layers.ENVIRONMENTS)
                    for path in (directory / layer).glob("*.yaml"))  # fmt: skip
    for path in files:
        digest.update(f"{path.relative_to(directory)}\0".encode() + path.read_bytes() + b"\0")
        newest = max(newest, path.stat().st_mtime)
    return [
        Sample("citadel_build_info", 1, (__version__,)),
        Sample("citadel_config_info", 1, (digest.hexdigest()[:12], environment)),
        Sample("citadel_config_changed_timestamp_seconds", newest),
    ]


def preflight(report: Path) -> list[Sample]:
    """Counts of the last report; nothing where there is none. Raises ValueError when it is not a report."""
    try:
        document: Any = json.loads(report.read_bytes())
    except FileNotFoundError:
        return []
    try:
        counts = {severity: float(document["counts"][severity]) for severity in _SEVERITIES}
        made = datetime.fromisoformat(document["generated_at"]).timestamp()
    except (KeyError, TypeError) as error:
        raise ValueError(f"{report}: not a preflight report: {error!r}") from error
    samples = [Sample("citadel_preflight_findings", count, (name,)) for name, count in counts.items()]
    return [*samples, Sample("citadel_preflight_timestamp_seconds", made)]


def reboot(root: Path = Path("/")) -> list[Sample]:
    """Whether a package asked for a restart."""
    return [Sample("citadel_reboot_required", float((root / "run/reboot-required").exists()))]
