# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoints held against real sockets on the loopback address."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _endpoint_check as endpoint_check
from ansible_collections.citadel.llm.plugins.module_utils import _endpoint_check_certificate as certificate
from ansible_collections.citadel.llm.plugins.module_utils import _endpoint_check_probe as probe
from ansible_collections.citadel.llm.plugins.module_utils._findings import Finding

DAY = 86400
CA_CONFIG = """
[ca]
default_ca = here
[here]
dir = .
database = ./index.txt
new_certs_dir = .
serial = ./serial
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
"""


@contextlib.contextmanager
def server(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """A listening socket whose connections go to ``handle``, in a thread each; its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def serve(stream: socket.socket) -> None:
        with stream, contextlib.suppress(OSError):
            stream.settimeout(10)
            handle(stream)

    def accept() -> None:
        while True:
            try:
                stream = listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=serve, args=(stream,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def http_server(status: str = "200 OK", delay: float = 0, seen: Optional[List[bytes]] = None) -> Any:
    def handle(stream: socket.socket) -> None:
        request = stream.recv(4096)
        if seen is not None:
            seen.append(request)
        time.sleep(delay)
        stream.sendall(("HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % status).encode())

    return server(handle)


def free_port() -> int:
    with socket.socket() as stream:
        stream.bind(("127.0.0.1", 0))
        return int(stream.getsockname()[1])


def want(port: int, **given: Any) -> Dict[str, Any]:
    values: Dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "protocol": "tcp",
        "timeout": 5.0,
        "tries": 3,
    }
    values.update(given)
    return values


def one(wanted: Dict[str, Any], deadline: float = 15.0) -> Any:
    """The findings about one endpoint by id, and its figures."""
    findings, records = endpoint_check.check([wanted], deadline)
    return {finding.id: finding for finding in findings}, records[0]


def severities(findings: Dict[str, Finding]) -> Dict[str, str]:
    return {name: finding.severity for name, finding in findings.items()}


def test_reachable() -> None:
    with server(lambda stream: None) as port:
        findings, record = one(want(port, name="database", tries=5))
    assert severities(findings) == {"endpoint.reachable": "ok"}
    assert findings["endpoint.reachable"].subject == "database"
    latency = record["latency_ms"]
    assert 0 < latency["min"] <= latency["avg"] <= latency["max"] < 5000
    assert record["loss_percent"] == 0 and record["state"] == "answered" and record["step"] is None


@pytest.mark.parametrize("severity", ["blocking", "deviation"])
def test_refused(severity: str) -> None:
    findings, record = one(want(free_port(), severity=severity))
    assert severities(findings) == {"endpoint.refused": severity}
    assert record["loss_percent"] == 100 and record["latency_ms"]["avg"] is None


def test_filtered() -> None:
    """A full backlog drops what comes in, as a firewall does."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _number in range(4):
            stream = stack.enter_context(socket.socket())
            stream.setblocking(False)
            stream.connect_ex(("127.0.0.1", port))
        time.sleep(0.2)
        findings, record = one(want(port, timeout=0.5))
    assert severities(findings) == {"endpoint.filtered": "blocking"}
    assert "firewall drops" in findings["endpoint.filtered"].why
    assert record["loss_percent"] == 100


def test_unreachable() -> None:
    findings, _record = one(want(80, host="224.0.0.1"))
    assert severities(findings) == {"endpoint.unreachable": "blocking"}


def test_unresolvable(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_args: Any, **_options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    findings, _record = one(want(80, host="database.example.org"))
    assert severities(findings) == {"endpoint.unresolvable": "blocking"}
    assert "not known" in findings["endpoint.unresolvable"].found


def test_a_name_that_is_no_name() -> None:
    assert severities(one(want(80, host="a" * 70 + ".example.org"))[0]) == {
        "endpoint.unresolvable": "blocking"
    }


def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(lambda stream: None) as port:
        both = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("127.0.0.9", "127.0.0.1")
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: both)
        findings, record = one(want(port, host="two.example.org"))
    assert severities(findings) == {"endpoint.reachable": "ok"} and record["address"] == "127.0.0.1"


def test_silent() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        for protocol in ("http", "tls", "postgresql"):
            findings, record = one(want(port, protocol=protocol, timeout=0.4))
            assert severities(findings) == {"endpoint.silent": "blocking"}
            assert record["latency_ms"]["avg"] is not None
        assert severities(one(want(port))[0]) == {"endpoint.reachable": "ok"}


def test_slow() -> None:
    with http_server(delay=0.3) as port:
        findings, record = one(want(port, protocol="http", warn_ms=250.0))
        assert severities(findings) == {"endpoint.slow": "deviation"}
        assert record["answer_ms"] >= 300
        assert severities(one(want(port, protocol="http", warn_ms=50000.0, timeout=60.0))[0]) == {
            "endpoint.reachable": "ok"
        }


def test_loss() -> None:
    record = probe.Probe(want(1, name="x"), time.monotonic()).record
    record.update(state=probe.ANSWERED, loss_percent=33.3, latency_ms={"min": 1, "avg": 1, "max": 1})
    told = {finding.id: finding.severity for finding in endpoint_check.judge(want(1), record)}
    assert told == {"endpoint.reachable": "ok", "endpoint.loss": "deviation"}


@pytest.mark.parametrize(
    "status, expected, id_",
    [
        ("200 OK", None, "endpoint.reachable"),
        ("404 Not Found", None, "endpoint.reachable"),
        ("503 Service Unavailable", None, "endpoint.wrong_answer"),
        ("200 OK", [204], "endpoint.wrong_answer"),
        ("503 Service Unavailable", [503], "endpoint.reachable"),
    ],
)
def test_http(status: str, expected: Optional[List[int]], id_: str) -> None:
    seen: List[bytes] = []
    with http_server(status, seen=seen) as port:
        findings, record = one(want(port, protocol="http", path="/-/ready?a=1", expect_status=expected))
    assert list(findings) == [id_]
    assert record["status"] == int(status[:3])
    assert b"GET /-/ready?a=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % port in b"".join(seen)


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n", b"", b"HTTP/1.1 abc\r\n\r\n"])
def test_something_that_is_not_http(answer: bytes) -> None:
    def handle(stream: socket.socket) -> None:
        stream.recv(4096)
        stream.sendall(answer)

    with server(handle) as port:
        assert severities(one(want(port, protocol="http"))[0]) == {"endpoint.wrong_answer": "blocking"}


def test_something_that_is_not_tls() -> None:
    def handle(stream: socket.socket) -> None:
        stream.recv(4096)
        stream.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with server(handle) as port:
        assert severities(one(want(port, protocol="tls"))[0]) == {"endpoint.tls_failed": "blocking"}


def read_exactly(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += stream.recv(count - len(data))
    return data


def postgresql(ssl_answer: bytes, startup_answer: bytes = b"", seen: Optional[List[bytes]] = None) -> Any:
    def handle(stream: socket.socket) -> None:
        if read_exactly(stream, 8) != struct.pack(">II", 8, 80877103):
            return
        stream.sendall(ssl_answer)
        if startup_answer:
            (length,) = struct.unpack(">I", read_exactly(stream, 4))
            message = read_exactly(stream, length - 4)
            if seen is not None:
                seen.append(message)
            stream.sendall(startup_answer)

    return server(handle)


def error(code: str, text: str) -> bytes:
    body = b"SFATAL\0C%s\0M%s\0\0" % (code.encode(), text.encode())
    return b"E" + struct.pack(">I", len(body) + 4) + body


def test_postgresql_without_encryption() -> None:
    with postgresql(b"N") as port:
        findings, record = one(want(port, protocol="postgresql"))
    assert severities(findings) == {"endpoint.reachable": "ok"} and record["tls"] is None


def test_postgresql_asks_for_a_password() -> None:
    seen: List[bytes] = []
    with postgresql(b"N", b"R\0\0\0\x08\0\0\0\x0a", seen) as port:
        findings, _record = one(want(port, protocol="postgresql", user="llm", database="metrics"))
    assert severities(findings) == {"endpoint.reachable": "ok"}
    assert seen == [struct.pack(">I", 196608) + b"user\0llm\0database\0metrics\0\0"]


@pytest.mark.parametrize(
    "code, text", [("57P03", "the database system is starting up"), ("28000", "no pg_hba.conf entry")]
)
def test_postgresql_that_lets_nobody_in(code: str, text: str) -> None:
    with postgresql(b"N", error(code, text)) as port:
        findings, record = one(want(port, protocol="postgresql", user="llm"))
    assert severities(findings) == {"endpoint.wrong_answer": "blocking"}
    assert record["detail"] == "%s (%s)" % (text, code)


@pytest.mark.parametrize("answer", [b"H", b"", b"E"])
def test_something_that_is_not_postgresql(answer: bytes) -> None:
    with postgresql(answer) as port:
        assert severities(one(want(port, protocol="postgresql"))[0]) == {"endpoint.wrong_answer": "blocking"}


class Authority:
    """A certificate authority made by openssl for the test."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.ca = folder / "ca.pem"
        (folder / "ca.cnf").write_text(CA_CONFIG)
        (folder / "index.txt").write_text("")
        (folder / "serial").write_text("01\n")
        self.run(
            "req", "-x509", *self.key("ca.key"), "-subj", "/CN=Test authority", "-days", "9", "-out", "ca.pem"
        )

    @staticmethod
    def key(name: str) -> List[str]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", name]

    def run(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True, timeout=60)

    def issue(self, name: str, begin_days: float, end_days: float, names: str) -> ssl.SSLContext:
        begin, end = (
            time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + days * DAY))
            for days in (begin_days, end_days)
        )
        request = ["req", "-new", *self.key(name + ".key"), "-subj", "/CN=" + name, "-out", name + ".csr"]
        self.run(*request, *(["-addext", "subjectAltName=" + names] if names else []))
        self.run(
            "ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key", "-in",
            name + ".csr", "-out", name + ".pem", "-startdate", begin, "-enddate", end,
        )  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / (name + ".pem"), self.folder / (name + ".key"))
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command here")
    return Authority(tmp_path_factory.mktemp("authority"))


LOCAL = "DNS:localhost,IP:127.0.0.1"
CERTIFICATES = {
    "good": (-1, 90, LOCAL),
    "expiring": (-1, 3, LOCAL),
    "expired": (-30, -2, LOCAL),
    "early": (2, 30, LOCAL),
    "other": (-1, 90, "DNS:other.example.org,DNS:*.example.net"),
    "both": (-30, -2, "DNS:other.example.org"),
    "localhost": (-1, 90, ""),
}


@pytest.fixture(scope="module")
def contexts(authority: Authority) -> Dict[str, ssl.SSLContext]:
    return {name: authority.issue(name, *values) for name, values in CERTIFICATES.items()}


def tls_server(context: ssl.SSLContext) -> Any:
    def handle(stream: socket.socket) -> None:
        with context.wrap_socket(stream, server_side=True) as encrypted:
            encrypted.recv(4096)
            encrypted.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    return server(handle)


@pytest.mark.parametrize(
    "name, given, expected",
    [
        ("good", {}, {"endpoint.reachable": "ok", "endpoint.certificate": "ok"}),
        ("good", {"protocol": "tls"}, {"endpoint.reachable": "ok", "endpoint.certificate": "ok"}),
        (
            "good",
            {"ca_file": None},
            {"endpoint.reachable": "ok", "endpoint.certificate_untrusted": "blocking"},
        ),
        (
            "good",
            {"ca_file": None, "verify": False},
            {"endpoint.reachable": "ok", "endpoint.certificate": "ok"},
        ),
        (
            "good",
            {"ca_file": "/no/such/file"},
            {"endpoint.reachable": "ok", "endpoint.certificate": "deviation"},
        ),
        ("expiring", {}, {"endpoint.reachable": "ok", "endpoint.certificate_expiring": "deviation"}),
        (
            "expiring",
            {"certificate_warn_days": 2.0},
            {"endpoint.reachable": "ok", "endpoint.certificate": "ok"},
        ),
        ("expired", {}, {"endpoint.reachable": "ok", "endpoint.certificate_expired": "blocking"}),
        (
            "expired",
            {"severity": "deviation"},
            {"endpoint.reachable": "ok", "endpoint.certificate_expired": "deviation"},
        ),
        (
            "expired",
            {"verify": False},
            {"endpoint.reachable": "ok", "endpoint.certificate_expired": "deviation"},
        ),
        ("early", {}, {"endpoint.reachable": "ok", "endpoint.certificate_not_yet_valid": "blocking"}),
        ("other", {}, {"endpoint.reachable": "ok", "endpoint.certificate_wrong_name": "blocking"}),
        (
            "other",
            {"server_name": "a.example.net"},
            {"endpoint.reachable": "ok", "endpoint.certificate": "ok"},
        ),
        (
            "both",
            {},
            {
                "endpoint.reachable": "ok",
                "endpoint.certificate_expired": "blocking",
                "endpoint.certificate_wrong_name": "blocking",
            },
        ),
    ],
)
def test_certificates(
    authority: Authority,
    contexts: Dict[str, ssl.SSLContext],
    name: str,
    given: Dict[str, Any],
    expected: Dict[str, str],
) -> None:
    options = {"protocol": "https", "ca_file": str(authority.ca), "certificate_warn_days": 21.0, **given}
    with tls_server(contexts[name]) as port:
        findings, record = one(want(port, **options))
    assert severities(findings) == expected
    assert record["tls"]["version"].startswith("TLSv1.")
    if options["protocol"] == "https":
        assert record["status"] == 204
    unknown = [finding for finding in findings.values() if finding.unknown]
    assert len(unknown) == (given.get("ca_file") == "/no/such/file")


def test_postgresql_shows_an_expired_certificate(contexts: Dict[str, ssl.SSLContext]) -> None:
    def handle(stream: socket.socket) -> None:
        read_exactly(stream, 8)
        stream.sendall(b"S")
        with (
            contextlib.suppress(OSError),
            contexts["expired"].wrap_socket(stream, server_side=True) as encrypted,
        ):
            encrypted.recv(100)
            encrypted.sendall(b"R\0\0\0\x08\0\0\0\x0a")

    with server(handle) as port:
        findings, record = one(want(port, protocol="postgresql", user="llm"))
    assert severities(findings) == {"endpoint.reachable": "ok", "endpoint.certificate_expired": "deviation"}
    assert record["tls"]["trusted"] is None


def der(authority: Authority, name: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert((authority.folder / (name + ".pem")).read_text())


def test_certificate_fields(authority: Authority, contexts: Dict[str, ssl.SSLContext]) -> None:
    assert contexts
    good = certificate.parse(der(authority, "good"))
    assert abs(good.not_after - (time.time() + 90 * DAY)) < 3600
    assert good.names == ["localhost", "127.0.0.1"]
    assert good.matches("LOCALHOST") and good.matches("127.0.0.1") and not good.matches("127.0.0.2")
    other = certificate.parse(der(authority, "other"))
    assert other.matches("a.example.net") and not other.matches("a.b.example.net")
    assert not other.matches("example.net")
    assert certificate.parse(der(authority, "localhost")).names == ["localhost"]


def test_a_damaged_certificate_is_an_error_that_is_named(authority: Authority, contexts: Any) -> None:
    assert contexts
    whole = der(authority, "good")
    for length in range(0, len(whole), 7):
        with pytest.raises(ValueError, match="cannot be read"):
            certificate.parse(whole[:length])
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        with contextlib.suppress(ValueError):
            certificate.parse(bytes(damaged))


def test_many_endpoints_end_within_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    real, release = socket.getaddrinfo, threading.Event()

    def stuck(host: Any, *args: Any, **options: Any) -> Any:
        if host == "stuck.example.org":
            release.wait(30)
        return real("127.0.0.1", *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    with server(lambda stream: None) as port:
        wanted = [
            want(port, host="stuck.example.org" if number % 10 == 0 else "127.0.0.1", tries=1)
            for number in range(60)
        ]
        began = time.monotonic()
        findings, records = endpoint_check.check(wanted, 6.0)
        took = time.monotonic() - began
        release.set()
    assert took < 25  # and not the 30 seconds of those that are stuck
    assert [record["state"] for record in records].count("answered") == 54
    late = [finding for finding in findings if finding.severity != "ok"]
    assert len(late) == 6
    assert all(finding.unknown and finding.id == "endpoint.unfinished" for finding in late)
    assert all("resolving the name" in finding.why for finding in late)


def test_what_is_slow_does_not_hold_up_the_others() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener, http_server() as port:
        silent = want(listener.getsockname()[1], protocol="http", timeout=1.0)
        began = time.monotonic()
        findings, _records = endpoint_check.check([silent] * 12 + [want(port, protocol="http")], 30.0)
        took = time.monotonic() - began
    assert [finding.id for finding in findings] == ["endpoint.silent"] * 12 + ["endpoint.reachable"]
    assert took < 11  # one after the other they would take 12 seconds
