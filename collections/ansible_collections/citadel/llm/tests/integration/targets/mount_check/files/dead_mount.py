# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts a FUSE file system that never answers, until the process ends. Arguments: mount point, PID file."""

from __future__ import annotations

import ctypes
import os
import sys
import time

device = os.open("/dev/fuse", os.O_RDWR)
options = "fd=%d,rootmode=40000,user_id=0,group_id=0" % device
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"dead-server", sys.argv[1].encode(), b"fuse.dead", 0, options.encode()):
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), sys.argv[1])
with open(sys.argv[2], "w", encoding="ascii") as stream:
    stream.write(str(os.getpid()))
time.sleep(120)
