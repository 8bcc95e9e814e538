#!/usr/bin/python
# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: local_certificate
short_description: Keep a server certificate from a local authority
version_added: 0.1.0
description:
  - Makes a local certificate authority once, and a server certificate from it, by the C(openssl) command.
  - The certificate is issued again when it is missing, does not belong to its key or to the authority, has
    other names, or ends soon. Its key is made once and kept.
  - The authority is never replaced silently, because every client would have to trust it anew.
  - Keys are EC P-256. The chain passes strict X.509 checks, such as those of Python 3.13.
author:
  - The Citadel authors (@citadel-llm)
extends_documentation_fragment:
  - citadel.llm.attributes
requirements:
  - openssl 1.1.1 or newer on the managed host
options:
  ca_key:
    description: Path of the authority's private key, kept at mode 0600.
    type: path
    required: true
  ca_certificate:
    description: Path of the authority's certificate, which clients are given to trust.
    type: path
    required: true
  ca_common_name:
    description: The name of a new authority. An existing one keeps its name.
    type: str
    default: Citadel local authority
  ca_regenerate:
    description:
      - Makes a new authority where the present one cannot be used (it has ended or ends within
        O(renew_before_days), its key is another one, or a file is damaged). Without this, that is an error.
      - An authority that is fine is kept.
    type: bool
    default: false
  key:
    description: Path of the server's private key.
    type: path
    required: true
  certificate:
    description: Path of the server's full chain (its certificate, then the authority's), at mode 0644.
    type: path
    required: true
  common_name:
    description: The subject of the certificate, usually the host's name.
    type: str
    required: true
  subject_alt_names:
    description: The names and addresses that the server is reached by, as C(DNS:name) or C(IP:address).
    type: list
    elements: str
    required: true
  for_clients:
    description: Whether the host also shows the certificate to servers that ask for one.
    type: bool
    default: false
  valid_days:
    description: For how many days a certificate is issued, 825 at most. It never outlives the authority.
    type: int
    default: 825
  renew_before_days:
    description: How many days before its end a certificate is issued again.
    type: int
    default: 30
  owner:
    description:
      - Name or number of the user who owns O(key) and O(certificate).
      - In check mode, a user that does not exist yet is taken for one that will.
    type: str
  group:
    description: The same for the group.
    type: str
  mode:
    description: Mode of O(key), octal in quotes. It must not let others read it.
    type: raw
    default: "0600"
"""

EXAMPLES = r"""
- name: Keep the certificate of the edge
  citadel.llm.local_certificate:
    ca_key: /opt/citadel/secrets/ca.key
    ca_certificate: /opt/citadel/config/ca.crt
    key: /opt/citadel/secrets/edge.key
    certificate: /opt/citadel/config/edge.crt
    common_name: llm.example.org
    subject_alt_names:
      - DNS:llm.example.org
      - IP:192.0.2.10
    group: citadel
    mode: "0640"
"""

RETURN = r"""
reasons:
  description: Why the authority or the certificate was issued, empty where neither was.
  returned: success
  type: list
  elements: str
  sample: [it ends on 2026-02-01]
ca_changed:
  description: Whether the authority was made, so that clients have to be given its certificate.
  returned: success
  type: bool
certificate_changed:
  description: Whether the server's certificate or key has new content, so that servers have to load it.
  returned: success
  type: bool
not_after:
  description: The UTC date on which the certificate ends, null where it does not exist yet in check mode.
  returned: success
  type: str
  sample: "2028-04-05"
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.citadel.llm.plugins.module_utils import _local_certificate as backend
from ansible_collections.citadel.llm.plugins.module_utils import _openssl
from ansible_collections.citadel.llm.plugins.module_utils._directory_tree import TreeError, clean_path
from ansible_collections.citadel.llm.plugins.module_utils._files import parse_mode

MAXIMUM_DAYS = 825


