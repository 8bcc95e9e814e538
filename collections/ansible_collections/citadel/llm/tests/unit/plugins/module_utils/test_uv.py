# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _command, _uv

A, B = "a" * 64, "b" * 64

LOCK = f"""# inputs: sha256:{A}
six==1.17.0 \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
Jinja2[i18n]==3.1.6 ; python_version < "3.12" \\
    --hash=sha256:{A}  # via something
"""


def test_parse_lock() -> None:
    lock = _uv.parse_lock(LOCK)
    assert [(pin.name, pin.version, pin.hashes) for pin in lock.pins] == [
        ("six", "1.17.0", (f"sha256:{A}", f"sha256:{B}")),
        ("jinja2", "3.1.6", (f"sha256:{A}",)),
    ]
    assert lock.pins[1].marker == 'python_version < "3.12"'


def test_digest_is_of_the_meaning() -> None:
    other = (
        f'jinja2[i18n]==3.1.6;python_version < "3.12" --hash=sha256:{A}\n\n'
        f"# a comment\nsix==1.17.0 --hash=sha256:{B} --hash=sha256:{A}"
    )
    assert _uv.parse_lock(LOCK).digest == _uv.parse_lock(other).digest
    assert _uv.parse_lock(LOCK).digest != _uv.parse_lock(LOCK.replace("1.17.0", "1.16.0")).digest
    assert _uv.parse_lock(LOCK).digest != _uv.parse_lock(LOCK.replace(B, "c" * 64)).digest


def test_versions_of_one_name_under_several_markers() -> None:
    text = (
        f"n==1 ; python_version < '3.12' --hash=sha256:{A}\nn==2 ; python_version >= '3.12' --hash=sha256:{A}"
    )
    assert _uv.parse_lock(text).versions == {"n": "1|2"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no requirement"),
        ("# nothing\n", "no requirement"),
        ("--index-url https://host/simple\n", "line 1: --index-url is an option"),
        ("-r other.txt", "line 1: -r is an option"),
        (f"\nsix>=1 --hash=sha256:{A}", "line 2: 'six>=1' is not pinned"),
        (f"six==1.* --hash=sha256:{A}", "is not pinned"),
        (f"six @ https://host/six.whl --hash=sha256:{A}", "is not pinned"),
        (f"six==1.0 --hash=sha256:{A}\nrich==1.0\nPyYAML==6", "without a hash: pyyaml, rich;"),
        ("six==1.0 --hash=md5:900150983cd24fb0d6963f7d28e17f72", "is not a sha256"),
        ("six==1.0 --hash=sha256:abc", "is not a sha256"),
    ],
)
def test_parse_lock_refuses(text: str, said: str) -> None:
    with pytest.raises(_uv.LockError) as caught:
        _uv.parse_lock(text)
    assert said in str(caught.value)


# What uv 0.13 says, shortened.
FAILURES = {
    "index_unreachable": """error: Failed to fetch: `http://pypi.example:8080/simple/six/`
  cause: error sending request for url (http://pypi.example:8080/simple/six/)
  cause: tcp connect error
  cause: Connection refused (os error 111)
""",
    "hash_mismatch": f"""error: Failed to download `six==1.17.0`
  cause: Hash mismatch for `six==1.17.0`

         Expected:
           sha256:{A}
           sha256:{B}

         Computed:
           sha256:{"c" * 64}
""",
    "not_found": """error: No solution found when resolving dependencies
  cause: Because there is no version of six==1.99.0 and you require six==1.99.0.
""",
    "no_matching_wheel": """error: No solution found when resolving dependencies
  cause: Because torch==2.13.0+cpu has no wheels with a matching Python ABI tag and you require it.

hint: You require CPython 3.12, but we only found wheels for `torch` with the Python ABI tag: `cp311`
""",
    "disk_full": """error: Failed to install: torch-2.13.0.whl
  cause: failed to copy file
  cause: No space left on device (os error 28)
""",
    "install_failed": "error: something new\n",
}


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("index_unreachable", ["pypi.example:8080", "Connection refused", "index_url"]),
        ("hash_mismatch", ["six==1.17.0", f"sha256:{A} or sha256:{B}", f"got sha256:{'c' * 64}"]),
        ("not_found", ["six==1.99.0 is not in"]),
        ("no_matching_wheel", ["torch==2.13.0+cpu has no wheel for CPython 3.12", "`cp311`"]),
        ("disk_full", ["disk is full"]),
        ("install_failed", ["something new"]),
    ],
)
def test_explain_failure(reason: str, said: list[str]) -> None:
    found, message = _uv.explain_failure(FAILURES[reason], "CPython 3.12.3 on x86_64")
    assert found == reason
    for part in said:
        assert part in message


def test_not_in_the_wheelhouse() -> None:
    output = (
        "  cause: Because torch was not found in the provided package locations and you require torch==2, so."
    )
    reason, message = _uv.explain_failure(output, "CPython 3.11")
    assert reason == "not_found"
    assert message.startswith("torch is not in the index or wheelhouse")


def test_credentials_are_taken_out() -> None:
    secrets = _command.url_secrets(["https://me:pa%40ss@host/simple", "https://host/", None])
    assert secrets == ["me:pa%40ss", "pa%40ss"]
    text = "GET https://me:pa%40ss@host/x with pa%40ss and http://other:word@host2/"
    assert _command.redact(text, secrets) == "GET https://***@host/x with *** and http://***@host2/"


def test_run_collects_output_and_status() -> None:
    runner = _command.Runner(secrets=["hidden"])
    completed = runner.run([sys.executable, "-c", "print('a hidden word'); raise SystemExit(3)"], {}, 30)
    assert (completed.returncode, completed.output) == (3, "a *** word\n")
    assert "hidden" not in "".join(runner.log)
    assert "[exit 3]" in runner.log[0]


def test_run_ends_the_whole_group_at_the_time_limit(tmp_path: Path) -> None:
    script = "sleep 30 & echo $! > {0}/pid; wait".format(tmp_path)
    started = time.monotonic()
    completed = _command.Runner().run(["/bin/sh", "-c", script], {"PATH": "/bin:/usr/bin"}, 0.5)
    assert completed.returncode is None
    assert time.monotonic() - started < 10
    status = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/status")
    assert not status.exists() or "State:\tZ" in status.read_text()
