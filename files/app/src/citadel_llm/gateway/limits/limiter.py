"""Limits as requests meet them: the shared counts where they can be asked, this process's own where not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from citadel_llm.gateway.limits.answers import limit_error
from citadel_llm.gateway.limits.local import LocalLimiter
from citadel_llm.gateway.limits.state import load_counts, save_counts
from citadel_llm.gateway.limits.subjects import Reservation, Subject
from citadel_llm.schema.gateway_access import LimitSettings
from citadel_llm.telemetry import get_logger

if TYPE_CHECKING:
    from citadel_llm.gateway.limits.shared import SharedStore

STATE_FILE = "limits.json"
_NONE: tuple[Subject, ...] = ()
_log = get_logger("citadel.gateway.limits")


class Limiter:
    """Lets requests in and counts them. One instance lives as long as the process."""

    def __init__(
        self,
        settings: LimitSettings,
        *,
        store: SharedStore | None = None,
        state_dir: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.local = LocalLimiter(clock, wall, settings.max_subjects)
        self.store = store
        self.local_decisions = 0
        """Requests that were decided here alone although a store is configured."""
        self._settings = settings
        self._path = state_dir / STATE_FILE if state_dir is not None else None
        self._saved: dict[str, list[int]] = {}
        self._saver: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take over the saved counts, connect to the store, and save from time to time."""
        if self._path is not None:
            self._saved = await asyncio.to_thread(load_counts, self._path)
            self.local.restore(self._saved)
            self._saver = asyncio.get_running_loop().create_task(self._save_for_ever())
        if self.store is not None:
            await self.store.start()

    async def close(self) -> None:
        """Save once more and end."""
        if self._saver is not None:
            self._saver.cancel()
            await asyncio.gather(self._saver, return_exceptions=True)
            await self._save()
        if self.store is not None:
            await self.store.close()

    async def reserve(self, subjects: Sequence[Subject], tokens: int) -> Reservation:
        """Let a request in. Raises ApiError (429) with the reason and the time to wait.

        Every reservation must be settled.
        """
        store = self.store
        if store is None or not subjects:
            return self._reserve_here(subjects, tokens)
        found = await store.decide(subjects, tokens)
        if found is None:
            self.local_decisions += 1
            return self._reserve_here(subjects, tokens)
        if found.decision.refusal is not None:
            raise limit_error(found.decision)
        reservation = Reservation(
            subjects, tokens, shared_second=found.second, lease=found.lease, decision=found.decision
        )
        # Counted here too, so that the own counts are true when they have to hold alone.
        self.local.charge(reservation)
        return reservation

    def reserve_now(self, subjects: Sequence[Subject], tokens: int) -> Reservation | None:
        """The same without waiting; None when the store has to be asked."""
        if self.store is not None and subjects:
            return None
        return self._reserve_here(subjects, tokens)

    def _reserve_here(self, subjects: Sequence[Subject], tokens: int) -> Reservation:
        if not subjects:
            return Reservation(_NONE, 0)
        reservation = self.local.reserve(subjects, tokens)
        if reservation.decision.refusal is not None:
            raise limit_error(reservation.decision)
        return reservation

    def settle(self, reservation: Reservation, prompt: int | None, completion: int) -> None:
        """End a request with the tokens that it used; `prompt` None leaves the estimate. Once is enough."""
        if reservation.settled or not reservation.subjects:
            return
        reservation.settled = True
        used = reservation.tokens if prompt is None else prompt
        self.local.settle(reservation, used, completion)
        if self.store is not None:
            self.store.settle(reservation, used, completion)

    async def _save_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.save_s)
            await self._save()

    async def _save(self) -> None:
        counts = self.local.save()
        if self._path is None or counts == self._saved:
            return
        try:
            await asyncio.to_thread(save_counts, self._path, counts)
        except OSError as error:
            reason = error.strerror or str(error)
            _log.error("counts of limits cannot be saved", path=str(self._path), reason=reason)
        else:
            self._saved = counts
