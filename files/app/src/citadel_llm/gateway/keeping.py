"""What the gateway keeps about its users: who they are, what they used, and where that is written down."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from json.encoder import encode_basestring as _quote
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from citadel_llm.gateway.accounting.spans import SpanExporter
from citadel_llm.gateway.accounting.spool import Spool
from citadel_llm.gateway.identity.jwks import MAX_BYTES, JwksError, keep_fresh
from citadel_llm.gateway.identity.tokens import TokenVerifier
from citadel_llm.gateway.limits.limiter import Limiter
from citadel_llm.gateway.limits.shared import SharedStore
from citadel_llm.schema.gateway import GatewaySettings
from citadel_llm.schema.key_hash import PEPPER_CREDENTIAL, Pepper, PepperError, parse_peppers
from citadel_llm.telemetry import get_logger

if TYPE_CHECKING:
    from citadel_llm.gateway.exchange import Exchange

CLIENT_GONE = "client_gone"

_PASSWORD_CREDENTIAL = "limits_store_password"  # noqa: S105 (the name of a file)
_KEYS_EVERY_S = 0.5
_PREFIX = "citadel_gateway"
_log = get_logger("citadel.gateway")


class CredentialError(Exception):
    """A credential that cannot be used. The message never contains it."""


def read_credential(name: str) -> str | None:
    """A secret that the service manager handed over (systemd LoadCredential=); None when it did not."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return None
    path = Path(directory) / name
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise CredentialError(f"the credential {name} cannot be read: {error}") from None


def read_peppers() -> tuple[Pepper, ...]:
    """The peppers of API keys; none without the credential. Raises CredentialError."""
    text = read_credential(PEPPER_CREDENTIAL)
    try:
        return parse_peppers(text) if text is not None else ()
    except PepperError as error:
        raise CredentialError(f"the credential {PEPPER_CREDENTIAL} cannot be used: {error}") from None


