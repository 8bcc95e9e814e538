# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One network endpoint: its name, several connections at once, and what its protocol answers."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple, Union

from ansible_collections.citadel.llm.plugins.module_utils import _endpoint_check_certificate as certificates

if TYPE_CHECKING:  # read where they are needed: most endpoints are asked for a connection alone
    import ssl

    Stream = Union[socket.socket, ssl.SSLSocket]

ANSWERED = "answered"
REFUSED = "refused"
FILTERED = "filtered"
UNRESOLVABLE = "unresolvable"
UNREACHABLE = "unreachable"
SILENT = "silent"
WRONG_ANSWER = "wrong_answer"
TLS_FAILED = "tls_failed"

SSL_REQUEST = struct.pack(">II", 8, 80877103)
PROTOCOL_3 = 196608
WRONG_NAME_CODES = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
TIME_CODES = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
Address = Tuple[int, Any]


class UnexpectedAnswerError(Exception):
    """The peer's answer is not that of the protocol, or says that it cannot serve."""


class Probe:
    """Looks at one endpoint. ``record`` fills while it goes on, so that an unfinished look tells its step."""

    def __init__(self, wanted: Dict[str, Any], deadline: float) -> None:
        self.wanted, self.deadline = wanted, deadline
        self.protocol = wanted.get("protocol") or "tcp"
        self.server_name = wanted.get("server_name") or wanted["host"]
        self.record: Dict[str, Any] = {
            "name": wanted.get("name") or "%s:%d" % (wanted["host"], wanted["port"]),
            "host": wanted["host"],
            "port": wanted["port"],
            "protocol": self.protocol,
            "step": "resolving the name",
            "state": None,
            "detail": None,
            "address": None,
            "resolve_ms": None,
            "latency_ms": {"min": None, "avg": None, "max": None},
            "loss_percent": None,
            "answer_ms": None,
            "status": None,
            "tls": None,
        }

    def run(self) -> Dict[str, Any]:
        """Everything, in order; the record, whose ``state`` is set."""
        addresses = self._resolve()
        for address in addresses:
            self._connect_often(address)
            if self.record["state"] is None:
                self._speak(address)
                break
        self.record["step"] = None
        return self.record

    def _left(self) -> float:
        return max(0.05, min(float(self.wanted.get("timeout") or 2.0), self.deadline - time.monotonic()))

    def _resolve(self) -> List[Address]:
        began = time.monotonic()
        try:
            found = socket.getaddrinfo(self.wanted["host"], self.wanted["port"], type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            reason = error.strerror if isinstance(error, socket.gaierror) else str(error)
            self.record.update(state=UNRESOLVABLE, detail=reason)
            return []
        self.record["resolve_ms"] = _ms(began)
        return [(int(family), address) for family, _type, _protocol, _name, address in found]

    def _connect_often(self, address: Address) -> None:
        """Opens all connections at once and times them; sets ``state`` where none comes about."""
        self.record.update(step="connecting", address=address[1][0], state=None, detail=None)
        times, errors = connect_at_once(address, int(self.wanted.get("tries") or 3), self._left())
        tries = len(times) + len(errors)
        self.record["loss_percent"] = round(100.0 * len(errors) / tries, 1)
        if times:
            average = sum(times) / len(times)
            figures = {"min": min(times), "avg": average, "max": max(times)}
            self.record["latency_ms"] = {name: round(1000 * value, 3) for name, value in figures.items()}
            return
        for code, state in ((errno.ECONNREFUSED, REFUSED), (errno.ETIMEDOUT, FILTERED)):
            if code in errors:
                self.record["state"] = state
                break
        else:
            self.record["state"] = UNREACHABLE
        self.record["detail"] = os.strerror(errors[0])

    def _speak(self, address: Address) -> None:
        self.record["step"] = "waiting for an answer"
        began = time.monotonic()
        try:
            self.record["state"] = ANSWERED
            if self.protocol != "tcp":
                self._protocol(address)
                self.record["answer_ms"] = _ms(began)
        except socket.timeout:
            self.record.update(state=SILENT, detail="no answer in time")
        except UnexpectedAnswerError as error:
            self.record.update(state=WRONG_ANSWER, detail=str(error))
        except OSError as error:
            state, detail = _failure(error)
            self.record.update(state=state, detail=detail)

    def _protocol(self, address: Address) -> None:
        speak = {"http": self._http, "https": self._https, "tls": self._tls, "postgresql": self._postgresql}
        speak[self.protocol](address)

    def _open(self, address: Address) -> socket.socket:
        stream = socket.socket(address[0], socket.SOCK_STREAM)
        stream.settimeout(self._left())
        try:
            stream.connect(address[1])
        except OSError:
            stream.close()
            raise
        return stream

    def _http(self, address: Address) -> None:
        with self._open(address) as stream:
            self._get(stream)

    def _https(self, address: Address) -> None:
        with self._encrypted(address) as stream:
            self._get(stream)

    def _tls(self, address: Address) -> None:
        self._encrypted(address).close()

    def _get(self, stream: Stream) -> None:
        host = "[%s]" % self.wanted["host"] if ":" in self.wanted["host"] else self.wanted["host"]
        lines = (
            "GET %s HTTP/1.1" % (self.wanted.get("path") or "/"),
            "Host: %s:%d" % (host, self.wanted["port"]),
            "User-Agent: citadel-check",
            "Accept: */*",
            "Connection: close",
        )
        from http.client import HTTPException, HTTPResponse

        stream.sendall("".join(line + "\r\n" for line in (*lines, "")).encode("ascii"))
        response = HTTPResponse(stream)
        try:
            response.begin()
        except HTTPException as error:
            raise UnexpectedAnswerError(str(error) or type(error).__name__) from error
        self.record["status"] = response.status
        accepted = self.wanted.get("expect_status")
        if response.status not in accepted if accepted else response.status >= 500:
            raise UnexpectedAnswerError("HTTP status %d" % response.status)

    def _verifies(self) -> bool:
        verify = self.wanted.get("verify")
        return self.protocol != "postgresql" if verify is None else bool(verify)

    def _encrypted(self, address: Address) -> ssl.SSLSocket:
        """A TLS connection, verified where that is wanted and possible; what is wrong goes to the record."""
        import ssl

        context, problem = self._verifying_context()
        if context is not None:
            try:
                stream = self._handshake(self._open_for_tls(address), context)
            except ssl.SSLCertVerificationError as error:
                problem = error
            else:
                self._note_certificate(stream, trusted=True)
                return stream
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        stream = self._handshake(self._open_for_tls(address), context)
        self._note_certificate(stream, trusted=None, problem=problem)
        return stream

    def _verifying_context(self) -> Tuple[Optional[ssl.SSLContext], Optional[OSError]]:
        """None where nothing is to be verified, or where that is not possible."""
        if not self._verifies():
            return None, None
        import ssl

        try:
            return ssl.create_default_context(cafile=self.wanted.get("ca_file")), None
        except OSError as error:
            return None, error

    def _open_for_tls(self, address: Address) -> socket.socket:
        stream = self._open(address)
        if self.protocol == "postgresql":
            stream.sendall(SSL_REQUEST)
            if _read(stream, 1) != b"S":
                stream.close()
                raise UnexpectedAnswerError("the server changed its mind about TLS")
        return stream

    def _handshake(self, stream: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
        try:
            return context.wrap_socket(stream, server_hostname=self.server_name)
        except (OSError, ValueError):
            stream.close()
            raise

    def _note_certificate(
        self, stream: ssl.SSLSocket, trusted: Optional[bool], problem: Optional[OSError] = None
    ) -> None:
        import ssl

        tls: Dict[str, Any] = {
            "version": stream.version(),
            "not_before": None,
            "not_after": None,
            "days_left": None,
            "is_early": None,
            "names": [],
            "name_matches": None,
            "trusted": trusted,
            "problem": None,
        }
        self.record["tls"] = tls
        try:
            certificate = certificates.parse(stream.getpeercert(binary_form=True) or b"")
        except ValueError as error:
            tls["problem"] = str(error)
        else:
            tls["not_before"], tls["not_after"] = _iso(certificate.not_before), _iso(certificate.not_after)
            tls["days_left"] = round((certificate.not_after - time.time()) / 86400, 1)
            tls["is_early"] = certificate.not_before > time.time()
            tls["names"] = certificate.names
            tls["name_matches"] = certificate.matches(self.server_name)
        if isinstance(problem, ssl.SSLCertVerificationError):
            tls["problem"] = problem.verify_message
            tls["trusted"] = problem.verify_code in WRONG_NAME_CODES
            if problem.verify_code in WRONG_NAME_CODES:
                tls["name_matches"] = False
            if problem.verify_code in TIME_CODES:  # whatever else is wrong has not been looked at
                tls["trusted"] = None
        elif problem is not None:
            tls["problem"] = "%s: %s" % (self.wanted.get("ca_file"), problem.strerror or problem)

    def _postgresql(self, address: Address) -> None:
        stream: Stream = self._open(address)
        with stream:
            stream.sendall(SSL_REQUEST)
            answer = _read(stream, 1)
            if answer not in (b"S", b"N"):
                raise UnexpectedAnswerError("this is no PostgreSQL server, it answered %r" % answer)
            if answer == b"N":
                self.record["tls"] = None
                self._start_up(stream)
                return
        with self._encrypted(address) as encrypted:
            self._start_up(encrypted)

    def _start_up(self, stream: Stream) -> None:
        """Asks to be let in where a user is given, up to the question for a password."""
        user = self.wanted.get("user")
        if not user:
            return
        words = ["user", user, "database", self.wanted.get("database") or user]
        body = (
            struct.pack(">I", PROTOCOL_3) + b"".join(word.encode("utf-8") + b"\0" for word in words) + b"\0"
        )
        stream.sendall(struct.pack(">I", len(body) + 4) + body)
        kind = _read(stream, 1)
        if kind == b"E":
            (length,) = struct.unpack(">I", _read(stream, 4))
            raise UnexpectedAnswerError(_server_message(_read(stream, min(length - 4, 4096))))
        if kind != b"R":
            raise UnexpectedAnswerError("this is no PostgreSQL server, it answered %r" % kind)


def _failure(error: OSError) -> Tuple[str, str]:
    """State and reason of a conversation that broke off."""
    import ssl

    if isinstance(error, ssl.SSLError):
        return TLS_FAILED, error.reason or str(error)
    return WRONG_ANSWER, error.strerror or str(error)


def connect_at_once(address: Address, tries: int, timeout: float) -> Tuple[List[float], List[int]]:
    """Seconds that each connection took, and the error numbers of those that did not come about."""
    poll = select.poll()
    waiting: Dict[int, Tuple[socket.socket, float]] = {}
    times: List[float] = []
    errors: List[int] = []
    for _try in range(tries):
        stream = socket.socket(address[0], socket.SOCK_STREAM)
        stream.setblocking(False)
        began = time.monotonic()
        code = stream.connect_ex(address[1])
        if code in (0, errno.EINPROGRESS):
            waiting[stream.fileno()] = (stream, began)
            poll.register(stream, select.POLLOUT)
        else:
            stream.close()
            errors.append(code)
    end, left = time.monotonic() + timeout, timeout
    while waiting and left >= 0:
        left = end - time.monotonic()  # once more when it has passed: a busy machine may have kept us waiting
        for handle, _event in poll.poll(max(0, int(1000 * left) + 1)):
            now = time.monotonic()
            stream, began = waiting.pop(handle)
            poll.unregister(handle)
            code = stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            stream.close()
            if code:
                errors.append(code)
            else:
                times.append(now - began)
    for stream, _began in waiting.values():
        stream.close()
        errors.append(errno.ETIMEDOUT)
    return times, errors


def _read(stream: Stream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = stream.recv(count - len(data))
        if not chunk:
            raise UnexpectedAnswerError("the server closed the connection")
        data += chunk
    return data


def _server_message(body: bytes) -> str:
    fields = {field[:1]: field[1:].decode("utf-8", "replace") for field in body.split(b"\0") if field}
    return "%s (%s)" % (fields.get(b"M", "an error"), fields.get(b"C", "no code"))


def _ms(began: float) -> float:
    return round(1000 * (time.monotonic() - began), 3)


def _iso(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
