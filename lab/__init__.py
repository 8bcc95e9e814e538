"""Disposable systemd hosts on this machine: `python3 -m lab --help`."""
