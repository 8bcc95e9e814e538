"""Overview: healthy or not, and where."""

from tools.observability.dashboards.model import (
    GOOD_LOW,
    UP,
    UP_DOWN,
    Board,
    Column,
    Panel,
    Query,
    Row,
    percentiles,
)

_H = '{host=~"$host"}'
_FIRING = 'alertstate="firing"'

_NOW = Row(
    "Now",
    (
        Panel(
            "stat",
            "Alerts",
            "Alerts that fire now: critical ones call somebody, warnings are looked at on the same day.",
            (
                Query(f'count(ALERTS{{{_FIRING}, severity="critical"}}) or vector(0)', "critical"),
                Query(f'count(ALERTS{{{_FIRING}, severity="warning"}}) or vector(0)', "warning"),
            ),
            width=4,
            height=4,
            steps=((None, "green"), (1, "red")),
            decimals=0,
            columns=(Column("warning", steps=((None, "green"), (1, "orange"))),),
        ),
        Panel(
            "stat",
            "Error budget left",
            "What is left of the errors that the objectives allow in 30 days, on the worst host. Below "
            "zero the "
            "objective is missed.",
            (Query(f"min by (slo) (slo:budget_left:ratio30d{_H})", "{{slo}}"),),
            unit="percentunit",
            width=5,
            height=4,
            steps=((None, "red"), (0, "orange"), (0.25, "yellow"), (0.5, "green")),
            low=None,
            decimals=1,
        ),
        Panel(
            "stat",
            "Answered",
            "Share of the requests of the last five minutes that were answered without an error of the "
            "service.",
            (Query('1 - max(slo:errors:ratio_rate5m{slo="availability", host=~"$host"})'),),
            unit="percentunit",
            width=3,
            height=4,
            steps=((None, "red"), (0.99, "orange"), (0.999, "green")),
            decimals=2,
        ),
        Panel(
            "stat",
            "Requests",
            "Requests a second that the gateways answer.",
            (Query(f"sum(gateway:requests:rate5m{_H})"),),
            unit="reqps",
            width=3,
            height=4,
            decimals=1,
        ),
        Panel(
            "stat",
            "Tokens",
            "Tokens a second that the engines generate.",
            (Query(f"sum(engine:generation_tokens:rate5m{_H})"),),
            unit="short",
            width=3,
            height=4,
            decimals=1,
        ),
        Panel(
            "stat",
            "First token p95",
            "95 % of the requests get their first token sooner than this. The objective is 2.5 s.",
            (
                Query(
                    "histogram_quantile(0.95, sum by (le)"
                    f" (engine:time_to_first_token_seconds_bucket:rate5m{_H}))"
                ),
            ),
            unit="s",
            width=3,
            height=4,
            steps=((None, "green"), (1, "yellow"), (2.5, "red")),
            decimals=2,
        ),
        Panel(
            "stat",
            "Engines down",
            "Engines that do not answer Prometheus.",
            (Query('count(up{job="vllm", host=~"$host"} == 0) or vector(0)'),),
            width=3,
            height=4,
            steps=((None, "green"), (1, "red")),
            decimals=0,
        ),
    ),
)
_WHERE = Row(
    "Where",
    (
        Panel(
            "table",
            "Firing alerts",
            "Each alert that fires, the worst first. Its runbook is in docs/runbooks.",
            (
                Query(
                    f"max by (severity, alertname, host, deployment, model, gpu) (ALERTS{{{_FIRING}, "
                    f'severity!="none"}})',
                    column="firing",
                ),
            ),
            width=9,
            height=9,
            hidden=("firing",),
            sort="severity",
            order=("severity", "alertname", "host", "deployment", "model", "gpu"),
            columns=(Column("severity", width=80), Column("alertname", width=200), Column("host", width=140)),
            empty="no alert",
        ),
        Panel(
            "table",
            "Hosts",
            "One line for each host, with its fullest disk, its hottest GPU and its own traffic.",
            (
                Query('max by (host) (up{job="node", host=~"$host"})', column="up"),
                Query(f"max by (host) (host:cpu_used:ratio{_H})", column="CPU"),
                Query(f"max by (host) (host:memory_used:ratio{_H})", column="memory"),
                Query(f"max by (host) (host:disk_used:ratio{_H})", column="disk"),
                Query(f"max by (host) (host:gpus:count{_H})", column="GPUs"),
                Query(f"avg by (host) (gpu:utilization:ratio{_H})", column="GPU use"),
                Query(f"max by (host) (gpu:temperature:celsius{_H})", column="hottest"),
                Query(f"sum by (host) (engine:generation_tokens:rate5m{_H})", column="tokens/s"),
                Query(f"sum by (host) (engine:requests_waiting:sum{_H})", column="waiting"),
            ),
            width=15,
            height=9,
            sort="host",
            order=("host",),
            columns=(
                Column("host", width=160),
                Column("up", words=UP_DOWN, width=60),
                Column("CPU", "percentunit", GOOD_LOW, 0, width=70),
                Column("memory", "percentunit", GOOD_LOW, 0, width=80),
                Column("disk", "percentunit", GOOD_LOW, 0, width=70),
                Column("GPUs", decimals=0, width=65),
                Column("GPU use", "percentunit", decimals=0, width=85),
                Column("hottest", "celsius", ((None, "green"), (80, "yellow"), (88, "red")), 0),
                Column("tokens/s", decimals=1),
                Column("waiting", decimals=0, steps=((None, "green"), (1, "yellow"), (20, "red"))),
            ),
        ),
    ),
)
_TRAFFIC = Row(
    "Traffic and waiting times",
    (
        Panel(
            "timeseries",
            "Requests by status",
            "Answers of the gateways by HTTP status. 429 and 4xx are the clients' own, 5xx count against "
            "the budget.",
            (Query(f"sum by (code) (gateway:requests:rate5m{_H})", "{{code}}"),),
            unit="reqps",
            width=8,
            stacked=True,
        ),
        Panel(
            "timeseries",
            "Time to the first token",
            "From a request's arrival at the engine to its first token, over all selected hosts.",
            percentiles("engine:time_to_first_token_seconds", _H),
            unit="s",
            width=8,
            steps=((None, "green"), (2.5, "red")),
        ),
        Panel(
            "timeseries",
            "Time between tokens",
            "How fast an answer flows once it has begun; 50 ms are 20 tokens a second.",
            percentiles("engine:inter_token_latency_seconds", _H),
            unit="s",
            width=8,
        ),
        Panel(
            "timeseries",
            "Whole request",
            "From a request's arrival at the engine to its last token.",
            percentiles("engine:e2e_request_latency_seconds", _H),
            unit="s",
            width=8,
        ),
        Panel(
            "timeseries",
            "Running and waiting",
            "Requests that are computed, and those that wait for it. Waiting ones that only grow mean too "
            "little "
            "capacity.",
            (
                Query(f"sum(engine:requests_running:sum{_H})", "running"),
                Query(f"sum(engine:requests_waiting:sum{_H})", "waiting"),
            ),
            width=8,
        ),
        Panel(
            "timeseries",
            "Saturation",
            "The fullest KV cache, the mean use of the GPUs and of the processors. Above 90 % requests "
            "begin to wait.",
            (
                Query(f"max(engine:kv_cache_usage:ratio{_H})", "KV cache, fullest"),
                Query(f"avg(gpu:utilization:ratio{_H})", "GPUs, mean"),
                Query(f"avg(host:cpu_used:ratio{_H})", "processors, mean"),
            ),
            unit="percentunit",
            width=8,
            high=1,
            steps=((None, "green"), (0.9, "red")),
        ),
    ),
)
_OBJECTIVES = Row(
    "Objectives and neighbours",
    (
        Panel(
            "timeseries",
            "Burn rate",
            "How many times faster than allowed the error budget is used up, over one hour. 1 uses it up "
            "in exactly "
            "30 days; at 14.4 somebody is called.",
            (
                Query(
                    'max by (slo) (slo:errors:ratio_rate1h{host=~"$host"})'
                    " / on (slo) (1 - slo:objective:ratio)",
                    "{{slo}}",
                ),
            ),
            width=8,
            steps=((None, "green"), (14.4, "red")),
        ),
        Panel(
            "timeseries",
            "GPUs",
            "Use of the GPUs, host by host.",
            (Query(f"avg by (host) (gpu:utilization:ratio{_H})", "{{host}}"),),
            unit="percentunit",
            width=8,
            high=1,
        ),
        Panel(
            "table",
            "Probes",
            "What is probed from outside: the address for clients, the neighbours, the monitored hosts.",
            (
                Query('max by (probe, module) (probe_success{job="probe"})', column="state"),
                Query('max by (probe, module) (probe_duration_seconds{job="probe"})', column="took"),
            ),
            width=8,
            sort="probe",
            order=("probe", "module"),
            columns=(
                Column("probe", width=160),
                Column("module", width=80),
                Column("state", words=UP_DOWN, steps=UP),
                Column("took", "s", decimals=3),
            ),
        ),
    ),
)

OVERVIEW = Board(
    "citadel-overview",
    "Overview",
    "Whether the service is healthy, and if not, where.",
    (_NOW, _WHERE, _TRAFFIC, _OBJECTIVES),
)
