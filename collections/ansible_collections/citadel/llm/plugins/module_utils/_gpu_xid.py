# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Xid numbers mean and what to do about them, after NVIDIA's catalogue "XID Errors"."""

from __future__ import annotations

from typing import Dict, NamedTuple


class Meaning(NamedTuple):
    """``hardware`` is true when the GPU cannot be trusted until something is done about it."""

    hardware: bool
    text: str
    remedy: str


_RESET = "Drain the server and restart it; when it comes back, run a DCGM diagnostic and replace the GPU."
_PROGRAM = "Restart the program that caused it; when it comes back with other models, suspect the hardware."

MEANINGS: Dict[int, Meaning] = {
    13: Meaning(
        False,
        "a kernel of a program failed (illegal instruction or address)",
        _PROGRAM + " Try --enforce-eager.",
    ),
    31: Meaning(
        False, "a program accessed GPU memory that is not its own", _PROGRAM + " Try --enforce-eager."
    ),
    32: Meaning(
        False, "the command stream to the GPU was corrupted", "Check the PCIe link, then " + _PROGRAM.lower()
    ),
    43: Meaning(False, "a program's channel was stopped", _PROGRAM),
    45: Meaning(
        False,
        "a program was ended early, often because of another error before it",
        "Look at the Xid before it.",
    ),
    48: Meaning(True, "a memory error that could not be corrected", _RESET),
    61: Meaning(True, "the GPU's internal microcontroller stopped", _RESET),
    62: Meaning(True, "the GPU's internal microcontroller halted", _RESET),
    63: Meaning(
        False,
        "a memory row or page was put out of use",
        "Reset the GPU when no work runs, so that the remapping takes effect.",
    ),
    64: Meaning(
        True,
        "a memory row or page could not be put out of use",
        "Reset the GPU; replace it when that comes back.",
    ),
    69: Meaning(False, "a program used the graphics engine wrongly", _PROGRAM),
    74: Meaning(
        True,
        "an NVLink error",
        "Restart the server; when it comes back, check the bridges and the other GPU of the link.",
    ),
    79: Meaning(
        True,
        "the GPU fell off the bus",
        "Drain the server and restart it; check the GPU's seat, power cables, power supply and cooling.",
    ),
    92: Meaning(
        True,
        "many corrected memory errors in a short time",
        "Watch the counters; replace the GPU when they grow.",
    ),
    94: Meaning(
        True,
        "a contained memory error: the programs on it were ended",
        "Restart the programs, then reset the GPU.",
    ),
    95: Meaning(True, "an uncontained memory error: every result on this GPU is suspect", _RESET),
    109: Meaning(False, "a program's context switch timed out", _PROGRAM),
    119: Meaning(
        True,
        "the GPU's system processor (GSP) does not answer",
        "Restart the server, and update the driver when it comes back.",
    ),
    120: Meaning(
        True,
        "the GPU's system processor (GSP) failed",
        "Restart the server, and update the driver when it comes back.",
    ),
    140: Meaning(True, "an ECC error that the driver could not recover from", _RESET),
    143: Meaning(True, "the GPU could not be initialised", _RESET),
    154: Meaning(
        True,
        "the GPU asks for a recovery action",
        "Do what the message names: reset the GPU, or restart the server.",
    ),
}

UNKNOWN = Meaning(
    False, "an event that is not in the table", "Look it up in NVIDIA's catalogue of Xid errors."
)


def meaning(number: int) -> Meaning:
    """What a number means."""
    return MEANINGS.get(number, UNKNOWN)