class Keeping:
    """The limiter, the verifier of tokens, the spool of usage events and the exporter of spans.

    It is made inside the running loop and lives as long as the process.
    """

    def __init__(self, settings: GatewaySettings, registry: CollectorRegistry) -> None:
        """Raises CredentialError."""
        self._settings = settings
        self._state_dir = settings.state_dir
        limits, store = settings.limits, None
        if limits.store_url is not None:
            store = SharedStore(limits, read_credential(_PASSWORD_CREDENTIAL))
        self.limiter = Limiter(limits, store=store, state_dir=settings.state_dir)
        self.verifier = TokenVerifier(settings.issuers, fetch) if settings.issuers else None
        self.spool: Spool | None = None
        if settings.usage.spool and settings.state_dir is not None:
            self.spool = Spool(settings.state_dir / "usage", settings.usage)
        self.spans: SpanExporter | None = None
        if settings.traces.otlp_endpoint is not None:
            self.spans = SpanExporter(settings.traces.otlp_endpoint, "citadel-gateway")
        self._second = 0
        self._stamp = ""
        self._saved: dict[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        registry.register(_Metrics(self))

    async def start(self) -> None:
        await self.limiter.start()
        if self.spool is not None:
            self.spool.start()
        if self.spans is not None:
            self.spans.start()
        if self.verifier is not None:
            providers = [keys for _, keys in self.verifier.providers.values()]
            await asyncio.to_thread(self._adopt_keys)
            self._tasks.append(asyncio.create_task(keep_fresh(providers, _KEYS_EVERY_S)))
            self._tasks.append(asyncio.create_task(self._save_keys_for_ever()))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.verifier is not None:
            for _, keys in self.verifier.providers.values():
                await keys.close()
        await self.limiter.close()
        for writer in (self.spool, self.spans):
            if writer is not None:
                await asyncio.to_thread(writer.close)

    # -- a request that is over

    def settle(self, exchange: Exchange) -> None:
        """End a request's reservation with the tokens that it used."""
        reservation = exchange.reservation
        if reservation is None or reservation.settled:
            return
        prompt, completion, _ = self.tokens(exchange)
        self.limiter.settle(reservation, prompt, completion)

    def tokens(self, exchange: Exchange) -> tuple[int | None, int, bool]:
        """Prompt and completion tokens, and whether they are estimates. No prompt: the reserved number."""
        tail = exchange.tail
        if exchange.api is None or not exchange.api.computes:
            return 0, 0, False
        told = exchange.usage()
        if told is not None:
            return *told, False
        if tail is None and exchange.cause == CLIENT_GONE and exchange.sent_at:
            return None, 0, True  # the engine was at it, and would be again for who leaves each time
        if tail is None or exchange.status >= 400:
            return 0, 0, False
        if exchange.event_stream:
            # Engines send a chunk for every token, or for a few of them when they are quick.
            return None, tail.chunks, True
        return None, round(exchange.bytes_out / self._settings.limits.bytes_per_token), True

    def record(self, exchange: Exchange) -> None:
        """Write a request that reached a model down, for accounting and for its trace."""
        if exchange.model and self.spool is not None:
            prompt, completion, estimated = self.tokens(exchange)
            if prompt is None:
                prompt = exchange.reservation.tokens if exchange.reservation is not None else 0
            self.spool.add(
                f'{{"time":"{self._now()}","request_id":"{exchange.request_id}",'
                f'"trace_id":"{exchange.headers.trace.trace.decode()}","key_id":{_text(exchange.key_id)},'
                f'"user":{_text(exchange.user)},"model":{_quote(exchange.model)},'
                f'"backend":{_text(exchange.backend)},"endpoint":"{exchange.endpoint}",'
                f'"status":{exchange.status},"cause":{_text(exchange.cause)},'
                f'"stream":{"true" if exchange.stream else "false"},"prompt_tokens":{prompt},'
                f'"completion_tokens":{completion},"estimated":{"true" if estimated else "false"},'
                f'"duration_ms":{exchange.age() * 1000:.3f}}}'
            )
        if self.spans is not None:
            self._trace(self.spans, exchange)

    def _now(self) -> str:
        """The moment in UTC, to the millisecond."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}.{int((now - second) * 1000):03d}+00:00"

    def _trace(self, spans: SpanExporter, exchange: Exchange) -> None:
        ended = time.time_ns()
        attributes: dict[str, str | int | bool] = {
            "http.request.method": exchange.method,
            "http.response.status_code": exchange.status,
            "citadel.request_id": exchange.request_id,
        }
        if exchange.model:
            attributes["gen_ai.request.model"] = exchange.model
        if exchange.backend is not None:
            attributes["citadel.backend"] = exchange.backend
        told = exchange.usage()
        if told is not None:
            attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"] = told
        spans.add(
            exchange.headers.trace,
            f"{exchange.method} {exchange.endpoint}",
            ended - round(exchange.age() * 1e9),
            ended,
            attributes,
            failed=exchange.status >= 500 or exchange.cause == "backend_lost",
        )

    # -- public keys of issuers, through a restart

    def _adopt_keys(self) -> None:
        assert self.verifier is not None
        for issuer, keys in self.verifier.providers.values():
            path = self._keys_path(issuer.name)
            if path is None:
                return
            try:
                age = time.time() - path.stat().st_mtime
                keys.adopt(path.read_bytes()[: MAX_BYTES + 1], max(0.0, age))
            except FileNotFoundError:
                continue
            except (OSError, JwksError) as error:
                _log.warning("saved public keys cannot be used", path=str(path), reason=str(error))

    async def _save_keys_for_ever(self) -> None:
        assert self.verifier is not None
        while True:
            for issuer, keys in self.verifier.providers.values():
                path = self._keys_path(issuer.name)
                moment = time.time() - keys.age
                # The two clocks drift; a fetch moves the moment by much more.
                if path is not None and moment - self._saved.get(issuer.name, 0.0) > 1:
                    self._saved[issuer.name] = moment
                    await asyncio.to_thread(_save_keys, path, keys.document, moment)
            await asyncio.sleep(_KEYS_EVERY_S)

    def _keys_path(self, name: str) -> Path | None:
        return self._state_dir / f"jwks-{name}.json" if self._state_dir is not None else None


def _text(value: str | None) -> str:
    return "null" if value is None else _quote(value)


def _save_keys(path: Path, document: bytes, moment: float) -> None:
    """Write a file that is as old as the keys in it."""
    temporary = path.with_suffix(".new")
    try:
        temporary.write_bytes(document)
        os.utime(temporary, (moment, moment))
        temporary.replace(path)
    except OSError as error:
        _log.warning("public keys cannot be saved", path=str(path), reason=str(error))


class _Metrics:
    """What is told of it, read when somebody asks."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        keeping = self._keeping
        limiter = keeping.limiter
        yield _gauge("limits_subjects", "Subjects whose use is being counted.", len(limiter.local))
        if limiter.store is not None:
            store = limiter.store
            yield _gauge("limits_store_up", "Whether the shared store of limits can be asked.", store.up)
            yield _count("limits_store_failures", "Failures of the shared store of limits.", store.failures)
            yield _count(
                "limits_local_decisions",
                "Requests decided by this gateway's own counts because the shared store was down.",
                limiter.local_decisions,
            )
        if keeping.spool is not None:
            yield _count("usage_events_written", "Usage events on disk.", keeping.spool.written)
            dropped = CounterMetricFamily(
                f"{_PREFIX}_usage_events_dropped", "Usage events that were lost.", labels=["cause"]
            )
            for cause, number in keeping.spool.dropped.items():
                dropped.add_metric([cause], number)
            yield dropped
        if keeping.spans is not None:
            yield _count("spans_sent", "Spans that the collector took.", keeping.spans.sent)
            yield _count("spans_dropped", "Spans that were lost.", keeping.spans.dropped)
        if keeping.verifier is not None:
            yield from _provider_metrics(keeping.verifier)


def _provider_metrics(verifier: TokenVerifier) -> Iterator[Metric]:
    age = GaugeMetricFamily(
        f"{_PREFIX}_issuer_keys_age_seconds", "Time since an issuer's keys were fetched.", labels=["issuer"]
    )
    failures = CounterMetricFamily(
        f"{_PREFIX}_issuer_keys_failures", "Failed attempts to fetch an issuer's keys.", labels=["issuer"]
    )
    for issuer, keys in verifier.providers.values():
        age.add_metric([issuer.name], keys.age)
        failures.add_metric([issuer.name], keys.failures)
    yield age
    yield failures


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", documentation, value=value)


def _count(name: str, documentation: str, value: float) -> Metric:
    return CounterMetricFamily(f"{_PREFIX}_{name}", documentation, value=value)


async def fetch(url: str) -> bytes:
    """A document from an identity provider. Raises OSError."""
    # Few gateways have issuers, and the library takes a quarter of a second to import.
    import aiohttp

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
