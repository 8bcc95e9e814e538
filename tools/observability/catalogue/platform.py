"""What watches: Prometheus, Alertmanager, the blackbox exporter, and what every target has."""

from tools.observability.catalogue.model import counter, gauge

_P = "prometheus"
_A = "alertmanager"
_B = "blackbox"

PLATFORM = (
    gauge("scrape", "up", "", "Whether the last scrape succeeded."),
    gauge("scrape", "scrape_duration_seconds", "", "How long the last scrape took."),
    gauge("scrape", "scrape_samples_post_metric_relabeling", "", "Samples that a scrape brought."),
    gauge("alerts", "ALERTS", "alertname alertstate severity", "Alerts that are pending or firing."),
    gauge(_B, "probe_success", "", "Whether a probe succeeded."),
    gauge(_B, "probe_duration_seconds", "", "How long a probe took."),
    gauge(_B, "probe_ssl_earliest_cert_expiry", "", "When the first certificate of the chain ends."),
    gauge(_P, "prometheus_config_last_reload_successful", "", "Whether the last reload succeeded."),
    counter(
        _P, "prometheus_rule_evaluation_failures_total", "rule_group", "Rules that could not be computed."
    ),
    counter(
        _P, "prometheus_notifications_errors_total", "alertmanager", "Alerts that could not be handed on."
    ),
    counter(_P, "prometheus_notifications_sent_total", "alertmanager", "Alerts handed on."),
    gauge(_P, "prometheus_notifications_alertmanagers_discovered", "", "Alertmanagers in use."),
    gauge(_P, "prometheus_tsdb_head_series", "", "Series in memory."),
    gauge(_P, "prometheus_tsdb_storage_blocks_bytes", "", "Bytes of blocks on the disk."),
    counter(_P, "prometheus_tsdb_head_samples_appended_total", "type", "Samples taken in."),
    gauge(_A, "alertmanager_config_last_reload_successful", "", "Whether the last reload succeeded."),
    counter(_A, "alertmanager_notifications_total", "integration", "Notifications tried."),
    counter(_A, "alertmanager_notifications_failed_total", "integration", "Notifications that failed."),
)
