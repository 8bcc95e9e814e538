"""A fuzzer of the gateway's HTTP surface, towards clients and engines. Run as `python -m tools.fuzz`."""

import sys
from pathlib import Path

# The application is tried from its source, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "files/app/src"))
