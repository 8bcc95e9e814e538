"""Logs and events."""

from tools.observability.dashboards.model import (
    NONE_IS_GOOD,
    YES_NO_BAD,
    Board,
    Column,
    Panel,
    Query,
    Row,
)

_H = '{host=~"$host"}'
_U = '{host=~"$host", unit=~"$unit"}'

_LINES = Row(
    "Log lines",
    (
        Panel(
            "timeseries",
            "Lines by unit",
            "Lines a second that each unit writes to the journal.",
            (Query(f"sum by (unit) (host:log_lines:rate5m{_U})", "{{unit}}"),),
            width=8,
            stacked=True,
        ),
        Panel(
            "timeseries",
            "Errors by unit",
            "Lines a second with the level error or critical.",
            (
                Query(
                    'sum by (unit) (host:log_lines:rate5m{level=~"error|critical", host=~"$host", '
                    'unit=~"$unit"})',
                    "{{unit}}",
                ),
            ),
            width=8,
            stacked=True,
        ),
        Panel(
            "timeseries",
            "Lines by level",
            "Lines a second by level, over the selected units.",
            (Query(f"sum by (level) (host:log_lines:rate5m{_U})", "{{level}}"),),
            width=8,
            stacked=True,
        ),
        Panel(
            "text",
            "Read the lines",
            "How the lines themselves are read.",
            width=24,
            height=3,
            content="On the host: `citadel logs --since '1 hour ago' --level warning`, "
            "`citadel logs --unit gateway --grep TEXT`, and `citadel logs --request-id ID` for one request "
            "from the gateway to its "
            "engine. On "
            "the host that collects the journals, `--host NAME` or `--host '*'` chooses whose. `citadel logs "
            "patterns` shows which kinds of messages are new; `--json` gives every field.",
        ),
    ),
)
_UNITS = Row(
    "Units and what changed",
    (
        Panel(
            "table",
            "Units",
            "Each unit that the exporter tells of.",
            (
                Query(f"max by (host, unit) (citadel_unit_active{_U})", column="runs"),
                Query(f"max by (host, unit) (citadel_unit_failed{_U})", column="failed"),
                Query(f"max by (host, unit) (citadel_unit_restarts_total{_U})", column="restarts"),
                Query(f"max by (host, unit) (time() - citadel_unit_start_time_seconds{_U})", column="for"),
            ),
            width=12,
            height=9,
            sort="unit",
            order=("unit", "host"),
            columns=(
                Column("unit", width=240),
                Column("host", width=110),
                Column("runs", width=70, words={0: ("no", "orange"), 1: ("yes", "green")}),
                Column("failed", width=70, words=YES_NO_BAD),
                Column("restarts", decimals=0),
                Column("for", "s", width=110),
            ),
        ),
        Panel(
            "timeseries",
            "Restarts",
            "Automatic restarts within 30 minutes.",
            (
                Query(
                    f"max by (host, unit) (increase(citadel_unit_restarts_total{_U}[30m]))",
                    "{{unit}} · {{host}}",
                ),
            ),
            width=12,
            height=9,
            decimals=0,
        ),
        Panel(
            "table",
            "State of the hosts",
            "What waits for somebody, and which configuration is in force.",
            (
                Query(f"max by (host) (citadel_reboot_required{_H})", column="reboot"),
                Query(f"max by (host) (citadel_gpu_driver_mismatch{_H})", column="driver mismatch"),
                Query(
                    'max by (host) (citadel_preflight_findings{severity="blocking", host=~"$host"})',
                    column="blocking findings",
                ),
                Query(
                    f"max by (host) (time() - citadel_config_changed_timestamp_seconds{_H})",
                    column="configuration changed",
                ),
            ),
            width=12,
            sort="host",
            order=("host",),
            columns=(
                Column("host", width=120),
                Column("reboot", words={0: ("no", "green"), 1: ("required", "orange")}),
                Column("driver mismatch", width=140, words=YES_NO_BAD),
                Column("blocking findings", width=150, decimals=0, steps=NONE_IS_GOOD),
                Column("configuration changed", "s", width=190),
            ),
        ),
        Panel(
            "bargauge",
            "Days until certificates end",
            "Of the edge as clients see it, and of the files that the exporter looks at.",
            (
                Query(
                    'min by (probe) (probe_ssl_earliest_cert_expiry{job="probe"} - time()) / 86400',
                    "{{probe}}",
                ),
                Query(
                    f"min by (host, certificate) (citadel_certificate_not_after_timestamp_seconds{_H} - "
                    f"time())"
                    " / 86400",
                    "{{certificate}} · {{host}}",
                ),
            ),
            unit="none",
            width=6,
            high=90,
            decimals=0,
            steps=((None, "red"), (3, "orange"), (21, "green")),
        ),
        Panel(
            "bargauge",
            "Hours since the last backup",
            "Age of the newest backup of each kind, in hours.",
            (
                Query(
                    f"max by (host, kind) (time() - citadel_backup_last_timestamp_seconds{_H}) / 3600",
                    "{{kind}} · {{host}}",
                ),
            ),
            unit="none",
            width=6,
            high=48,
            decimals=1,
            steps=((None, "green"), (26, "orange"), (48, "red")),
        ),
    ),
)
_WATCHING = Row(
    "What watches",
    (
        Panel(
            "table",
            "Targets",
            "Targets of Prometheus by job: how many there are, how many answer, and the slowest scrape.",
            (
                Query("count by (job) (up)", column="targets"),
                Query("sum by (job) (up)", column="answer"),
                Query("max by (job) (scrape_duration_seconds)", column="slowest"),
                Query("sum by (job) (scrape_samples_post_metric_relabeling)", column="samples"),
            ),
            width=8,
            sort="job",
            order=("job",),
            columns=(
                Column("job", width=120),
                Column("targets", decimals=0, width=75),
                Column("answer", decimals=0, width=75),
                Column("slowest", "s", decimals=2, width=85),
                Column("samples", decimals=0, width=85),
            ),
        ),
        Panel(
            "timeseries",
            "Prometheus",
            "Series in memory and samples taken in a second.",
            (
                Query("sum(prometheus_tsdb_head_series)", "series"),
                Query(
                    "sum(rate(prometheus_tsdb_head_samples_appended_total[$__rate_interval]))", "samples/s"
                ),
                Query("sum(increase(prometheus_rule_evaluation_failures_total[15m]))", "failed rules"),
            ),
            width=8,
        ),
        Panel(
            "timeseries",
            "Notifications",
            "Notifications of Alertmanager in ten minutes, and those that failed.",
            (
                Query(
                    "sum by (integration) (increase(alertmanager_notifications_total[10m]))",
                    "{{integration}}",
                ),
                Query(
                    "sum by (integration) (increase(alertmanager_notifications_failed_total[10m]))",
                    "{{integration}} failed",
                ),
            ),
            width=8,
        ),
    ),
)

LOGS = Board(
    "citadel-logs",
    "Logs and events",
    "What is written, what has changed, and whether watching works.",
    (_LINES, _UNITS, _WATCHING),
    ("host", "unit"),
)
