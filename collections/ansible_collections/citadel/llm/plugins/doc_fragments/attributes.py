# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attributes block that every module's documentation shares."""

from __future__ import annotations


class ModuleDocFragment:
    # A state module: it changes the host, predicts in check mode and shows the difference in diff mode.
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return a changed status prediction without modifying the target.
    support: full
  diff_mode:
    description: Returns details on what has changed (or would change), when in diff mode.
    support: full
  platform:
    description: The operating systems that the module runs on.
    support: full
    platforms: linux
"""

    # A module that only looks (C(*_info) and C(*_check)).
    READONLY = r"""
options: {}
attributes:
  check_mode:
    description: Changes nothing, so it does the same in C(check_mode).
    support: full
  diff_mode:
    description: Changes nothing, so there is no difference to show.
    support: N/A
  platform:
    description: The operating systems that the module runs on.
    support: full
    platforms: linux
"""
