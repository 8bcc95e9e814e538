"""Gateway and clients."""

from tools.observability.dashboards.model import UP_DOWN, Board, Column, Panel, Query, Row, percentiles

_S = '{host=~"$host", model=~"$served|"}'
_M = '{host=~"$host", model=~"$served"}'
_H = '{host=~"$host"}'


def _result(result: str) -> str:
    return f'{{result="{result}", host=~"$host", model=~"$served|"}}'


def _kind(kind: str) -> str:
    return f'{{kind="{kind}", host=~"$host", model=~"$served|"}}'


_REQUESTS = Row(
    "Requests",
    (
        Panel(
            "timeseries",
            "Requests by status",
            "Answers by HTTP status. 401: no valid key, 429: a limit, 499: the client left, 5xx: the "
            "service failed.",
            (Query(f"sum by (code) (gateway:requests:rate5m{_S})", "{{code}}"),),
            unit="reqps",
            width=8,
            stacked=True,
        ),
        Panel(
            "timeseries",
            "Requests by model",
            "Answers by model; those without a model were refused before one was found.",
            (Query(f"sum by (model) (gateway:requests:rate5m{_M})", "{{model}}"),),
            unit="reqps",
            width=8,
            stacked=True,
        ),
        Panel(
            "timeseries",
            "Errors by cause",
            "Requests that did not succeed, by the gateway's own word for why.",
            (Query(f"sum by (cause) (gateway:failures:rate5m{_S})", "{{cause}}"),),
            unit="reqps",
            width=8,
            stacked=True,
        ),
        Panel(
            "timeseries",
            "Requests in flight",
            "Requests that are being served, by model.",
            (Query(f"sum by (model) (citadel_gateway_requests_in_flight{_M})", "{{model}}"),),
            width=12,
            stacked=True,
        ),
        Panel(
            "timeseries",
            "Tokens by model",
            "Tokens a second as the engines report them, prompt and completion.",
            (Query(f"sum by (model, kind) (gateway:tokens:rate5m{_M})", "{{model}} {{kind}}"),),
            width=12,
            stacked=True,
        ),
        Panel(
            "table",
            "Models",
            "One line for each model.",
            (
                Query(f"sum by (model) (gateway:requests:rate5m{_M})", column="requests/s"),
                Query(
                    'sum by (model) (gateway:requests:rate5m{code=~"5..", host=~"$host", model=~"$served"})'
                    f" / (sum by (model) (gateway:requests:rate5m{_M}) > 0)"
                    f" or sum by (model) (gateway:requests:rate5m{_M}) * 0",
                    column="failed",
                ),
                Query(
                    "histogram_quantile(0.95, sum by (le, model)"
                    f" (gateway:time_to_first_byte_seconds_bucket:rate5m{_M}))",
                    column="first byte p95",
                ),
                Query(f"sum by (model) (citadel_gateway_requests_in_flight{_M})", column="in flight"),
                Query(f"sum by (model) (citadel_gateway_backend_up{_M})", column="back ends up"),
            ),
            width=24,
            sort="model",
            order=("model",),
            columns=(
                Column("model", width=260),
                Column("requests/s", decimals=1, width=120),
                Column("failed", "percentunit", ((None, "green"), (0.001, "yellow"), (0.01, "red")), 2),
                Column("first byte p95", "s", decimals=2, width=140),
                Column("in flight", decimals=0),
                Column("back ends up", width=120, decimals=0, steps=((None, "red"), (1, "green"))),
            ),
        ),
    ),
)
_K = '{host=~"$host", model=~"$served|"}'
_KEYS = Row(
    "Keys",
    (
        Panel(
            "timeseries",
            "Requests by key",
            "Answers by key, the ten that ask most. What the gateway's key_series has no room for is other.",
            (Query(f"topk(10, sum by (key) (gateway:key_requests:rate5m{_K}))", "{{key}}"),),
            unit="reqps",
            width=12,
        ),
        Panel(
            "timeseries",
            "Tokens by key",
            "Tokens a second as the engines report them, prompt and answer, of the ten keys that use most.",
            (Query(f"topk(10, sum by (key) (gateway:key_tokens:rate5m{_K}))", "{{key}}"),),
            width=12,
        ),
        Panel(
            "table",
            "Keys and models",
            "One line for each key and model: what it asked for, what a limit refused, and what failed. "
            "Why a request failed stands in the access log.",
            (
                Query(f"sum by (key, model) (gateway:key_requests:rate5m{_K})", column="requests/s"),
                Query(
                    f"sum by (key, model) (gateway:key_requests:rate5m{_result('limited')})",
                    column="limited/s",
                ),
                Query(
                    f"sum by (key, model) (gateway:key_requests:rate5m{_result('refused')})",
                    column="refused/s",
                ),
                Query(
                    f"sum by (key, model) (gateway:key_requests:rate5m{_result('failed')})", column="failed/s"
                ),
                Query(
                    f"sum by (key, model) (gateway:key_tokens:rate5m{_kind('prompt')})",
                    column="prompt tokens/s",
                ),
                Query(
                    f"sum by (key, model) (gateway:key_tokens:rate5m{_kind('completion')})",
                    column="answer tokens/s",
                ),
            ),
            width=24,
            sort="requests/s",
            order=("key", "model"),
            columns=(
                Column("key", width=260),
                Column("model", width=200),
                Column("requests/s", decimals=2, width=120),
                Column("limited/s", steps=((None, "green"), (0.01, "yellow")), decimals=2),
                Column("refused/s", decimals=2),
                Column("failed/s", steps=((None, "green"), (0.01, "red")), decimals=2),
                Column("prompt tokens/s", decimals=0, width=140),
                Column("answer tokens/s", decimals=0, width=140),
            ),
        ),
    ),
)
_TIMES = Row(
    "Waiting times as clients see them",
    (
        Panel(
            "timeseries",
            "Time to the first byte",
            "From a request's arrival to the first byte of the answer's body.",
            percentiles("gateway:time_to_first_byte_seconds", _M),
            unit="s",
            width=12,
        ),
        Panel(
            "timeseries",
            "Whole request",
            "From a request's arrival to the end of its answer.",
            percentiles("gateway:request_duration_seconds", _M),
            unit="s",
            width=12,
        ),
    ),
)
_BEHIND = Row(
    "Back ends and queues",
    (
        Panel(
            "table",
            "Back ends",
            "Whether each back end gets requests, how many it has, and how often its breaker opened.",
            (
                Query(f"max by (model, backend, host) (citadel_gateway_backend_up{_M})", column="state"),
                Query(
                    f"sum by (model, backend, host) (citadel_gateway_backend_requests_in_flight{_M})",
                    column="in flight",
                ),
                Query(
                    f"sum by (model, backend, host) (citadel_gateway_backend_breaker_opened_total{_M})",
                    column="breaker opened",
                ),
            ),
            width=12,
            sort="model",
            order=("model", "backend", "host"),
            columns=(
                Column("model", width=140),
                Column("backend", width=150),
                Column("host", width=110),
                Column("state", words=UP_DOWN, width=70),
                Column("in flight", decimals=0),
                Column("breaker opened", decimals=0, width=130),
            ),
        ),
        Panel(
            "timeseries",
            "State of back ends",
            "How many back ends are in each state: up, suspect, stalled, unhealthy, open, half_open, "
            "resting.",
            (Query(f"sum by (state) (citadel_gateway_backend_state{_M})", "{{state}}"),),
            width=12,
            stacked=True,
            decimals=0,
        ),
        Panel(
            "timeseries",
            "Failures of back ends",
            "Failed attempts, also those that another back end made good.",
            (
                Query(
                    "sum by (backend, cause)"
                    f" (rate(citadel_gateway_backend_failures_total{_M}[$__rate_interval]))",
                    "{{backend}} {{cause}}",
                ),
            ),
            unit="reqps",
            width=8,
        ),
        Panel(
            "timeseries",
            "Probes of back ends",
            "Requests for one token that the gateway sent as probes, in ten minutes, by result.",
            (
                Query(
                    "sum by (backend, result) (increase(citadel_gateway_backend_probes_total"
                    '{kind="real", host=~"$host", model=~"$served"}[10m]))',
                    "{{backend}} {{result}}",
                ),
            ),
            width=8,
        ),
        Panel(
            "timeseries",
            "Queue",
            "Requests that wait at the gateway, and those a minute that it refused because too many waited.",
            (
                Query(f"sum by (model) (citadel_gateway_queue_requests{_M})", "waiting {{model}}"),
                Query(
                    "sum by (model, reason)"
                    f" (rate(citadel_gateway_queue_refused_total{_M}[$__rate_interval])) * 60",
                    "refused {{model}} {{reason}}",
                ),
            ),
            width=8,
        ),
        Panel(
            "timeseries",
            "Time in the gateway's queue",
            "How long requests waited for a back end, of those that had to wait.",
            (
                Query(
                    "histogram_quantile(0.95, sum by (le, model)"
                    f" (rate(citadel_gateway_queue_seconds_bucket{_M}[$__rate_interval])))",
                    "p95 {{model}}",
                ),
            ),
            unit="s",
            width=8,
        ),
        Panel(
            "timeseries",
            "Retries",
            "Requests sent again to another back end, and those that the budget did not allow.",
            (
                Query(
                    f"sum by (model) (rate(citadel_gateway_retries_total{_M}[$__rate_interval]))",
                    "sent again {{model}}",
                ),
                Query(
                    f"sum by (model) (rate(citadel_gateway_retries_denied_total{_M}[$__rate_interval]))",
                    "denied {{model}}",
                ),
            ),
            unit="reqps",
            width=8,
        ),
        Panel(
            "timeseries",
            "Refused by a limit",
            "Requests refused by a limit on a key, a model or a client, by which one.",
            (
                Query(
                    'sum by (cause) (gateway:failures:rate5m{cause=~"limit_.+", host=~"$host"})',
                    "{{cause}}",
                ),
            ),
            unit="reqps",
            width=8,
        ),
    ),
)
_ITSELF = Row(
    "The gateway itself",
    (
        Panel(
            "table",
            "Routing snapshot",
            "The snapshot that each gateway uses, and how old it is.",
            (
                Query(
                    f"max by (host, version) (citadel_gateway_snapshot_info{_H})"
                    f" * on (host) group_left () (time() - max by (host)"
                    f" (citadel_gateway_snapshot_created_timestamp_seconds{_H}))",
                    column="age",
                ),
            ),
            width=9,
            order=("host", "version"),
            columns=(Column("host", width=150), Column("version", width=180), Column("age", "s")),
        ),
        Panel(
            "timeseries",
            "Refused snapshots",
            "Snapshots that the gateway has refused; it goes on with the one before.",
            (
                Query(
                    f"sum by (host) (increase(citadel_gateway_snapshot_refused_total{_H}[10m]))", "{{host}}"
                ),
            ),
            width=5,
            decimals=0,
        ),
        Panel(
            "timeseries",
            "Access log",
            "Lines of the access log that were dropped because nobody took them.",
            (Query(f"max by (host) (citadel_gateway_access_lines_dropped{_H})", "{{host}}"),),
            width=5,
            decimals=0,
        ),
        Panel(
            "timeseries",
            "The gateway's process",
            "Processor and memory of the gateway.",
            (
                Query(
                    'sum by (host) (rate(process_cpu_seconds_total{job="gateway", '
                    'host=~"$host"}[$__rate_interval]))',
                    "processors {{host}}",
                ),
            ),
            width=5,
        ),
    ),
)

