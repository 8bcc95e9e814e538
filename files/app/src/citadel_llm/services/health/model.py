"""What a health check is and what it says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

State = Literal["ok", "warning", "critical", "unknown"]
SEVERITY: dict[State, int] = {"ok": 0, "unknown": 1, "warning": 2, "critical": 3}


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of a check: a state and a sentence, with measured values by name."""

    state: State
    message: str
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at. `run` answers, or raises, which is `unknown`; after `timeout_s` it is `late`.

    `unit` is what recovery restarts when the check is critical. A check that is not `vital` warns at most.
    """

    name: str
    kind: str
    run: Callable[[], Awaitable[Finding]]
    timeout_s: float
    unit: str | None = None
    vital: bool = True
    late: State = "critical"


@dataclass(frozen=True, slots=True)
class Result:
    """What a check found and how long it took, in seconds."""

    name: str
    kind: str
    state: State
    message: str
    seconds: float
    unit: str | None = None
    values: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "name": self.name,
            "kind": self.kind,
            "state": self.state,
            "message": self.message,
            "seconds": round(self.seconds, 4),
            "unit": self.unit,
            "values": self.values,
        }


async def run_all(checks: Sequence[Check]) -> list[Result]:
    """Run checks at the same time, each with its deadline; results are in the order of the checks."""
    return list(await asyncio.gather(*(_run(check) for check in checks)))


async def _run(check: Check) -> Result:
    begin = time.monotonic()
    try:
        finding = await asyncio.wait_for(check.run(), check.timeout_s)
    except TimeoutError:
        finding = Finding(check.late, f"no result within {check.timeout_s:g} s")
    except Exception as error:  # a check that breaks must not hide the others
        finding = Finding("unknown", f"cannot be checked: {error or type(error).__name__}")
    if not check.vital and finding.state == "critical":
        finding = replace(finding, state="warning")
    seconds = time.monotonic() - begin
    return Result(check.name, check.kind, finding.state, finding.message, seconds, check.unit, finding.values)


def worst(states: Iterable[State]) -> State:
    """The most severe of several states; ok when there are none."""
    return max(states, key=lambda state: SEVERITY[state], default="ok")
