"""Capacity: how much is used, how much is left, and when it runs out."""

from tools.observability.dashboards.model import GOOD_LOW, Board, Column, Panel, Query, Row
from tools.observability.rules.recording import DISKS

_H = '{host=~"$host"}'
_M = '{host=~"$host", model=~"$model"}'
_FREE = f'node_filesystem_avail_bytes{{{DISKS}, host=~"$host"}}'

_USE = Row(
    "Use",
    (
        Panel(
            "stat",
            "Tokens per second and GPU",
            "Tokens generated a second for each GPU, on hosts that have any.",
            (Query(f"sum(engine:generation_tokens:rate5m{_H}) / sum(host:gpus:count{_H})"),),
            width=6,
            height=5,
            decimals=1,
        ),
        Panel(
            "stat",
            "Peak of the last day",
            "Most tokens a second within the last 24 hours.",
            (Query(f"max_over_time(sum(engine:generation_tokens:rate5m{_H})[1d:5m])"),),
            width=6,
            height=5,
            decimals=1,
        ),
        Panel(
            "stat",
            "Time with a queue",
            "Share of the last day in which requests waited, for the worst model. Often above 10 %: more "
            "capacity.",
            (
                Query(
                    f"max(avg_over_time((sum by (host, model) (engine:requests_waiting:sum{_M})"
                    " > bool 0)[1d:5m]))"
                ),
            ),
            unit="percentunit",
            width=6,
            height=5,
            decimals=1,
            steps=((None, "green"), (0.1, "yellow"), (0.3, "red")),
        ),
        Panel(
            "stat",
            "GPU use of the last day",
            "Mean use of the GPUs within the last 24 hours.",
            (Query(f"avg(avg_over_time(gpu:utilization:ratio{_H}[1d]))"),),
            unit="percentunit",
            width=6,
            height=5,
            decimals=0,
        ),
        Panel(
            "timeseries",
            "Tokens per second and GPU by host",
            "Compare hosts of the same kind: one that falls behind has a reason.",
            (
                Query(
                    f"sum by (host) (engine:generation_tokens:rate5m{_H})"
                    f" / on (host) max by (host) (host:gpus:count{_H})",
                    "{{host}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "timeseries",
            "Queue by model",
            "Requests that wait, by model.",
            (Query(f"sum by (model) (engine:requests_waiting:sum{_M})", "{{model}}"),),
            width=12,
        ),
        Panel(
            "timeseries",
            "KV cache by model",
            "The fullest KV cache of each model.",
            (Query(f"max by (model) (engine:kv_cache_usage:ratio{_M})", "{{model}}"),),
            unit="percentunit",
            width=12,
            high=1,
            steps=((None, "green"), (0.9, "red")),
        ),
        Panel(
            "timeseries",
            "Tokens by model",
            "Tokens generated a second, by model.",
            (Query(f"sum by (model) (engine:generation_tokens:rate5m{_M})", "{{model}}"),),
            width=12,
            stacked=True,
        ),
    ),
)
_DISKS = Row(
    "Disks",
    (
        Panel(
            "bargauge",
            "Days until a disk is full",
            "At the pace of the last six hours. One that does not fill shows 365.",
            (
                Query(
                    f"min by (host, mountpoint) (clamp_max({_FREE}"
                    f" / clamp_min(-deriv({_FREE}[6h]), 0.001) / 86400, 365))",
                    "{{mountpoint}} · {{host}}",
                ),
            ),
            unit="none",
            width=8,
            high=365,
            decimals=0,
            steps=((None, "red"), (1, "orange"), (14, "yellow"), (60, "green")),
        ),
        Panel(
            "timeseries",
            "Free space",
            "Space that a user can still write, by file system.",
            (Query(f"min by (host, mountpoint) ({_FREE})", "{{mountpoint}} · {{host}}"),),
            unit="bytes",
            width=8,
        ),
        Panel(
            "table",
            "Stores",
            "Where models, logs, backups and state lie.",
            (
                Query(f"max by (host, store) (citadel_space_size_bytes{_H})", column="size"),
                Query(f"min by (host, store) (citadel_space_free_bytes{_H})", column="free"),
                Query(
                    f"max by (host, store) (1 - citadel_space_free_bytes{_H} / citadel_space_size_bytes{_H})",
                    column="used",
                ),
            ),
            width=8,
            sort="host",
            order=("host", "store"),
            columns=(
                Column("host", width=115),
                Column("store", width=80),
                Column("size", "bytes", decimals=1, width=85),
                Column("free", "bytes", decimals=1, width=85),
                Column("used", "percentunit", GOOD_LOW, 0, width=75),
            ),
        ),
        Panel(
            "timeseries",
            "Size of the metrics",
            "Bytes of Prometheus' blocks on the disk.",
            (Query("sum(prometheus_tsdb_storage_blocks_bytes)", "blocks"),),
            unit="bytes",
            width=12,
        ),
        Panel(
            "timeseries",
            "GPU memory by host",
            "Share of the GPUs' memory in use.",
            (
                Query(
                    f"sum by (host) (gpu:memory_used:bytes{_H}) / sum by (host) (gpu:memory_total:bytes{_H})",
                    "{{host}}",
                ),
            ),
            unit="percentunit",
            width=12,
            high=1,
        ),
    ),
)

CAPACITY = Board(
    "citadel-capacity",
    "Capacity",
    "How much is used, how much is left, and when it runs out.",
    (_USE, _DISKS),
    ("host", "model"),
)
