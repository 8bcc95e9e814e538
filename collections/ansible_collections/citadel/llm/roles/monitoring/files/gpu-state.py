# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the state of this host's GPUs as JSON, as citadel.llm.gpu_info finds it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from ansible_collections.citadel.llm.plugins.module_utils import _gpu_info

json.dump(_gpu_info.gather(_gpu_info.Request(timeout=15.0)), sys.stdout)
