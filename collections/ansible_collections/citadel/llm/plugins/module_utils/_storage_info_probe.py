# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at things that may never answer: each look happens in a process of its own, with a deadline.

A call to a dead network file system cannot be interrupted from within the process, and a thread in such a
call would keep the whole module from ending. A forked child can be abandoned.
"""

from __future__ import annotations

import json
import os
import pwd
import select
import signal
import time
import traceback
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

AT_ONCE = 32
# Seconds in which a killed child that does not sleep in the kernel ends, on a busy machine too.
REAP = 0.2


class Answer(NamedTuple):
    """``value`` of a task, or the ``errno`` it failed with; neither when ``in_time`` is false."""

    value: Any = None
    errno: Optional[int] = None
    in_time: bool = True


class Identity(NamedTuple):
    """A user as the kernel sees it."""

    name: str
    uid: int
    gid: int
    groups: List[int]


def identity(user: str) -> Optional[Identity]:
    """The user with all groups, or None where there is no such user."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return None
    return Identity(user, entry.pw_uid, entry.pw_gid, os.getgrouplist(user, entry.pw_gid))


def can_become(who: Identity) -> bool:
    """Whether this process is that user, or may become it."""
    return os.geteuid() in (0, who.uid)


def as_user(who: Identity, task: Callable[[], Any]) -> Callable[[], Any]:
    """A task for ``run`` that really is that user while it runs."""

    def switched() -> Any:
        if os.geteuid() != who.uid:
            os.setgroups(who.groups)
            os.setgid(who.gid)
            os.setuid(who.uid)
        return task()

    return switched


def run(tasks: Sequence[Callable[[], Any]], timeout: float) -> List[Answer]:
    """The answers in the order of the tasks; each task has ``timeout`` seconds, many run at once.

    A task returns plain JSON values and may raise OSError. Any other exception is a defect and is raised here
    as RuntimeError.
    """
    answers = [Answer(in_time=False)] * len(tasks)
    waiting = list(range(len(tasks)))
    running: Dict[int, _Child] = {}
    killed: List[int] = []
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            index = waiting.pop(0)
            child = _Child(index, tasks[index], timeout)
            running[child.pipe] = child
        left = min(child.deadline for child in running.values()) - time.monotonic()
        readable = select.select(list(running), [], [], max(left, 0))[0]
        for pipe in readable:
            if running[pipe].finished():
                child = running.pop(pipe)
                answers[child.index] = child.answer()
        now = time.monotonic()
        late = [pipe for pipe, child in running.items() if child.deadline <= now]
        killed += [running.pop(pipe).abandon() for pipe in late]
    _reap(killed)
    return answers


def _reap(pids: List[int]) -> None:
    """Take leave of killed children; one that sleeps in the kernel may never die, and is left behind."""
    end = time.monotonic() + REAP
    left = [pid for pid in pids if not os.waitpid(pid, os.WNOHANG)[0]]
    while left and time.monotonic() < end:
        time.sleep(0.002)
        left = [pid for pid in left if not os.waitpid(pid, os.WNOHANG)[0]]


class _Child:
    """One task in a process of its own."""

    def __init__(self, index: int, task: Callable[[], Any], timeout: float) -> None:
        self.index = index
        self.deadline = time.monotonic() + timeout
        self.data = b""
        self.pipe, write_end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _work(task, write_end)
        os.close(write_end)

    def finished(self) -> bool:
        chunk = os.read(self.pipe, 65536)
        self.data += chunk
        return not chunk

    def answer(self) -> Answer:
        os.close(self.pipe)
        os.waitpid(self.pid, 0)
        if not self.data:
            return Answer(in_time=False)
        told = json.loads(self.data.decode("utf-8"))
        if "defect" in told:
            raise RuntimeError(told["defect"])
        return Answer(value=told.get("value"), errno=told.get("errno"))

    def abandon(self) -> int:
        """Kill the child without waiting for its end; its number."""
        os.close(self.pipe)
        os.kill(self.pid, signal.SIGKILL)
        return self.pid


def _work(task: Callable[[], Any], write_end: int) -> None:
    """What the child does. It never returns, and holds no file of the parent that others wait for."""
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) != write_end:
                try:
                    os.close(int(name))
                except OSError:  # the directory that was just listed
                    continue
        try:
            told = {"value": task()}  # type: Dict[str, Any]
        except OSError as error:
            told = {"errno": error.errno}
        except Exception:  # carried over to the parent, which raises it
            told = {"defect": traceback.format_exc()}
        data = json.dumps(told).encode("utf-8")
        while data:
            data = data[os.write(write_end, data) :]
    finally:
        os._exit(0)
