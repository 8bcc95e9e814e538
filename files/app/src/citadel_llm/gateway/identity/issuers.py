"""Identity providers as the process has them: their keys are fetched, and kept through a restart."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import aiohttp
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from citadel_llm.gateway.identity.jwks import MAX_BYTES, JwksError, keep_fresh
from citadel_llm.gateway.identity.tokens import TokenVerifier
from citadel_llm.schema.gateway_access import TokenIssuer
from citadel_llm.telemetry import get_logger

_EVERY_S = 0.5
_log = get_logger("citadel.gateway.tokens")


class Issuers:
    """The verifier of tokens, and what keeps its keys fresh."""

    def __init__(self, issuers: Sequence[TokenIssuer], state_dir: Path | None) -> None:
        self.verifier = TokenVerifier(issuers, fetch)
        self._state_dir = state_dir
        self._saved: dict[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        providers = [keys for _, keys in self.verifier.providers.values()]
        await asyncio.to_thread(self._adopt)
        self._tasks.append(asyncio.create_task(keep_fresh(providers, _EVERY_S)))
        self._tasks.append(asyncio.create_task(self._save_for_ever()))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _, keys in self.verifier.providers.values():
            await keys.close()

    def metrics(self, prefix: str) -> Iterator[Metric]:
        age = GaugeMetricFamily(
            f"{prefix}_issuer_keys_age_seconds",
            "Time since an issuer's keys were fetched.",
            labels=["issuer"],
        )
        failures = CounterMetricFamily(
            f"{prefix}_issuer_keys_failures", "Failed attempts to fetch an issuer's keys.", labels=["issuer"]
        )
        for issuer, keys in self.verifier.providers.values():
            age.add_metric([issuer.name], keys.age)
            failures.add_metric([issuer.name], keys.failures)
        yield age
        yield failures

    def _adopt(self) -> None:
        for issuer, keys in self.verifier.providers.values():
            path = self._path(issuer.name)
            if path is None:
                return
            try:
                age = time.time() - path.stat().st_mtime
                keys.adopt(path.read_bytes()[: MAX_BYTES + 1], max(0.0, age))
            except FileNotFoundError:
                continue
            except (OSError, JwksError) as error:
                _log.warning("saved public keys cannot be used", path=str(path), reason=str(error))

    async def _save_for_ever(self) -> None:
        while True:
            for issuer, keys in self.verifier.providers.values():
                path = self._path(issuer.name)
                moment = time.time() - keys.age
                # The two clocks drift; a fetch moves the moment by much more.
                if path is not None and moment - self._saved.get(issuer.name, 0.0) > 1:
                    self._saved[issuer.name] = moment
                    await asyncio.to_thread(_save, path, keys.document, moment)
            await asyncio.sleep(_EVERY_S)

    def _path(self, name: str) -> Path | None:
        return self._state_dir / f"jwks-{name}.json" if self._state_dir is not None else None


def _save(path: Path, document: bytes, moment: float) -> None:
    """Write a file that is as old as the keys in it."""
    temporary = path.with_suffix(".new")
    try:
        temporary.write_bytes(document)
        os.utime(temporary, (moment, moment))
        temporary.replace(path)
    except OSError as error:
        _log.warning("public keys cannot be saved", path=str(path), reason=str(error))


async def fetch(url: str) -> bytes:
    """A document from an identity provider. Raises OSError."""
    timeout = aiohttp.ClientTimeout(total=30)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise OSError(f"HTTP {response.status}")
            return await response.content.read(MAX_BYTES + 1)
    except aiohttp.ClientError as error:
        raise OSError(str(error) or type(error).__name__) from error
