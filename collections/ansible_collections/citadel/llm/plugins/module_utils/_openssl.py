# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and certificates by the openssl command. Private keys go through pipes and files, never argv."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

_COMMON_NAME = re.compile(r"\A[^\x00-\x1f\x7f$\\#\"';=,+<>]{1,64}\Z")
_DNS_NAME = re.compile(
    r"\A(?=.{1,253}\Z)(?:\*\.)?(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\Z"
)
_NAMES = "multiline,utf8,-esc_msb,-align"
_CA_EXTENSIONS = """
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
_SERVER_EXTENSIONS = """
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class OpensslError(Exception):
    """The openssl command is missing, or refused something. The message holds its words."""


@dataclass(frozen=True)
class Certificate:
    """What a certificate says. Times are seconds since the epoch, names are normalised and sorted."""

    common_name: str
    issuer: str
    subject_alt_names: tuple[str, ...]
    not_after: int
    public_key: str
    is_ca: bool
    for_clients: bool = False


def check_common_name(name: str) -> str:
    """The name itself. Raises ValueError where openssl's configuration or X.509 cannot hold it."""
    if not _COMMON_NAME.match(name) or name != name.strip():
        raise ValueError(
            f"common name {name!r} is not usable: write 1 to 64 characters, none of $ \\ # \" ' ; = , + < >"
        )
    return name


def normalise_alt_name(name: str) -> str:
    """``DNS:name`` in lower case, ``IP:address`` in its shortest form. Raises ValueError for others."""
    kind, _colon, value = name.partition(":")
    if kind.upper() == "DNS" and _DNS_NAME.match(value.lower()):
        return f"DNS:{value.lower()}"
    if kind.upper() == "IP":
        try:
            return f"IP:{ipaddress.ip_address(value)}"
        except ValueError:
            pass
    raise ValueError(
        f"subject alternative name {name!r} is not usable:"
        " write DNS:host.example.org, DNS:*.example.org or IP:192.0.2.1"
    )


def available() -> bool:
    """Whether the openssl command is on the host."""
    return shutil.which("openssl") is not None


def run(arguments: Sequence[str], *, data: str = "") -> str:
    """What the openssl command prints on its standard output. Raises OpensslError."""
    try:
        result = subprocess.run(
            ["openssl", *arguments],
            input=data.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
            # Only the given authority counts: the host's trust store is kept out.
            env={**os.environ, "LC_ALL": "C", "SSL_CERT_DIR": "/dev/null", "SSL_CERT_FILE": "/dev/null"},
        )
    except FileNotFoundError as error:
        raise OpensslError(
            "the command 'openssl' is not on this host: install the package openssl"
        ) from error
    if result.returncode != 0:
        words = result.stderr.decode(errors="replace").strip()
        raise OpensslError(f"openssl {arguments[0]} failed: {words or 'without a word'}")
    return result.stdout.decode(errors="replace")


def new_key() -> str:
    """A new EC P-256 private key in PEM form (PKCS #8)."""
    return run(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])


def public_key(key_path: str) -> str:
    """The public half of a private key file, as PEM. Raises OpensslError where it is no plain key."""
    return run(["pkey", "-in", key_path, "-pubout", "-passin", "pass:"]).strip()


def read_certificate(path: str) -> Certificate:
    """The first certificate of a PEM file. Raises OpensslError where there is none."""
    text = run([*f"x509 -noout -subject -issuer -enddate -pubkey -nameopt {_NAMES} -in".split(), path])
    extensions = run(["x509", "-in", path, "-noout", "-text", "-certopt", "no_pubkey,no_sigdump"])
    subject, _issuer_word, issuer = text.partition("issuer=")
    end = re.search(r"^notAfter=(.*)$", text, re.MULTILINE)
    key = re.search(r"-----BEGIN PUBLIC KEY-----.*-----END PUBLIC KEY-----", text, re.DOTALL)
    if end is None or key is None:
        raise OpensslError(f"{path}: openssl printed neither end nor key of the certificate")
    return Certificate(
        common_name=_common_name(subject),
        issuer=_common_name(issuer),
        subject_alt_names=_alt_names(extensions),
        not_after=int(ssl.cert_time_to_seconds(end.group(1).strip())),
        public_key=key.group(0),
        is_ca=re.search(r"\bCA:TRUE\b", extensions) is not None,
        for_clients="TLS Web Client Authentication" in extensions,
    )


