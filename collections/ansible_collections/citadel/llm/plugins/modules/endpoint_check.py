#!/usr/bin/python
# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See whether a host reaches its neighbours, and how fast."""

from __future__ import annotations

DOCUMENTATION = r"""
module: endpoint_check
short_description: See whether a host reaches its neighbours, and how fast
version_added: 0.1.0
author: The Citadel authors (@citadel-llm)
description:
  - Looks at many endpoints at once from the server, within one deadline. For each, the name is resolved,
    several TCP connections are opened at the same time and timed, and one more speaks the protocol.
  - Refused, filtered (no answer at all), unreachable, unresolvable, silent (accepts, then says nothing) and
    slow are told apart, and so are certificates that expired, expire soon, are not valid yet, are for
    another name, or are not trusted.
extends_documentation_fragment: [citadel.llm.attributes.readonly]
options:
  endpoints:
    description: What to look at.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: A name for people, V(host:port) by default.
        type: str
      host:
        description: Host name or address.
        type: str
        required: true
      port:
        description: TCP port.
        type: int
        required: true
      protocol:
        description: What to speak. V(tcp) connects only, V(tls) ends with the handshake.
        type: str
        choices: [tcp, http, https, tls, postgresql]
        default: tcp
      path:
        description: The path to get over HTTP.
        type: str
        default: /
      expect_status:
        description: The accepted HTTP status codes, by default all below 500.
        type: list
        elements: int
      user:
        description: With V(postgresql), the user to start a session as, up to the question for the password.
          Without one, the encryption is asked for and no session is started.
        type: str
      database:
        description: With V(postgresql), the database to start a session in, by default named like the user.
        type: str
      timeout:
        description: Seconds that connecting, and then each step of the protocol, may take.
        type: float
        default: 2
      tries:
        description: How many connections are timed.
        type: int
        default: 3
      warn_ms:
        description: From how many milliseconds on a mean connection, or the protocol's answer, is slow.
        type: float
        default: 250
      verify:
        description: Whether the certificate has to be trusted and for this name. By default it has to with
          V(https) and V(tls), and has not with V(postgresql), whose clients do not ask either.
        type: bool
      ca_file:
        description: A file on the host with the certificates of trusted authorities, instead of the system's.
        type: path
      server_name:
        description: The name that the certificate has to be for, by default O(endpoints[].host).
        type: str
      certificate_warn_days:
        description: From how many days before its end on a certificate is a deviation.
        type: float
        default: 21
      severity:
        description: What it means when the endpoint cannot be used.
        type: str
        choices: [deviation, blocking]
        default: blocking
  deadline:
    description: Seconds for everything. What is not finished by then is told as unknown.
    type: float
    default: 10
seealso:
  - module: citadel.llm.host_check
"""

EXAMPLES = r"""
- name: The neighbours can be reached
  citadel.llm.endpoint_check:
    endpoints:
      - {name: database, host: 192.168.10.35, port: 5432, protocol: postgresql}
      - {name: vectors, host: 192.168.10.30, port: 6333, protocol: http, path: /readyz, expect_status: [200]}
      - {name: metrics, host: 192.168.10.37, port: 9090, protocol: http, path: /-/ready, severity: deviation}
      - {name: web, host: 192.168.10.38, port: 443, protocol: https, ca_file: /etc/ssl/certs/site-ca.pem}
  register: checked
"""

RETURN = r"""
findings:
  description: What was found, with C(id), C(severity) (V(ok), V(deviation) or V(blocking)), C(subject),
    C(expected), C(found), C(why), C(remedy), and C(unknown), whether the check could not look.
  returned: always
  type: list
  elements: dict
  sample:
    - id: endpoint.refused
      severity: blocking
      subject: database
      expected: postgresql at 192.168.10.35:5432
      found: "refused: Connection refused"
      why: The host answers, and nothing listens on this port (or a firewall rejects it).
      remedy: Start the service there, or correct the port in the inventory.
      unknown: false
verdict:
  description: V(ready), V(deviations), V(blocked), or V(unknown) where nothing decisive could be found out.
  returned: always
  type: str
counts:
  description: How many findings there are of each severity.
  returned: always
  type: dict
endpoints:
  description:
    - The figures, with C(name), C(host), C(port), C(protocol), C(state), C(detail), C(address),
      C(resolve_ms), C(latency_ms) (C(min), C(avg), C(max)), C(loss_percent), C(answer_ms) (the whole
      protocol with its own connection), C(status) (of HTTP) and C(tls) (C(version), C(not_before),
      C(not_after), C(days_left), C(is_early), C(names), C(name_matches), C(trusted), C(problem)).
    - C(state) is V(answered), V(refused), V(filtered), V(unreachable), V(unresolvable), V(silent),
      V(wrong_answer), V(tls_failed) or V(unfinished).
  returned: always
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.citadel.llm.plugins.module_utils._check_arguments import ENDPOINTS, endpoints_problem
from ansible_collections.citadel.llm.plugins.module_utils._endpoint_check import check
from ansible_collections.citadel.llm.plugins.module_utils._findings import as_dicts, summarise


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ENDPOINTS, supports_check_mode=True)
    problem = endpoints_problem(module.params)
    if problem:
        module.fail_json(msg=problem)
    findings, endpoints = check(module.params["endpoints"], module.params["deadline"])
    module.exit_json(changed=False, findings=as_dicts(findings), endpoints=endpoints, **summarise(findings))


if __name__ == "__main__":
    main()
