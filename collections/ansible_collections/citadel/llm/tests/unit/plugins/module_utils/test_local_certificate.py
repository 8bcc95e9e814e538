# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _local_certificate as backend
from ansible_collections.citadel.llm.plugins.module_utils import _openssl
from ansible_collections.citadel.llm.plugins.module_utils._local_certificate import CertificateError, Wanted

needs_openssl = pytest.mark.skipif(not _openssl.available(), reason="openssl is not installed")
pytestmark = needs_openssl
NAMES = ("DNS:llm.example.org", "DNS:localhost", "IP:127.0.0.1", "IP:::1")


def wanted(directory: Path, **settings: Any) -> Wanted:
    values: dict[str, Any] = {
        "ca_key": f"{directory}/ca.key",
        "ca_certificate": f"{directory}/ca.crt",
        "ca_common_name": "Test authority",
        "ca_regenerate": False,
        "key": f"{directory}/server.key",
        "certificate": f"{directory}/server.crt",
        "common_name": "llm.example.org",
        "subject_alt_names": NAMES,
        "valid_days": 90,
        "renew_before_days": 30,
        "owner": None,
        "group": None,
        "mode": 0o640,
        **settings,
    }
    return Wanted(**values)


def bring(wish: Wanted) -> backend.Plan:
    """Plan in check mode, plan and apply, and see that nothing is left to do."""
    predicted = backend.plan(wish, check=True)
    plan = backend.plan(wish, check=False)
    assert (predicted.ca_reason, predicted.reasons, predicted.new_key) == (
        plan.ca_reason,
        plan.reasons,
        plan.new_key,
    )
    backend.apply(wish, plan)
    assert not backend.plan(wish, check=False).changed
    return plan


