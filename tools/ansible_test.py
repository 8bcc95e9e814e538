"""Run ansible-test on the collection, also where its pip bootstrap cannot be downloaded.

ansible-test makes virtual environments and bootstraps pip in them with a script from its own server. Where
that server cannot be reached, a stand-in that uses the interpreter's own `ensurepip` does the same.
Run as `python -m tools.ansible_test sanity|units [ARGUMENT ...]`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

COLLECTION = Path(__file__).resolve().parents[1] / "collections/ansible_collections/citadel/llm"
STAND_IN = '''\
"""Bootstrap pip from the interpreter's own copy, then bring it to the wanted version."""
import runpy
import subprocess
import sys

subprocess.check_call([sys.executable, "-m", "ensurepip"], stdout=subprocess.DEVNULL)
wanted = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
sys.argv = ["pip", "install", *wanted]
runpy.run_module("pip", run_name="__main__")
'''


def pip_version() -> str:
    """The version of pip that this ansible-test wants in its environments."""
    spec = find_spec("ansible_test")
    assert spec is not None and spec.submodule_search_locations is not None
    source = Path(spec.submodule_search_locations[0], "_internal/python_requirements.py").read_text()
    match = re.search(r"pip='([\d.]+)'", source)
    if match is None:
        sys.exit("ansible_test: this release of ansible-core does not say which pip it wants.")
    return match[1]


def main() -> None:
    script = Path.home() / f".ansible/test/cache/get_pip_{pip_version().replace('.', '_')}.py"
    if not script.exists():
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(STAND_IN)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    command, *arguments = sys.argv[1:]
    argv = [
        str(Path(sys.executable).with_name("ansible-test")),
        command,
        "--venv",
        "--python",
        python,
        "-v",
        *arguments,
    ]
    os.chdir(COLLECTION)
    sys.exit(subprocess.run(argv, check=False, env={**os.environ, "PWD": str(COLLECTION)}).returncode)


if __name__ == "__main__":
    main()
