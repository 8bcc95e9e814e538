"""Models and engines."""

from tools.observability.dashboards.model import UP_DOWN, Board, Column, Panel, Query, Row, percentiles

_S = '{host=~"$host", model=~"$model", deployment=~"$deployment"}'
_UP = '{job="vllm", host=~"$host", deployment=~"$deployment"}'
_WHO = "{{deployment}} · {{host}}"
_BY = "host, deployment"

_STATE = Row(
    "Engines",
    (
        Panel(
            "table",
            "Engines",
            "One line for each engine: whether it answers, what it does now, and since when it runs.",
            (
                Query(f"max by (host, deployment) (up{_UP})", column="up"),
                Query(
                    f"max by (host, deployment) (time() - process_start_time_seconds{_UP})", column="runs for"
                ),
                Query(f"sum by (host, deployment) (engine:requests_running:sum{_S})", column="running"),
                Query(f"sum by (host, deployment) (engine:requests_waiting:sum{_S})", column="waiting"),
                Query(f"max by (host, deployment) (engine:kv_cache_usage:ratio{_S})", column="KV cache"),
                Query(f"sum by (host, deployment) (engine:generation_tokens:rate5m{_S})", column="tokens/s"),
                Query(f"sum by (host, deployment) (engine:preemptions:rate5m{_S})", column="preemptions/s"),
            ),
            width=24,
            height=8,
            sort="deployment",
            order=("deployment", "host"),
            columns=(
                Column("deployment", width=220),
                Column("host", width=220),
                Column("up", words=UP_DOWN),
                Column("runs for", "s", width=120),
                Column("running", decimals=0),
                Column("waiting", decimals=0, steps=((None, "green"), (1, "yellow"), (20, "red"))),
                Column("KV cache", "percentunit", ((None, "green"), (0.8, "yellow"), (0.9, "red")), 0),
                Column("tokens/s", decimals=1),
                Column("preemptions/s", decimals=2, width=120, steps=((None, "green"), (0.01, "red"))),
            ),
        ),
    ),
)
_WORK = Row(
    "Work",
    (
        Panel(
            "timeseries",
            "Tokens per second",
            "Tokens generated, by engine.",
            (Query(f"sum by ({_BY}) (engine:generation_tokens:rate5m{_S})", _WHO),),
            width=12,
            stacked=True,
        ),
        Panel(
            "timeseries",
            "Prompt tokens per second",
            "Prompt tokens computed, by engine. What the prefix cache knew is not computed again.",
            (Query(f"sum by ({_BY}) (engine:prompt_tokens:rate5m{_S})", _WHO),),
            width=12,
            stacked=True,
        ),
        Panel(
            "timeseries",
            "Running and waiting",
            "Requests that are computed and requests that wait, by engine.",
            (
                Query(f"sum by ({_BY}) (engine:requests_running:sum{_S})", f"running {_WHO}"),
                Query(f"sum by ({_BY}) (engine:requests_waiting:sum{_S})", f"waiting {_WHO}"),
            ),
            width=12,
        ),
        Panel(
            "timeseries",
            "KV cache",
            "Share of the KV cache in use. Above 90 % requests wait or are preempted.",
            (Query(f"max by ({_BY}) (engine:kv_cache_usage:ratio{_S})", _WHO),),
            unit="percentunit",
            width=12,
            high=1,
            steps=((None, "green"), (0.9, "red")),
        ),
        Panel(
            "timeseries",
            "Preemptions",
            "Requests put back because the KV cache was full. Their work is done twice.",
            (Query(f"sum by ({_BY}) (engine:preemptions:rate5m{_S})", _WHO),),
            unit="ops",
            width=8,
        ),
        Panel(
            "timeseries",
            "Prefix cache",
            "Share of prompt tokens that were already in the cache.",
            (Query(f"max by ({_BY}) (engine:prefix_cache_hits:ratio_rate5m{_S})", _WHO),),
            unit="percentunit",
            width=8,
            high=1,
        ),
        Panel(
            "timeseries",
            "How requests end",
            "stop: the model ended; length: the limit was reached; abort: the client left; error: the "
            "engine failed.",
            (Query(f"sum by (finished_reason) (engine:requests_ended:rate5m{_S})", "{{finished_reason}}"),),
            unit="reqps",
            width=8,
            stacked=True,
        ),
    ),
)


def _p95(title: str, metric: str, text: str) -> Panel:
    return Panel(
        "timeseries",
        title,
        f"{text} 95 % take less.",
        (Query(f"histogram_quantile(0.95, sum by (le, {_BY}) ({metric}_bucket:rate5m{_S}))", _WHO),),
        unit="s",
        width=8,
    )


_TIMES = Row(
    "Waiting times",
    (
        _p95(
            "Time to the first token",
            "engine:time_to_first_token_seconds",
            "From arrival to the first token.",
        ),
        _p95("Time between tokens", "engine:inter_token_latency_seconds", "How fast an answer flows."),
        _p95("Whole request", "engine:e2e_request_latency_seconds", "From arrival to the last token."),
        _p95("Time in the queue", "engine:request_queue_time_seconds", "Time before the engine begins."),
        _p95("Time on the prompt", "engine:request_prefill_time_seconds", "Time on the prompt (prefill)."),
        _p95("Time generating", "engine:request_decode_time_seconds", "Time on the answer (decode)."),
    ),
)
_SHAPE = Row(
    "Shape of the requests",
    (
        Panel(
            "timeseries",
            "Length of prompts",
            "Tokens in a prompt. Longer ones take more of the KV cache and a longer prefill.",
            percentiles("engine:request_prompt_tokens", _S),
            width=12,
        ),
        Panel(
            "timeseries",
            "Length of answers",
            "Tokens in an answer.",
            percentiles("engine:request_generation_tokens", _S),
            width=12,
        ),
    ),
)

ENGINES = Board(
    "citadel-engines",
    "Models and engines",
    "What each engine does and how long its requests take.",
    (_STATE, _WORK, _TIMES, _SHAPE),
    ("host", "model", "deployment"),
)