def _common_name(text: str) -> str:
    match = re.search(r"^\s*commonName\s*= ?(.*)$", text, re.MULTILINE)
    return match.group(1) if match else ""


def _alt_names(text: str) -> tuple[str, ...]:
    match = re.search(r"X509v3 Subject Alternative Name:[^\n]*\n\s*([^\n]*)", text)
    names = []
    for word in match.group(1).split(", ") if match else []:
        name = word.strip().replace("IP Address:", "IP:")
        try:
            names.append(normalise_alt_name(name))
        except ValueError:
            names.append(name)  # a kind that is never asked for, so that it counts as a difference
    return tuple(sorted(names))


def issue_ca(key_path: str, common_name: str, days: int) -> str:
    """A self-signed authority certificate for the key, in PEM form."""
    config = _config(common_name, _CA_EXTENSIONS)
    with _Scratch(config=config) as scratch:
        return run(
            [
                *f"req -x509 -new -sha256 -extensions extensions -days {days}".split(),
                *("-set_serial", _serial(), "-key", key_path, "-config", scratch["config"]),
            ]
        )


def issue_server(
    key_path: str,
    common_name: str,
    alt_names: Sequence[str],
    *,
    ca_key: str,
    ca_certificate: str,
    days: int,
    for_clients: bool = False,
) -> str:
    """A server certificate for the key, signed by the authority, in PEM form; it may serve clients too."""
    extensions = _SERVER_EXTENSIONS
    if for_clients:
        extensions = extensions.replace("serverAuth", "serverAuth, clientAuth")
    if alt_names:
        extensions += f"subjectAltName = {', '.join(alt_names)}\n"
    config = _config(common_name, extensions)
    with _Scratch(config=config) as scratch:
        request = run(["req", "-new", "-sha256", "-key", key_path, "-config", scratch["config"]])
        return run(
            [
                *f"x509 -req -sha256 -extensions extensions -days {days} -set_serial {_serial()}".split(),
                *("-CA", ca_certificate, "-CAkey", ca_key, "-passin", "pass:", "-extfile", scratch["config"]),
            ],
            data=request,
        )


def verification_problem(certificate: str, ca_certificate: str) -> str | None:
    """Why a strict check of the server certificate against the authority fails, None where it passes.

    Whether the certificates have ended does not count.
    """
    try:
        run(
            [
                *"verify -x509_strict -no_check_time -purpose sslserver -CAfile".split(),
                ca_certificate,
                certificate,
            ]
        )
    except OpensslError as error:
        return str(error)
    return None


def _serial() -> str:
    return hex(secrets.randbits(127) | 1 << 126)  # positive and 128 bits at most, never 0


def _config(common_name: str, extensions: str) -> str:
    return (
        "[req]\nprompt = no\nutf8 = yes\nstring_mask = utf8only\ndistinguished_name = name\n"
        f"[name]\nCN = {common_name}\n[extensions]{extensions}"
    )


class _Scratch:
    """Files with the given contents in a private directory that goes away."""

    def __init__(self, **contents: str) -> None:
        self._contents = contents
        self._directory = tempfile.TemporaryDirectory(prefix="citadel-openssl-")

    def __enter__(self) -> dict[str, str]:
        paths = {}
        for name, content in self._contents.items():
            paths[name] = os.path.join(self._directory.name, name)
            with open(paths[name], "w", encoding="utf-8") as stream:
                stream.write(content)
        return paths

    def __exit__(self, *_error: object) -> None:
        self._directory.cleanup()