_BESIDE = Row(
    "Limits, accounting, tokens and traces",
    (
        Panel(
            "timeseries",
            "Store of limits",
            "Whether the shared store can be asked, and requests a minute that this gateway decided alone "
            "because it could not. Without a shared store there is nothing to see.",
            (
                Query(f"max by (host) (citadel_gateway_limits_store_up{_H})", "up {{host}}"),
                Query(
                    "sum by (host)"
                    f" (rate(citadel_gateway_limits_local_decisions_total{_H}[$__rate_interval])) * 60",
                    "decided alone {{host}}",
                ),
                Query(
                    "sum by (host)"
                    f" (rate(citadel_gateway_limits_store_failures_total{_H}[$__rate_interval])) * 60",
                    "failures {{host}}",
                ),
            ),
            width=8,
            empty="no shared store",
        ),
        Panel(
            "timeseries",
            "Counted subjects",
            "Keys, users and models whose use is being counted for limits.",
            (Query(f"max by (host) (citadel_gateway_limits_subjects{_H})", "{{host}}"),),
            width=4,
            decimals=0,
        ),
        Panel(
            "timeseries",
            "Usage events and spans",
            "Usage events written to disk and spans sent, a second, and those that were lost.",
            (
                Query(
                    f"sum by (host) (rate(citadel_gateway_usage_events_written_total{_H}[$__rate_interval]))",
                    "events {{host}}",
                ),
                Query(
                    "sum by (host, cause)"
                    f" (rate(citadel_gateway_usage_events_dropped_total{_H}[$__rate_interval]))",
                    "events lost {{host}} {{cause}}",
                ),
                Query(
                    f"sum by (host) (rate(citadel_gateway_spans_sent_total{_H}[$__rate_interval]))",
                    "spans {{host}}",
                ),
                Query(
                    f"sum by (host) (rate(citadel_gateway_spans_dropped_total{_H}[$__rate_interval]))",
                    "spans lost {{host}}",
                ),
            ),
            unit="reqps",
            width=6,
        ),
        Panel(
            "timeseries",
            "Keys of issuers",
            "How long ago the public keys of each issuer of tokens were fetched, and attempts that failed in "
            "ten minutes. Without issuers there is nothing to see.",
            (
                Query(
                    f"max by (host, issuer) (citadel_gateway_issuer_keys_age_seconds{_H})",
                    "{{issuer}} {{host}}",
                ),
                Query(
                    f"sum by (host, issuer) (increase(citadel_gateway_issuer_keys_failures_total{_H}[10m]))",
                    "failures {{issuer}} {{host}}",
                ),
            ),
            unit="s",
            width=6,
            empty="no issuers",
        ),
    ),
)

GATEWAY = Board(
    "citadel-gateway",
    "Gateway and clients",
    "What clients ask for and what they get.",
    (_REQUESTS, _KEYS, _TIMES, _BEHIND, _BESIDE, _ITSELF),
    ("host", "served"),
)
