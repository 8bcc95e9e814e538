# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks that may never answer are abandoned, and nothing else suffers."""

from __future__ import annotations

import errno
import functools
import os
import signal
import time
from typing import Any, Callable, List

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _storage_info_probe as probe
from ansible_collections.citadel.llm.tests.unit.plugins.module_utils.probe_testing import hang


def answer(value: Any) -> Callable[[], Any]:
    return lambda: value


def fail(number: int) -> Callable[[], Any]:
    def task() -> Any:
        raise OSError(number, os.strerror(number))

    return task


def sleep_for_ever() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(60)


def test_answers_come_in_the_order_of_the_tasks() -> None:
    tasks = [answer({"a": 1}), fail(errno.ESTALE), answer("ä" * 200000), answer(None)]
    answers = probe.run(tasks, 5)
    assert answers[0].value == {"a": 1} and answers[0].in_time
    assert answers[1].errno == errno.ESTALE and answers[1].value is None
    assert answers[2].value == "ä" * 200000
    assert answers[3] == probe.Answer(None, None, True)


def test_what_hangs_is_abandoned_and_the_others_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: List[int] = []
    kill = os.kill

    def recorded(pid: int, number: int) -> None:
        killed.append(pid)
        kill(pid, number)

    monkeypatch.setattr(os, "kill", recorded)
    hang(monkeypatch, 1)
    answers = probe.run([answer(1), sleep_for_ever, answer(2)], 1.0)
    assert [one.value for one in answers] == [1, None, 2]
    assert [one.in_time for one in answers] == [True, False, True]
    (pid,) = killed
    assert not os.path.exists("/proc/%d" % pid)  # ended, and no zombie


def test_what_does_not_die_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process that sleeps in the kernel: the signal has no effect."""
    killed: List[int] = []
    kill = os.kill
    monkeypatch.setattr(os, "kill", lambda pid, _number: killed.append(pid))
    assert [one.in_time for one in probe.run([sleep_for_ever], 0.1)] == [False]
    (pid,) = killed
    kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[0] == pid


def test_more_tasks_than_run_at_once() -> None:
    count = probe.AT_ONCE + 8
    answers = probe.run([functools.partial(int, number) for number in range(count)], 20)
    assert [one.value for one in answers] == list(range(count))


def test_a_child_that_dies_has_not_answered() -> None:
    assert not probe.run([lambda: os._exit(3)], 5)[0].in_time


def test_a_defect_is_not_hidden() -> None:
    def defect() -> Any:
        raise KeyError("not an error of the system")

    with pytest.raises(RuntimeError, match="not an error of the system"):
        probe.run([defect], 5)


def test_a_child_holds_no_file_of_its_parent() -> None:
    """An abandoned child that kept the parent's output open would keep Ansible waiting for its end."""
    reader, writer = os.pipe()
    try:

        def task() -> List[str]:
            paths = ["/proc/self/fd/" + name for name in os.listdir("/proc/self/fd")]
            return [os.readlink(path) for path in paths if os.path.lexists(path)]

        held = probe.run([task], 5)[0].value
    finally:
        os.close(reader)
        os.close(writer)
    pipes = [name for name in held if name.startswith("pipe:")]
    assert len(pipes) == 1  # the one that carries the answer
    assert held.count("/dev/null") == 3


def test_being_another_user() -> None:
    who = probe.identity("nobody")
    if os.geteuid() != 0 or who is None:
        pytest.skip("only root can become nobody")

    def task() -> List[Any]:
        return [os.getresuid(), os.getresgid(), sorted(os.getgroups())]

    uids, gids, groups = probe.run([probe.as_user(who, task)], 5)[0].value
    assert set(uids) == {who.uid} and set(gids) == {who.gid}
    assert groups == sorted(set(who.groups))
    assert os.geteuid() == 0


def test_a_user_that_does_not_exist() -> None:
    assert probe.identity("no-such-user-here") is None