def wanted_of(params: dict[str, Any]) -> backend.Wanted:
    """The wanted state, from the module's parameters. Raises CertificateError."""
    days, renew = params["valid_days"], params["renew_before_days"]
    if not 1 <= days <= MAXIMUM_DAYS:
        raise backend.CertificateError(
            f"valid_days is {days}: give 1 to {MAXIMUM_DAYS}, clients refuse longer ones"
        )
    if not 0 <= renew < days:
        raise backend.CertificateError(
            f"renew_before_days is {renew}: give 0 to less than valid_days ({days})"
        )
    if not params["subject_alt_names"]:
        raise backend.CertificateError(
            "subject_alt_names is empty: give at least one, clients look at nothing else"
        )
    names = ("ca_key", "ca_certificate", "key", "certificate")
    try:
        paths = {name: clean_path(params[name]) for name in names}
        mode = parse_mode(params["mode"])
        alt_names = {_openssl.normalise_alt_name(name) for name in params["subject_alt_names"]}
        common_names = [
            _openssl.check_common_name(params[name]) for name in ("common_name", "ca_common_name")
        ]
    except (TreeError, ValueError) as error:
        raise backend.CertificateError(str(error)) from error
    if mode & 0o137 or not mode & 0o400:
        raise backend.CertificateError(
            f"mode {params['mode']!r} is not fit for a private key: give '0600' or '0640'"
        )
    if len(set(paths.values())) < len(names):
        raise backend.CertificateError(f"two of {', '.join(names)} are the same path: give each its own")
    return backend.Wanted(
        **paths,
        ca_common_name=common_names[1],
        ca_regenerate=params["ca_regenerate"],
        common_name=common_names[0],
        subject_alt_names=tuple(sorted(alt_names)),
        valid_days=days,
        renew_before_days=renew,
        owner=params["owner"],
        group=params["group"],
        mode=mode,
        for_clients=params["for_clients"],
    )


def diffs(wanted: backend.Wanted, plan: backend.Plan) -> list[dict[str, Any]]:
    """Before and after of each file, as far as it changes: never any key material."""
    now = time.time()
    entries: list[tuple[str, dict[str, str], dict[str, str]]] = []
    ca_end = plan.ca.not_after if plan.ca and not plan.ca_reason else now + backend.CA_DAYS * backend.DAY
    if plan.ca_reason:
        after = {"subject": f"CN={wanted.ca_common_name}", "not_after": backend.day(ca_end)}
        entries.append((wanted.ca_certificate, backend.describe(plan.ca), after))
    if plan.reasons:
        after = {
            "subject": f"CN={wanted.common_name}",
            "not_after": backend.day(now + backend.leaf_days(wanted, ca_end, now) * backend.DAY),
            "subject_alt_names": ", ".join(wanted.subject_alt_names),
        }
        entries.append((wanted.certificate, backend.describe(plan.leaf), after))
    if plan.rewrite_chain:
        entries.append((wanted.certificate, {"chain": "incomplete"}, {"chain": "complete"}))
    for path, new in ((wanted.ca_key, plan.new_ca_key), (wanted.key, plan.new_key)):
        if new:
            entries.append((path, {}, {"key": "new EC P-256 key"}))
    entries += [(path, before, after) for path, (before, after) in plan.access.items()]
    return [
        {"before_header": path, "after_header": path, "before": before, "after": after}
        for path, before, after in entries
    ]


def run(module: AnsibleModule) -> dict[str, Any]:
    """Bring the certificates to their state and return the module's result. Raises CertificateError."""
    wanted = wanted_of(module.params)
    plan = backend.plan(wanted, check=module.check_mode)
    for warning in plan.warnings:
        module.warn(warning)
    leaf = plan.leaf
    if plan.changed and not module.check_mode:
        leaf = backend.apply(wanted, plan)
    return {
        "changed": plan.changed,
        "reasons": [reason for reason in (plan.ca_reason, *plan.reasons) if reason],
        "ca_changed": bool(plan.ca_reason),
        "certificate_changed": bool(plan.reasons or plan.new_key or plan.rewrite_chain),
        "not_after": backend.day(leaf.not_after) if leaf else None,
        "diff": diffs(wanted, plan),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "ca_key": {"type": "path", "required": True, "no_log": False},
            "ca_certificate": {"type": "path", "required": True},
            "ca_common_name": {"type": "str", "default": "Citadel local authority"},
            "ca_regenerate": {"type": "bool", "default": False},
            "key": {"type": "path", "required": True, "no_log": False},
            "certificate": {"type": "path", "required": True},
            "common_name": {"type": "str", "required": True},
            "subject_alt_names": {"type": "list", "elements": "str", "required": True},
            "for_clients": {"type": "bool", "default": False},
            "valid_days": {"type": "int", "default": 825},
            "renew_before_days": {"type": "int", "default": 30},
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "mode": {"type": "raw", "default": "0600"},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except backend.CertificateError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
