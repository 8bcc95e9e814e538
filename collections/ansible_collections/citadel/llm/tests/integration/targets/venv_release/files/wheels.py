# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make small wheels and locks for them: ``wheels.py FOLDER``."""

from __future__ import annotations

import hashlib
import pathlib
import sys
import zipfile

BASE = pathlib.Path(sys.argv[1])


def wheel(folder: str, name: str, version: str, code: str, tag: str = "py3-none-any") -> str:
    """Make a wheel of one module and return its sha256."""
    info = f"{name}-{version}.dist-info"
    members = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    members[f"{info}/RECORD"] = "".join(f"{member},,\n" for member in [*members, f"{info}/RECORD"])
    path = BASE / folder / f"{name}-{version}-{tag}.whl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in members.items():
            archive.writestr(zipfile.ZipInfo(member), text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lock(name: str, *pins: tuple[str, str]) -> None:
    lines = [f"{pin} \\\n    --hash=sha256:{digest}" for pin, digest in pins]
    (BASE / f"{name}.txt").write_text("\n".join([*lines, ""]))


one = wheel("wheelhouse", "citadel_demo", "1.0", "VERSION = 1\n")
two = wheel("wheelhouse", "citadel_demo", "2.0", "VERSION = 2\n")
three = wheel("wheelhouse", "citadel_demo", "3.0", "raise ImportError('libdemo.so.3 is missing')\n")
other = wheel("wheelhouse", "citadel_tagged", "1.0", "", "cp27-none-any")
wheel("local", "citadel_local", "0.1", "NAME = 'local'\n")
lock("one", ("citadel-demo==1.0", one))
lock("two", ("citadel-demo==2.0", two))
lock("three", ("citadel-demo==3.0", three))
lock("altered", ("citadel-demo==2.0", one))
lock("absent", ("citadel-demo==9.0", one))
lock("tagged", ("citadel-tagged==1.0", other))
(BASE / "bare.txt").write_text("citadel-demo==1.0\n")
