"""Benchmarks: run by hand (`make bench`), never as timed tests."""

import sys
from pathlib import Path

# The application is measured from its source, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "files/app/src"))
