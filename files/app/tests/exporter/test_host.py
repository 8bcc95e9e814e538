"""Space, backups, certificates, the configuration and the preflight's report."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from citadel_llm.exporter import host
from citadel_llm.exporter.samples import Sample


def test_space_of_what_is_there(tmp_path: Path) -> None:
    found = host.space({"models": str(tmp_path), "logs": str(tmp_path / "missing")})
    assert [(sample.metric, sample.labels) for sample in found] == [
        ("citadel_space_size_bytes", ("models",)),
        ("citadel_space_free_bytes", ("models",)),
    ]
    assert 0 <= found[1].value <= found[0].value


def test_backups_are_dated_by_their_names(tmp_path: Path) -> None:
    for name in (
        "20260131T235959Z",
        "20260131T235959Z-1",
        "20250101T000000Z",
        ".partial",
        "20269999T000000Z",
    ):
        (tmp_path / name).mkdir()
    newest = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC).timestamp()
    assert host.backups(tmp_path) == [
        Sample("citadel_backups", 3, ("config",)),
        Sample("citadel_backup_last_timestamp_seconds", newest, ("config",)),
    ]
    assert host.backups(tmp_path / "none") == [Sample("citadel_backups", 0, ("config",))]


def test_certificates_end(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "llm.example.org")])
    end = datetime(2030, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(end - timedelta(days=90)).not_valid_after(end)
    path = tmp_path / "edge.crt"
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    found = host.certificates({"edge": str(path), "other": str(tmp_path / "none")})
    assert found == [Sample("citadel_certificate_not_after_timestamp_seconds", end.timestamp(), ("edge",))]
    path.write_text("damaged")
    with pytest.raises(ValueError, match="PEM"):
        host.certificates({"edge": str(path)})


def test_another_configuration_has_another_version(config_dir: Path) -> None:
    def version() -> tuple[str, ...]:
        (info,) = [
            sample for sample in host.configuration(config_dir) if sample.metric == "citadel_config_info"
        ]
        return info.labels

    first = version()
    assert first[1] == "production"
    assert version() == first
    path = config_dir / "global/logging.yaml"
    path.write_text(path.read_text() + "# a comment\n")
    assert version()[0] != first[0]


def test_the_preflights_verdict(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert host.preflight(report) == []
    counts = {"ok": 12, "deviation": 2, "blocking": 1, "unknown": 0, "accepted": 3}
    report.write_text(json.dumps({"counts": counts, "generated_at": "2026-01-31T12:00:00+00:00"}))
    found = host.preflight(report)
    assert [(sample.labels, sample.value) for sample in found[:4]] == [
        (("ok",), 12),
        (("deviation",), 2),
        (("blocking",), 1),
        (("unknown",), 0),
    ]
    assert found[4].value == datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()
    report.write_text("{}")
    with pytest.raises(ValueError, match="not a preflight report"):
        host.preflight(report)


def test_a_package_asks_for_a_restart(tmp_path: Path) -> None:
    assert host.reboot(tmp_path)[0].value == 0
    (tmp_path / "run").mkdir()
    (tmp_path / "run/reboot-required").touch()
    assert host.reboot(tmp_path)[0].value == 1