def contents(directory: Path) -> dict[str, bytes]:
    return {
        name: (directory / name).read_bytes() for name in ("ca.key", "ca.crt", "server.key", "server.crt")
    }


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A directory with an authority and a certificate."""
    bring(wanted(tmp_path))
    return tmp_path


def test_makes_all(tmp_path: Path) -> None:
    plan = bring(wanted(tmp_path))
    assert plan.ca_reason == "there is no authority"
    assert plan.reasons == ["there is no certificate"]
    modes = {path.name: path.stat().st_mode & 0o7777 for path in tmp_path.iterdir()}
    assert modes == {"ca.key": 0o600, "ca.crt": 0o644, "server.key": 0o640, "server.crt": 0o644}
    leaf = _openssl.read_certificate(f"{tmp_path}/server.crt")
    assert (leaf.common_name, leaf.issuer, leaf.subject_alt_names) == (
        "llm.example.org",
        "Test authority",
        NAMES,
    )
    assert abs(leaf.not_after - time.time() - 90 * backend.DAY) < 60
    chain = (tmp_path / "server.crt").read_text()
    assert chain.count("BEGIN CERTIFICATE") == 2
    assert chain.endswith((tmp_path / "ca.crt").read_text())


def test_extensions_and_key_type(made: Path) -> None:
    leaf = _openssl.run(["x509", "-in", f"{made}/server.crt", "-noout", "-text"])
    ca = _openssl.run(["x509", "-in", f"{made}/ca.crt", "-noout", "-text"])
    for text, expected in (
        (
            leaf,
            [
                "Basic Constraints: critical\n                CA:FALSE",
                "Key Usage: critical",
                "Digital Signature",
            ],
        ),
        (
            leaf,
            [
                "TLS Web Server Authentication",
                "Subject Key Identifier",
                "Authority Key Identifier",
                "prime256v1",
            ],
        ),
        (
            ca,
            ["Basic Constraints: critical\n                CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign"],
        ),
        (ca, ["Subject Key Identifier", "prime256v1"]),
    ):
        for words in expected:
            assert words in text


def test_serial_numbers_are_random(tmp_path: Path) -> None:
    serials = set()
    for count in range(2):
        directory = tmp_path / str(count)
        directory.mkdir()
        bring(wanted(directory))
        for name in ("ca.crt", "server.crt"):
            line = _openssl.run(["x509", "-in", f"{directory}/{name}", "-noout", "-serial"])
            serials.add(line.strip().split("=")[1])
    assert len(serials) == 4
    assert all(len(serial) == 32 for serial in serials)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "llm.example.org"])
def test_strict_handshake(made: Path, name: str) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(f"{made}/server.crt", f"{made}/server.key")
    client = ssl.create_default_context(cafile=f"{made}/ca.crt")
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    left, right = socket.socketpair()
    failures: list[Exception] = []

    def serve() -> None:
        try:
            with server.wrap_socket(left, server_side=True) as connection:
                connection.sendall(b"hello")
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    with client.wrap_socket(right, server_hostname=name) as connection:
        assert connection.recv(5) == b"hello"
    thread.join()
    assert failures == []


def test_another_name_is_refused(made: Path) -> None:
    text = _openssl.run(["x509", "-in", f"{made}/server.crt", "-noout", "-checkhost", "other.example.org"])
    assert "does NOT match" in text


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"common_name": "other.example.org"}, "it is for 'llm.example.org'"),
        ({"subject_alt_names": ("DNS:other.example.org",)}, "its names differ"),
        ({"renew_before_days": 120, "valid_days": 400}, "it ends on"),
    ],
)
def test_issues_again_with_the_same_key(made: Path, settings: dict[str, Any], reason: str) -> None:
    before = contents(made)
    plan = bring(wanted(made, **settings))
    assert [text.startswith(reason) for text in plan.reasons] == [True]
    after = contents(made)
    assert {name for name in before if before[name] != after[name]} == {"server.crt"}


def test_a_certificate_that_clients_show_is_issued_again_once(made: Path) -> None:
    assert not _openssl.read_certificate(f"{made}/server.crt").for_clients
    plan = bring(wanted(made, for_clients=True))
    assert plan.reasons == ["clients may not use it"]
    assert _openssl.read_certificate(f"{made}/server.crt").for_clients
    assert not backend.plan(wanted(made), check=False).changed


def test_issues_again_for_another_key(made: Path) -> None:
    (made / "server.key").write_text(_openssl.new_key())
    (made / "server.key").chmod(0o640)
    assert bring(wanted(made)).reasons == ["its key is another one"]


def test_new_key_when_it_is_missing(made: Path) -> None:
    (made / "server.key").unlink()
    plan = bring(wanted(made))
    assert plan.new_key
    assert plan.reasons == ["its key is another one"]


def test_issues_again_for_another_authority_of_the_same_name(made: Path) -> None:
    (made / "ca.crt").unlink()
    (made / "ca.key").unlink()
    before = (made / "server.crt").read_bytes()
    assert bring(wanted(made)).reasons == ["the authority is new"]
    stale = made / "stale.crt"
    stale.write_bytes(before)
    assert _openssl.verification_problem(str(stale), f"{made}/ca.crt")
    (made / "server.crt").write_bytes(before)
    (reason,) = bring(wanted(made)).reasons
    assert reason.startswith("it is not good for a server of this authority")


@pytest.mark.parametrize("content", ["", "not a certificate"])
def test_issues_again_for_a_damaged_file(made: Path, content: str) -> None:
    (made / "server.crt").write_text(content)
    assert bring(wanted(made)).reasons == ["the file holds no certificate"]


def test_completes_the_chain_without_issuing(made: Path) -> None:
    chain = (made / "server.crt").read_text()
    (made / "server.crt").write_text(chain[: chain.index("-----END") + 26])
    plan = bring(wanted(made))
    assert plan.rewrite_chain
    assert plan.reasons == []
    assert (made / "server.crt").read_text() == chain


def test_mends_access(made: Path) -> None:
    (made / "server.key").chmod(0o644)
    (made / "ca.key").chmod(0o644)
    before = contents(made)
    plan = bring(wanted(made))
    assert plan.access == {
        f"{made}/ca.key": ({"mode": "0644"}, {"mode": "0600"}),
        f"{made}/server.key": ({"mode": "0644"}, {"mode": "0640"}),
    }
    assert contents(made) == before


def test_goes_on_after_an_interruption_between_key_and_certificate(made: Path) -> None:
    (made / "ca.crt").unlink()
    (made / "server.crt").unlink()
    before = contents_of_keys(made)
    bring(wanted(made))
    assert contents_of_keys(made) == before


def contents_of_keys(directory: Path) -> list[bytes]:
    return [(directory / name).read_bytes() for name in ("ca.key", "server.key")]


def test_authority_is_never_replaced_silently(made: Path) -> None:
    (made / "ca.key").write_text(_openssl.new_key())
    with pytest.raises(CertificateError, match=r"does not belong to the authority .* ca_regenerate: true"):
        backend.plan(wanted(made), check=True)
    plan = bring(wanted(made, ca_regenerate=True))
    assert plan.reasons == ["the authority is new"]


def test_ended_authority(made: Path) -> None:
    later = time.time() + (backend.CA_DAYS + 1) * backend.DAY
    with pytest.raises(CertificateError, match="ends, or has ended, on"):
        backend.plan(wanted(made), check=True, now=later)
    assert "has ended" in backend.plan(wanted(made, ca_regenerate=True), check=True, now=later).ca_reason


def test_certificate_never_outlives_its_authority(made: Path) -> None:
    (made / "ca.crt").write_text(_openssl.issue_ca(f"{made}/ca.key", "Test authority", 20))
    wish = wanted(made, subject_alt_names=NAMES[:1])
    plan = bring(wish)
    (warning,) = plan.warnings
    assert f"{made}/ca.crt ends on {backend.day(time.time() + 20 * backend.DAY)}" in warning
    ends = [_openssl.read_certificate(f"{made}/{name}.crt").not_after for name in ("server", "ca")]
    assert ends[0] <= ends[1]
    # A certificate that ends soon is not issued again and again when a new one would end as soon.
    assert not backend.plan(wish, check=False, now=time.time() + 5 * backend.DAY).changed
    assert backend.plan(wanted(made, ca_regenerate=True), check=True).ca_reason.startswith(
        "the authority ends on"
    )


def test_authority_key_kept_elsewhere(made: Path) -> None:
    (made / "ca.key").unlink()
    assert not backend.plan(wanted(made), check=False).changed
    with pytest.raises(CertificateError, match=r"a certificate has to be issued .* is missing: put it back"):
        backend.plan(wanted(made, common_name="other.example.org"), check=False)


def test_what_is_no_authority_is_refused(made: Path) -> None:
    shutil.copy(made / "server.crt", made / "ca.crt")
    with pytest.raises(CertificateError, match="is not the certificate of an authority"):
        backend.plan(wanted(made), check=False)


@pytest.mark.parametrize("name", ["server.key", "ca.key"])
def test_damaged_key_is_not_overwritten(made: Path, name: str) -> None:
    (made / name).write_text("damaged")
    with pytest.raises(CertificateError, match=f"{name} cannot be read as a key"):
        backend.plan(wanted(made), check=False)


def test_name_of_an_existing_authority_is_kept(made: Path) -> None:
    plan = backend.plan(wanted(made, ca_common_name="Other"), check=False)
    assert not plan.changed
    assert "keeps its name 'Test authority'" in plan.warnings[0]


def test_bare_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    wish = wanted(tmp_path / "to-come", owner="user-to-come")
    plan = backend.plan(wish, check=True)
    assert (plan.ca_reason, plan.new_ca_key, plan.reasons, plan.new_key, plan.warnings) == (
        "there is no authority",
        True,
        ["there is no certificate"],
        True,
        [],
    )
    with pytest.raises(CertificateError, match="its directory does not exist"):
        backend.plan(wish, check=False)
    with pytest.raises(CertificateError, match="user-to-come"):
        backend.plan(wanted(tmp_path, owner="user-to-come"), check=False)
    with pytest.raises(CertificateError, match="install the package openssl"):
        backend.apply(wanted(tmp_path), backend.plan(wanted(tmp_path), check=False))
    assert os.listdir(tmp_path) == []


def test_without_openssl_existing_files_are_not_judged(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(made))
    plan = backend.plan(wanted(made), check=True)
    assert not plan.changed
    assert "not examined" in plan.warnings[0]


def test_no_secret_in_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[str] = []
    run = _openssl.run

    def watch(arguments: Sequence[str], **settings: str) -> str:
        commands.append(" ".join(arguments))
        return run(arguments, **settings)

    monkeypatch.setattr(_openssl, "run", watch)
    bring(wanted(tmp_path))
    body = "".join((tmp_path / "ca.key").read_text().splitlines()[1:-1])
    assert commands
    assert not any("PRIVATE" in command or body[:20] in command for command in commands)


@pytest.mark.parametrize(
    ("name", "normal"),
    [
        ("dns:LLM.Example.org", "DNS:llm.example.org"),
        ("DNS:*.example.org", "DNS:*.example.org"),
        ("IP:0:0:0:0:0:0:0:1", "IP:::1"),
        ("ip:127.0.0.1", "IP:127.0.0.1"),
    ],
)
def test_normalise_alt_name(name: str, normal: str) -> None:
    assert _openssl.normalise_alt_name(name) == normal


@pytest.mark.parametrize(
    "name",
    ["example.org", "DNS:", "DNS:a b", "DNS:-a", "IP:300.1.1.1", "IP:", "URI:x", "DNS:a,DNS:b", "DNS:a\nx=y"],
)
def test_normalise_alt_name_refuses(name: str) -> None:
    with pytest.raises(ValueError, match="not usable"):
        _openssl.normalise_alt_name(name)


@pytest.mark.parametrize("name", ["", " a", "a" * 65, "$HOME", "a\nb", "a,b", "a#b", 'a"b', "a\\b"])
def test_check_common_name_refuses(name: str) -> None:
    with pytest.raises(ValueError, match="not usable"):
        _openssl.check_common_name(name)


def test_common_name_beyond_ascii(tmp_path: Path) -> None:
    bring(wanted(tmp_path, common_name="Zürich (Büro) 1/2", ca_common_name="Müller: CA @ home"))
    assert _openssl.read_certificate(f"{tmp_path}/server.crt").common_name == "Zürich (Büro) 1/2"
