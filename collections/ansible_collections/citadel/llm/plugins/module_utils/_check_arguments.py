# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the checks of host, mounts, account and endpoints, and what else their values have to be."""

from __future__ import annotations

from typing import Any, Dict

Spec = Dict[str, Dict[str, Any]]

CPU: Spec = {
    "model": {"type": "str"},
    "cores_min": {"type": "int"},
    "flags": {"type": "list", "elements": "str"},
}
MEMORY: Spec = {
    "expected_gb": {"type": "float"},
    "minimum_gb": {"type": "float"},
    "ecc": {"type": "bool"},
}
HOST: Spec = {
    "cpu": {"type": "dict", "options": CPU},
    "memory": {"type": "dict", "options": MEMORY},
    "os": {"type": "list", "elements": "str"},
    "kernel_min": {"type": "str"},
    "architecture": {"type": "str"},
    "address": {"type": "str"},
    "hostname": {"type": "str"},
    "virtualization": {"type": "list", "elements": "str"},
    "python_min": {"type": "str"},
    "clock_synchronized": {"type": "bool", "default": False},
    "reboot": {"type": "bool", "default": True},
    "root": {"type": "path", "default": "/"},
}

MOUNT: Spec = {
    "path": {"type": "path", "required": True},
    "role": {"type": "str"},
    "mount_point": {"type": "bool", "default": True},
    "device": {"type": "str"},
    "device_class": {"type": "str", "choices": ["any", "nvme", "ssd", "rotational"], "default": "any"},
    "min_size_gib": {"type": "float"},
    "min_free_gib": {"type": "float"},
    "min_free_percent": {"type": "float", "default": 1.0},
    "min_free_inodes_percent": {"type": "float", "default": 1.0},
    "fstype": {"type": "list", "elements": "str"},
    "options": {"type": "list", "elements": "str"},
    "in_fstab": {"type": "bool", "default": False},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "writable_by": {"type": "str"},
}
MOUNTS: Spec = {
    "mounts": {"type": "list", "elements": "dict", "required": True, "options": MOUNT},
    "before_provisioning": {"type": "bool", "default": False},
    "timeout": {"type": "float", "default": 4.0},
    "root": {"type": "path", "default": "/"},
}

DIRECTORY: Spec = {
    "path": {"type": "path", "required": True},
    "mode": {"type": "str"},
    "access": {"type": "str", "choices": ["none", "read", "write"], "default": "read"},
}
ACCOUNT: Spec = {
    "user": {"type": "str", "required": True},
    "uid": {"type": "int"},
    "gid": {"type": "int"},
    "group": {"type": "str"},
    "groups": {"type": "list", "elements": "str"},
    "home": {"type": "path"},
    "shell": {"type": "path"},
    "password_locked": {"type": "bool", "no_log": False},
    "ssh": {"type": "bool", "default": True},
    "ssh_keys": {"type": "int", "no_log": False},
    "sudo": {"type": "str", "choices": ["none", "scoped", "full"]},
    "directories": {"type": "list", "elements": "dict", "default": [], "options": DIRECTORY},
    "before_provisioning": {"type": "bool", "default": False},
    "timeout": {"type": "float", "default": 4.0},
    "root": {"type": "path", "default": "/"},
}

ENDPOINT: Spec = {
    "name": {"type": "str"},
    "host": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "protocol": {
        "type": "str",
        "choices": ["tcp", "http", "https", "tls", "postgresql"],
        "default": "tcp",
    },
    "path": {"type": "str", "default": "/"},
    "expect_status": {"type": "list", "elements": "int"},
    "user": {"type": "str"},
    "database": {"type": "str"},
    "timeout": {"type": "float", "default": 2.0},
    "tries": {"type": "int", "default": 3},
    "warn_ms": {"type": "float", "default": 250.0},
    "verify": {"type": "bool"},
    "ca_file": {"type": "path"},
    "server_name": {"type": "str"},
    "certificate_warn_days": {"type": "float", "default": 21.0},
    "severity": {"type": "str", "choices": ["deviation", "blocking"], "default": "blocking"},
}
ENDPOINTS: Spec = {
    "endpoints": {"type": "list", "elements": "dict", "required": True, "options": ENDPOINT},
    "deadline": {"type": "float", "default": 10.0},
}


def mounts_problem(options: Dict[str, Any]) -> str:
    """What is wrong with the values of mount_check's options, or an empty string."""
    for mount in options["mounts"]:
        if not mount["path"].startswith("/"):
            return "mounts: path %r is not absolute" % mount["path"]
    return ""


def account_problem(options: Dict[str, Any]) -> str:
    """What is wrong with the values of account_check's options, or an empty string."""
    for directory in options["directories"]:
        mode = directory["mode"]
        if mode is not None and not (3 <= len(mode) <= 4 and set(mode) <= set("01234567")):
            return 'directories: mode %(mode)r of %(path)s is no octal mode such as "0700"' % directory
    return ""


def endpoints_problem(options: Dict[str, Any]) -> str:
    """What is wrong with the values of endpoint_check's options, or an empty string."""
    for number, endpoint in enumerate(options["endpoints"]):
        problem = _endpoint_problem(endpoint)
        if problem:
            return "endpoints[%d] (%s): %s" % (number, endpoint["host"], problem)
    return ""


def _endpoint_problem(endpoint: Dict[str, Any]) -> str:
    """What is wrong with the values of an endpoint, or an empty string."""
    if not 1 <= endpoint["port"] <= 65535:
        return "port %d is not between 1 and 65535" % endpoint["port"]
    if not 1 <= endpoint["tries"] <= 50:
        return "tries %d is not between 1 and 50" % endpoint["tries"]
    path = endpoint["path"]
    if not path.startswith("/") or any(not 32 < ord(letter) < 127 for letter in path):
        return "path %r does not start with / or has characters that have to be percent-encoded" % path
    return ""
