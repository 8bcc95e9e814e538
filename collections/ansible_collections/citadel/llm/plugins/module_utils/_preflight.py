# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every check of a host in one go: side by side, each in a process of its own, within one deadline."""

from __future__ import annotations

import functools
import time
from typing import Any, Callable, Dict, List, NamedTuple

from ansible_collections.citadel.llm.plugins.module_utils import _storage_info_probe
from ansible_collections.citadel.llm.plugins.module_utils._findings import (
    BLOCKING,
    Finding,
    as_dicts,
    summarise,
    unknown,
)
from ansible_collections.citadel.llm.plugins.module_utils._preflight_sections import RUNNERS, Part

SECTIONS = ("host", "gpus", "driver", "models", "mounts", "account", "endpoints")


class InvalidError(ValueError):
    """An option that cannot be understood. The message names the section, the option and the value."""


class _Task(NamedTuple):
    """Sections that are looked at together, because they share what they see."""

    name: str
    sections: List[str]
    run: Callable[[], Part]


def check(given: Dict[str, Any], deadline: float) -> Dict[str, Any]:
    """``findings``, ``facts`` (by kind), ``verdict``, ``counts`` and ``seconds`` (by kind).

    ``given`` has the options of each section that is to be looked at. What raises, or does not end within
    ``deadline`` seconds, is told as unknown. Raises InvalidError for options that cannot be understood.
    """
    tasks = _tasks(given, deadline)
    answers = _storage_info_probe.run([functools.partial(_guarded, task) for task in tasks], deadline)
    findings: List[Dict[str, Any]] = []
    facts: Dict[str, Any] = {}
    seconds: Dict[str, Any] = {}
    every: List[Finding] = []
    for task, answer in zip(tasks, answers):  # noqa: B905 (Python 3.9 has no strict)
        told = answer.value or {}
        if told.get("invalid"):
            raise InvalidError(told["invalid"])
        if "findings" in told:
            every += [Finding(**one) for one in told["findings"]]
            facts.update(told["facts"])
        else:
            every += [_not_seen(section, told.get("defect"), deadline) for section in task.sections]
        seconds[task.name] = told.get("seconds")
    findings = as_dicts(every)
    return dict(summarise(every), findings=findings, facts=facts, seconds=seconds)


def _tasks(given: Dict[str, Any], deadline: float) -> List[_Task]:
    tasks = []
    for name, (sections, runner) in RUNNERS.items():
        asked = {section: given[section] for section in sections if given.get(section) is not None}
        if asked:
            tasks.append(_Task(name, list(asked), functools.partial(runner, asked, deadline)))
    return tasks


def _guarded(task: _Task) -> Dict[str, Any]:
    """The part as plain values. Whatever a check raises is told, so that the others are not lost."""
    started = time.monotonic()
    try:
        part = task.run()
    except ValueError as error:  # what checks raise for an expectation that they cannot understand
        return {"invalid": "%s: %s" % (" and ".join(task.sections), error)}
    except Exception as error:
        return {"defect": "%s: %s" % (type(error).__name__, error)}
    return {
        "findings": as_dicts(part.findings),
        "facts": part.facts,
        "seconds": round(time.monotonic() - started, 3),
    }


def _not_seen(section: str, defect: Any, deadline: float) -> Finding:
    expected = "an answer within %g seconds" % deadline
    if defect:
        why = "The check of %s broke off: %s" % (section, defect)
        remedy = "Report this message as a defect of Citadel; leave %s out of preflight_sections until then."
        return unknown(
            "preflight.failed",
            section,
            expected=expected,
            why=why,
            remedy=remedy % section,
            severity=BLOCKING,
        )
    why = "The check of %s did not end in time: something on the host hangs, or it is very busy." % section
    remedy = (
        "Look for processes in state D (ps -eo state,pid,args) and at the load, or raise preflight_deadline."
    )
    return unknown(
        "preflight.unfinished", section, expected=expected, why=why, remedy=remedy, severity=BLOCKING
    )
