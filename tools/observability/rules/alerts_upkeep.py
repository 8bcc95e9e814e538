"""Alerts on logs, certificates, backups, and on what watches."""

from __future__ import annotations

from tools.observability.rules.model import Alert, Group

_EVENTS = "citadel-logs"
_CERTIFICATE = (
    '(label_replace(probe_ssl_earliest_cert_expiry, "certificate", "$1", "probe", "(.+)")'
    " or citadel_certificate_not_after_timestamp_seconds)"
)
_LEFT = f"min by (host, certificate) ({_CERTIFICATE}) - time()"

UPKEEP = Group(
    "citadel-upkeep-alerts",
    (
        Alert(
            "LogErrorsMany",
            'sum by (host, unit) (host:log_lines:rate5m{level=~"error|critical"}) > 1',
            "warning",
            "{{ $labels.host }}: {{ $labels.unit }} logs many errors",
            "{{ $value | humanize }} lines a second with the level error or worse.",
            "log-errors",
            (_EVENTS, "Errors by unit"),
            "10m",
        ),
        Alert(
            "LogFlood",
            "sum by (host, unit) (host:log_lines:rate5m) > 500",
            "warning",
            "{{ $labels.host }}: {{ $labels.unit }} floods the log",
            "{{ $value | humanize }} lines a second; journald drops lines beyond its limit.",
            "log-errors",
            (_EVENTS, "Lines by unit"),
            "5m",
        ),
        Alert(
            "LogShippingStopped",
            'citadel_unit_active{unit="systemd-journal-upload.service"} == 0',
            "warning",
            "{{ $labels.host }}: logs are not shipped",
            "systemd-journal-upload is not running (active is {{ $value }}). Nothing is lost while the "
            "journal keeps the lines.",
            "logs-lost",
            (_EVENTS, "Units"),
            "10m",
        ),
        Alert(
            "CertificateEndsSoon",
            f"{_LEFT} < 21 * 86400 and {_LEFT} >= 3 * 86400",
            "warning",
            "The certificate {{ $labels.certificate }} ends soon",
            "{{ $value | humanizeDuration }} are left (host: {{ $labels.host }}).",
            "certificates",
            (_EVENTS, "Days until certificates end"),
            "1h",
        ),
        Alert(
            "CertificateEnds",
            f"{_LEFT} < 3 * 86400",
            "critical",
            "The certificate {{ $labels.certificate }} ends within three days",
            "{{ $value | humanizeDuration }} are left (host: {{ $labels.host }}); then clients refuse it.",
            "certificates",
            (_EVENTS, "Days until certificates end"),
            "10m",
        ),
        Alert(
            "BackupOld",
            "citadel_config_changed_timestamp_seconds"
            " - on (host) group_right () citadel_backup_last_timestamp_seconds > 3600",
            "warning",
            "{{ $labels.host }}: the configuration has changed since the newest backup",
            "It was changed {{ $value | humanizeDuration }} after the newest backup {{ $labels.kind }}, and "
            "not by a playbook: that makes one first.",
            "backup-old",
            (_EVENTS, "Hours since the last backup"),
            "1d",
        ),
        Alert(
            "BackupMissing",
            "citadel_backups == 0 and on (host) changes(citadel_config_changed_timestamp_seconds[30d]) > 0",
            "warning",
            "{{ $labels.host }}: the configuration has changed, and there is no backup {{ $labels.kind }}",
            "{{ $value }} backups are kept.",
            "backup-old",
            (_EVENTS, "Hours since the last backup"),
            "1d",
        ),
    ),
)

MONITORING = Group(
    "citadel-monitoring-alerts",
    (
        Alert(
            "TargetDown",
            'up{job!~"node|vllm|gateway|gpu"} == 0',
            "warning",
            "{{ $labels.host }}: {{ $labels.job }} does not answer",
            "The target of the job {{ $labels.job }} has not answered for five minutes (up is {{ $value }}).",
            "target-down",
            (_EVENTS, "Targets"),
            "5m",
        ),
        Alert(
            "PrometheusConfigRefused",
            "prometheus_config_last_reload_successful == 0",
            "warning",
            "{{ $labels.host }}: Prometheus has refused its configuration",
            "It goes on with the one before (reload successful is {{ $value }}).",
            "monitoring-broken",
            (_EVENTS, "Targets"),
            "5m",
        ),
        Alert(
            "PrometheusRulesFail",
            "sum by (host, rule_group) (increase(prometheus_rule_evaluation_failures_total[15m])) > 0",
            "critical",
            "{{ $labels.host }}: rules cannot be computed",
            "{{ $value | humanize }} failures in 15 minutes in {{ $labels.rule_group }}: alerts may be "
            "missing.",
            "monitoring-broken",
            (_EVENTS, "Prometheus"),
        ),
        Alert(
            "PrometheusCannotNotify",
            "increase(prometheus_notifications_errors_total[10m]) > 0 or "
            "prometheus_notifications_alertmanagers_discovered < 1",
            "critical",
            "{{ $labels.host }}: alerts do not reach Alertmanager",
            "Errors in ten minutes, or Alertmanagers known: {{ $value | humanize }}.",
            "monitoring-broken",
            (_EVENTS, "Prometheus"),
            "5m",
        ),
        Alert(
            "PrometheusSeriesMany",
            "prometheus_tsdb_head_series > 1000000",
            "warning",
            "{{ $labels.host }}: Prometheus holds very many series",
            "{{ $value | humanize }} series: a label without bounds, most likely.",
            "monitoring-broken",
            (_EVENTS, "Prometheus"),
            "15m",
        ),
        Alert(
            "AlertmanagerConfigRefused",
            "alertmanager_config_last_reload_successful == 0",
            "warning",
            "{{ $labels.host }}: Alertmanager has refused its configuration",
            "It goes on with the one before (reload successful is {{ $value }}).",
            "monitoring-broken",
            (_EVENTS, "Targets"),
            "5m",
        ),
        Alert(
            "NotificationsFail",
            "sum by (host, integration) (increase(alertmanager_notifications_failed_total[10m])) > 0",
            "critical",
            "{{ $labels.host }}: notifications by {{ $labels.integration }} fail",
            "{{ $value | humanize }} notifications have failed in ten minutes.",
            "monitoring-broken",
            (_EVENTS, "Notifications"),
            "5m",
        ),
        Alert(
            "Watchdog",
            "vector(1)",
            "none",
            "Alerts work",
            "This alert always fires (value {{ $value }}): whoever receives it raises the alarm when it "
            "stays away.",
            "watchdog",
            (_EVENTS, "Notifications"),
        ),
    ),
)
