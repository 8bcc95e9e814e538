# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A local certificate authority, made once, and a server certificate from it, renewed when it has to be."""

from __future__ import annotations

import datetime
import os
import re
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.citadel.llm.plugins.module_utils import _files, _openssl
from ansible_collections.citadel.llm.plugins.module_utils._openssl import Certificate, OpensslError

DAY = 86400
CA_DAYS = 3650
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.DOTALL)
_UNKNOWN = -2  # the id of a user or group that does not exist yet


class CertificateError(Exception):
    """The wanted certificate is impossible, or the host stands in the way. The message holds the remedy."""


@dataclass(frozen=True)
class Wanted:
    """The wanted state: paths, names, times in days, and owner, group and mode of the server's key."""

    ca_key: str
    ca_certificate: str
    ca_common_name: str
    ca_regenerate: bool
    key: str
    certificate: str
    common_name: str
    subject_alt_names: tuple[str, ...]
    valid_days: int
    renew_before_days: int
    owner: str | None
    group: str | None
    mode: int
    for_clients: bool = False


@dataclass
class Plan:
    """What has to be done. The reasons are empty where nothing has to; descriptions are for a difference."""

    ca_reason: str = ""
    new_ca_key: bool = False
    reasons: list[str] = field(default_factory=list)
    new_key: bool = False
    rewrite_chain: bool = False
    access: dict[str, tuple[dict[str, str], dict[str, str]]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    ca: Certificate | None = None
    leaf: Certificate | None = None

    @property
    def changed(self) -> bool:
        """Whether anything has to be done."""
        return bool(self.ca_reason or self.reasons or self.new_key or self.rewrite_chain or self.access)


def describe(certificate: Certificate | None) -> dict[str, str]:
    """Subject, names and end of a certificate, for people."""
    if certificate is None:
        return {"state": "absent"}
    described = {"subject": f"CN={certificate.common_name}", "not_after": day(certificate.not_after)}
    if not certificate.is_ca:
        described["subject_alt_names"] = ", ".join(certificate.subject_alt_names)
    return described


def day(seconds: float) -> str:
    """The UTC date of a time."""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%d")


def leaf_days(wanted: Wanted, ca_end: float, now: float) -> int:
    """For how many days a certificate issued now can hold: it never outlives its authority."""
    return min(wanted.valid_days, int((ca_end - now) // DAY))


def plan(wanted: Wanted, *, check: bool, now: float | None = None) -> Plan:
    """Compare the host with what is wanted. Raises CertificateError.

    With `check`, openssl, directories, users and groups that do not exist yet count as ones that will.
    """
    moment = time.time() if now is None else now
    result = Plan()
    if not check:
        for path in (wanted.ca_key, wanted.ca_certificate, wanted.key, wanted.certificate):
            if not os.path.isdir(os.path.dirname(path)):
                raise CertificateError(f"{path}: its directory does not exist: make that first")
    _plan_access(wanted, result, check=check)
    if check and not _openssl.available():
        _plan_unseen(wanted, result)
        return result
    try:
        _plan_ca(wanted, result, moment)
        _plan_leaf(wanted, result, moment)
    except OpensslError as error:
        raise CertificateError(str(error)) from error
    return result


def _plan_unseen(wanted: Wanted, result: Plan) -> None:
    """Without openssl, which an earlier task would have installed, only missing files can be told."""
    if not os.path.exists(wanted.ca_certificate):
        result.ca_reason = "there is no authority"
        result.new_ca_key = not os.path.exists(wanted.ca_key)
    if not os.path.exists(wanted.certificate):
        result.reasons.append("there is no certificate")
        result.new_key = not os.path.exists(wanted.key)
    if os.path.exists(wanted.ca_certificate) or os.path.exists(wanted.certificate):
        result.warnings.append(
            "The command 'openssl' is not on this host: the certificates were not examined"
        )


def _plan_ca(wanted: Wanted, result: Plan, now: float) -> None:
    has_key = os.path.exists(wanted.ca_key)
    if not os.path.exists(wanted.ca_certificate):
        result.ca_reason = "there is no authority"
        result.new_ca_key = not has_key
        if has_key:
            _key_of(wanted.ca_key)
        return
    problem = _ca_problem(wanted, result, now)
    if problem is None:
        return
    if not wanted.ca_regenerate:
        raise CertificateError(
            f"{problem}: put the right file back, or set ca_regenerate: true to make a new authority,"
            " which every client then has to trust anew"
        )
    result.ca_reason = problem
    result.new_ca_key = True


def _ca_problem(wanted: Wanted, result: Plan, now: float) -> str | None:
    try:
        ca = result.ca = _openssl.read_certificate(wanted.ca_certificate)
    except OpensslError as error:
        return f"{wanted.ca_certificate} cannot be read as a certificate ({error})"
    if not ca.is_ca:
        return f"{wanted.ca_certificate} is not the certificate of an authority"
    if ca.not_after - now < DAY:
        return f"the authority {wanted.ca_certificate} ends, or has ended, on {day(ca.not_after)}"
    if os.path.exists(wanted.ca_key):
        try:
            if _openssl.public_key(wanted.ca_key) != ca.public_key:
                return f"the key {wanted.ca_key} does not belong to the authority {wanted.ca_certificate}"
        except OpensslError as error:
            return f"{wanted.ca_key} cannot be read as a key ({error})"
    if ca.not_after - now < wanted.renew_before_days * DAY:
        if wanted.ca_regenerate:
            return f"the authority ends on {day(ca.not_after)}"
        result.warnings.append(
            f"{wanted.ca_certificate} ends on {day(ca.not_after)}: ca_regenerate: true replaces the authority"
        )
    if ca.common_name != wanted.ca_common_name:
        result.warnings.append(
            f"The authority {wanted.ca_certificate} keeps its name {ca.common_name!r}, although"
            f" {wanted.ca_common_name!r} is asked for"
        )
    return None


def _key_of(path: str) -> str:
    try:
        return _openssl.public_key(path)
    except OpensslError as error:
        raise CertificateError(
            f"{path} cannot be read as a key: {error}: put the right one back, or remove it"
        ) from error


def _plan_leaf(wanted: Wanted, result: Plan, now: float) -> None:
    result.new_key = not os.path.exists(wanted.key)
    key = None if result.new_key else _key_of(wanted.key)
    result.reasons = [reason for reason in _leaf_reasons(wanted, result, key, now) if reason]
    if result.reasons and not result.ca_reason and not os.path.exists(wanted.ca_key):
        raise CertificateError(
            f"a certificate has to be issued ({result.reasons[0]}), but the key {wanted.ca_key} is missing:"
            f" put it back, or remove {wanted.ca_certificate} as well to make a new authority"
        )
    if not result.reasons:
        chain = [_read(wanted.certificate), _read(wanted.ca_certificate)]
        result.rewrite_chain = chain[0] != _chain(*chain)


def _leaf_reasons(wanted: Wanted, result: Plan, key: str | None, now: float) -> list[str]:
    if not os.path.exists(wanted.certificate):
        return ["there is no certificate"]
    try:
        leaf = result.leaf = _openssl.read_certificate(wanted.certificate)
    except OpensslError:
        return ["the file holds no certificate"]
    if result.ca_reason or result.ca is None:
        return ["the authority is new"]
    renewable = now + leaf_days(wanted, result.ca.not_after, now) * DAY > leaf.not_after + DAY
    old = leaf.not_after - now < wanted.renew_before_days * DAY
    problem = _openssl.verification_problem(wanted.certificate, wanted.ca_certificate)
    return [
        "its key is another one" if leaf.public_key != key else "",
        f"it is not good for a server of this authority ({problem})" if problem else "",
        f"it is for {leaf.common_name!r}" if leaf.common_name != wanted.common_name else "",
        "clients may not use it" if wanted.for_clients and not leaf.for_clients else "",
        "its names differ" if leaf.subject_alt_names != wanted.subject_alt_names else "",
        f"it ends on {day(leaf.not_after)}" if old and renewable else "",
    ]


def _plan_access(wanted: Wanted, result: Plan, *, check: bool) -> None:
    uid, gid = resolve_ids(wanted, check=check)
    for path, (mode, path_uid, path_gid) in _access(wanted, uid, gid).items():
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(status.st_mode):
            raise CertificateError(
                f"{path} is not a plain file: move it away, or name the file that is meant"
            )
        before: dict[str, str] = {}
        after: dict[str, str] = {}
        if path_uid not in (-1, status.st_uid):
            before["owner"], after["owner"] = _files.owner_name(status.st_uid), str(wanted.owner)
        if path_gid not in (-1, status.st_gid):
            before["group"], after["group"] = _files.group_name(status.st_gid), str(wanted.group)
        if stat.S_IMODE(status.st_mode) != mode:
            before["mode"], after["mode"] = _files.format_mode(status.st_mode), _files.format_mode(mode)
        if after:
            result.access[path] = (before, after)


def _access(wanted: Wanted, uid: int, gid: int) -> Mapping[str, tuple[int, int, int]]:
    return {
        wanted.ca_key: (0o600, -1, -1),
        wanted.ca_certificate: (0o644, -1, -1),
        wanted.key: (wanted.mode, uid, gid),
        wanted.certificate: (0o644, uid, gid),
    }


def resolve_ids(wanted: Wanted, *, check: bool) -> tuple[int, int]:
    """uid and gid of the key. Raises CertificateError for names that do not exist, unless `check`."""
    ids = []
    for resolve, name in ((_files.resolve_owner, wanted.owner), (_files.resolve_group, wanted.group)):
        try:
            ids.append(resolve(name))
        except LookupError as error:
            if not check:
                raise CertificateError(str(error.args[0])) from error
            ids.append(_UNKNOWN)
    return ids[0], ids[1]


def _read(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as stream:
        return stream.read()


def _chain(leaf: str, ca: str) -> str:
    """The first certificate of each text, one after the other."""
    found = [match.group(0).rstrip("\n") + "\n" for match in map(_PEM.search, (leaf, ca)) if match]
    return "".join(found)


def apply(wanted: Wanted, todo: Plan) -> Certificate:
    """Do what is planned and return the server's certificate. Raises CertificateError.

    A key is written before its certificate, so that an interrupted run can be run again.
    """
    try:
        return _apply(wanted, todo)
    except OpensslError as error:
        raise CertificateError(str(error)) from error
    except OSError as error:
        raise CertificateError(
            f"{error.filename}: {error.strerror}: remove the cause and run again"
        ) from error


def _apply(wanted: Wanted, todo: Plan) -> Certificate:
    uid, gid = resolve_ids(wanted, check=False)
    access = _access(wanted, uid, gid)

    def write(path: str, text: str) -> None:
        mode, path_uid, path_gid = access[path]
        _files.write_atomic(path, text.encode(), mode=mode, uid=path_uid, gid=path_gid)

    for path in todo.access:
        mode, path_uid, path_gid = access[path]
        _files.set_access(path, mode=mode, uid=path_uid, gid=path_gid)
    if todo.new_ca_key:
        write(wanted.ca_key, _openssl.new_key())
    if todo.ca_reason:
        write(wanted.ca_certificate, _openssl.issue_ca(wanted.ca_key, wanted.ca_common_name, CA_DAYS))
    if todo.new_key:
        write(wanted.key, _openssl.new_key())
    if todo.reasons:
        write(wanted.certificate, _chain(_issue(wanted), _read(wanted.ca_certificate)))
        problem = _openssl.verification_problem(wanted.certificate, wanted.ca_certificate)
        if problem:
            raise CertificateError(
                f"the authority {wanted.ca_certificate} cannot issue a certificate that strict clients accept"
                f" ({problem}): use another authority"
            )
    elif todo.rewrite_chain:
        write(wanted.certificate, _chain(_read(wanted.certificate), _read(wanted.ca_certificate)))
    return _openssl.read_certificate(wanted.certificate)


def _issue(wanted: Wanted) -> str:
    ca = _openssl.read_certificate(wanted.ca_certificate)
    return _openssl.issue_server(
        wanted.key,
        wanted.common_name,
        wanted.subject_alt_names,
        ca_key=wanted.ca_key,
        ca_certificate=wanted.ca_certificate,
        days=leaf_days(wanted, ca.not_after, time.time()),
        for_clients=wanted.for_clients,
    )
