"""What the gateway keeps about its users: who they are, what they used, and where that is written down."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from citadel_llm.gateway.accounting.lines import text
from citadel_llm.gateway.accounting.spool import Spool
from citadel_llm.gateway.limits.limiter import Limiter
from citadel_llm.schema.gateway import GatewaySettings
from citadel_llm.schema.key_hash import PEPPER_CREDENTIAL, Pepper, PepperError, parse_peppers
from citadel_llm.telemetry.stamps import stamps

if TYPE_CHECKING:
    from citadel_llm.gateway.accounting.spans import SpanExporter
    from citadel_llm.gateway.exchange import Exchange
    from citadel_llm.gateway.identity.issuers import Issuers
    from citadel_llm.gateway.limits.shared import SharedStore

CLIENT_GONE = "client_gone"

_PASSWORD_CREDENTIAL = "limits_store_password"  # noqa: S105 (the name of a file)
_PREFIX = "citadel_gateway"


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
        self.limiter = Limiter(settings.limits, store=_store(settings), state_dir=settings.state_dir)
        self.issuers = _issuers(settings)
        self.spool: Spool | None = None
        if settings.usage.spool and settings.state_dir is not None:
            self.spool = Spool(settings.state_dir / "usage", settings.usage)
        self.spans = _spans(settings)
        registry.register(_Metrics(self))

    async def start(self) -> None:
        await self.limiter.start()
        if self.spool is not None:
            self.spool.start()
        if self.spans is not None:
            self.spans.start()
        if self.issuers is not None:
            await self.issuers.start()

    async def close(self) -> None:
        if self.issuers is not None:
            await self.issuers.close()
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

    def record(self, exchange: Exchange, common: str) -> None:
        """Write a request that reached a model down, for accounting and for its trace. `common` are the
        members of a JSON object that are told of every request.
        """
        if exchange.model and self.spool is not None:
            prompt, completion, estimated = self.tokens(exchange)
            if prompt is None:
                prompt = exchange.reservation.tokens if exchange.reservation is not None else 0
            self.spool.add(
                f'{{"time":"{stamps.now()}+00:00",{common},"trace_id":"{exchange.trace.trace.decode()}",'
                f'"user":{text(exchange.user)},"endpoint":"{exchange.endpoint}","cause":{text(exchange.cause)},'
                f'"prompt_tokens":{prompt},'
                f'"completion_tokens":{completion},"estimated":{"true" if estimated else "false"}}}'
            )
        if self.spans is not None:
            self._trace(self.spans, exchange)

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
            exchange.trace,
            f"{exchange.method} {exchange.endpoint}",
            ended - round(exchange.age * 1e9),
            ended,
            attributes,
            failed=exchange.status >= 500 or exchange.cause == "backend_lost",
        )


# What few gateways have is imported when it is asked for: these libraries would double the time to start.


def _store(settings: GatewaySettings) -> SharedStore | None:
    if settings.limits.store_url is None:
        return None
    from citadel_llm.gateway.limits.shared import SharedStore

    return SharedStore(settings.limits, read_credential(_PASSWORD_CREDENTIAL))


def _issuers(settings: GatewaySettings) -> Issuers | None:
    if not settings.issuers:
        return None
    from citadel_llm.gateway.identity.issuers import Issuers

    return Issuers(settings.issuers, settings.state_dir)


def _spans(settings: GatewaySettings) -> SpanExporter | None:
    if settings.traces.otlp_endpoint is None:
        return None
    from citadel_llm.gateway.accounting.spans import SpanExporter

    return SpanExporter(settings.traces.otlp_endpoint, "citadel-gateway")


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
        if keeping.issuers is not None:
            yield from keeping.issuers.metrics(_PREFIX)


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", documentation, value=value)


def _count(name: str, documentation: str, value: float) -> Metric:
    return CounterMetricFamily(f"{_PREFIX}_{name}", documentation, value=value)
