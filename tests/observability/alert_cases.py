"""For each alert a state in which it fires, with what it says, and one like it in which it stays quiet."""

from __future__ import annotations

from dataclasses import dataclass, field

Inputs = dict[str, str]


@dataclass(frozen=True)
class Case:
    """Series in promtool's notation, one value a minute. `value` is how the description prints `$value`."""

    alert: str
    fires: Inputs
    quiet: Inputs
    at: str
    value: str
    labels: dict[str, str] = field(default_factory=lambda: {"host": "a"})
    quiet_at: str = ""


def _host(**more: str) -> dict[str, str]:
    return {"host": "a", **more}


_DISK = '{host="a",mountpoint="/srv",fstype="ext4",device="/dev/sda1"}'
_SHOWN = {"mountpoint": "/srv"}
_UPLOAD = '{host="a",unit="systemd-journal-upload.service"}'
_ENGINE = '{host="a",deployment="x",model_name="m",engine="0"}'
_WHO = _host(deployment="x", model="m")
_NVITOP = '{host="a",job="gpu",exporter="nvitop",hostname="h",index="1",devicename="L40S",uuid="GPU-1"}'
_CARD = _host(gpu="1", name="L40S", uuid="GPU-1")


def _unit(name: str, **more: str) -> dict[str, str]:
    return {"host": "a", "job": name, **more}


def _up(job: str, more: str = "") -> str:
    return f'up{{job="{job}",host="a"{more}}}'


def _burn(slo: str, failed: str, all_requests: str) -> Inputs:
    if slo == "availability":
        return {
            'citadel_gateway_requests_total{host="a",model="m",endpoint="e",code="200"}': all_requests,
            'citadel_gateway_requests_total{host="a",model="m",endpoint="e",code="502"}': failed,
        }
    return {
        f"vllm:time_to_first_token_seconds_count{_ENGINE}": all_requests,
        f'vllm:time_to_first_token_seconds_bucket{_ENGINE[:-1]},le="2.5"}}': failed,
    }


def _filesystem(avail: str, *, size: str = "1000x400") -> Inputs:
    return {f"node_filesystem_avail_bytes{_DISK}": avail, f"node_filesystem_size_bytes{_DISK}": size}


HOST = (
    Case("HostDown", {_up("node"): "1 0x9"}, {_up("node"): "1 0 1x9"}, "4m", "0", _unit("node")),
    Case(
        "HostMemoryLow",
        {
            'node_memory_MemAvailable_bytes{host="a"}': "4x20",
            'node_memory_MemTotal_bytes{host="a"}': "100x20",
        },
        {
            'node_memory_MemAvailable_bytes{host="a"}': "6x20",
            'node_memory_MemTotal_bytes{host="a"}': "100x20",
        },
        "10m",
        "96%",
    ),
    Case(
        "HostOutOfMemoryKill",
        {'node_vmstat_oom_kill{host="a"}': "0x5 2x20"},
        {'node_vmstat_oom_kill{host="a"}': "2x30"},
        "10m",
        "2",
    ),
    Case(
        "DiskFillsSoon",
        _filesystem("500-0.5x600", size="1000x600"),
        _filesystem("250-0.1x600", size="1000x600"),
        "8h",
        "-460",
        _host(mountpoint="/srv", fstype="ext4", device="/dev/sda1"),
    ),
    Case("DiskAlmostFull", _filesystem("40x20"), _filesystem("60x20"), "10m", "96%", _host(**_SHOWN)),
    Case(
        "DiskInodesLow",
        {f"node_filesystem_files_free{_DISK}": "4x30", f"node_filesystem_files{_DISK}": "100x30"},
        {f"node_filesystem_files_free{_DISK}": "6x30", f"node_filesystem_files{_DISK}": "100x30"},
        "20m",
        "4%",
        _host(**_SHOWN),
    ),
    Case(
        "DiskReadOnly",
        {f"node_filesystem_readonly{_DISK}": "0 1x20"},
        {f"node_filesystem_readonly{_DISK}": "0x3 1x3 0x20"},
        "10m",
        "1",
        _host(**_SHOWN),
    ),
    Case(
        "UnitFailed",
        {'citadel_unit_failed{host="a",unit="citadel-gateway.service"}': "0 1x9"},
        {'citadel_unit_failed{host="a",unit="systemd-journal-upload.service"}': "0 1x9"},
        "5m",
        "1",
        _host(unit="citadel-gateway.service"),
    ),
    Case(
        "UnitRestarting",
        {'citadel_unit_restarts_total{host="a",unit="u"}': "0+0.2x40"},
        {
            'citadel_unit_restarts_total{host="a",unit="u"}': "0x10 1x30",
            'citadel_unit_restarts_total{host="a",unit="systemd-journal-upload.service"}': "0+30x40",
        },
        "35m",
        "6",
        _host(unit="u"),
    ),
    Case(
        "ClockNotSynchronised",
        {'node_timex_sync_status{host="a"}': "0x40", 'node_timex_maxerror_seconds{host="a"}': "16x40"},
        {'node_timex_sync_status{host="a"}': "0x40", 'node_timex_maxerror_seconds{host="a"}': "0.1x40"},
        "20m",
        "0",
    ),
    Case(
        "RebootRequired",
        {'citadel_gpu_reboot_required{host="a"}': "1x90", 'citadel_reboot_required{host="a"}': "0x90"},
        {'citadel_reboot_required{host="a"}': "0x90"},
        "80m",
        "1",
    ),
    Case(
        "PreflightBlocking",
        {'citadel_preflight_findings{host="a",severity="blocking"}': "2x9"},
        {'citadel_preflight_findings{host="a",severity="deviation"}': "4x9"},
        "5m",
        "2",
        _host(severity="warning"),
    ),
)
GPU = (
    Case("GpuMetricsMissing", {_up("gpu"): "1 0x20"}, {_up("gpu"): "1x20"}, "10m", "0", _unit("gpu")),
    Case(
        "GpuLost",
        {
            'gpu_temperature_C{host="a",index="0",uuid="x",devicename="n"}': "50x40",
            'gpu_temperature_C{host="a",index="1",uuid="y",devicename="n"}': "50x10 stale",
        },
        {
            'citadel_gpus{host="a"}': "0x40",
            'citadel_gpus_on_bus{host="a"}': "2x40",
            'citadel_gpu_driver_mismatch{host="a"}': "1x40",
        },
        "20m",
        "1",
    ),
    Case(
        "GpuXidFatal",
        {'citadel_gpu_xid_errors_total{host="a",gpu="1",xid="79"}': "_x5 1x20"},
        {'citadel_gpu_xid_errors_total{host="a",gpu="1",xid="31"}': "_x5 1x20"},
        "8m",
        "1",
        _host(gpu="1", xid="79"),
    ),
    Case(
        "GpuXid",
        {'citadel_gpu_xid_errors_total{host="a",gpu="1",xid="31"}': "1x5 3x20"},
        {'citadel_gpu_xid_errors_total{host="a",gpu="1",xid="31"}': "1x12 _x2 1x60"},
        "12m",
        "2",
        _host(gpu="1", xid="31"),
        quiet_at="24m",
    ),
    Case(
        "GpuXidDcgm",
        {'DCGM_FI_DEV_XID_ERRORS{host="a",gpu="1"}': "0x5 48x20"},
        {'DCGM_FI_DEV_XID_ERRORS{host="a",gpu="1"}': "48x60"},
        "8m",
        "48",
        _host(gpu="1"),
    ),
    Case(
        "GpuRowRemapFailed",
        {'citadel_gpu_row_remap_failed{host="a",gpu="1"}': "1x9"},
        {'citadel_gpu_row_remap_failed{host="a",gpu="1"}': "0x9"},
        "5m",
        "1",
        _host(gpu="1"),
    ),
    Case(
        "GpuRowRemapPending",
        {'citadel_gpu_row_remap_pending{host="a",gpu="1"}': "1x20"},
        {'citadel_gpu_row_remap_pending{host="a",gpu="1"}': "0x20"},
        "15m",
        "1",
        _host(gpu="1"),
    ),
    Case(
        "GpuMemoryErrors",
        {'citadel_gpu_ecc_errors_total{host="a",gpu="1",kind="uncorrected"}': "0+1x60"},
        {'citadel_gpu_ecc_errors_total{host="a",gpu="1",kind="corrected"}': "0+1x60"},
        "1h",
        "60",
        _host(gpu="1"),
    ),
    Case(
        "GpuHot",
        {f"gpu_temperature_C{_NVITOP}": "91x20"},
        {f"gpu_temperature_C{_NVITOP}": "91x3 85x20"},
        "10m",
        "91",
        _CARD,
    ),
    Case(
        "GpuThrottled",
        {'citadel_gpu_throttled{host="a",gpu="1",reason="hw_slowdown"}': "1x20"},
        {'citadel_gpu_throttled{host="a",gpu="1",reason="sw_power_cap"}': "1x20"},
        "15m",
        "1",
        _host(gpu="1", reason="hw_slowdown"),
    ),
    Case(
        "GpuPcieDegraded",
        {
            'citadel_gpu_pcie_width{host="a",gpu="1",which="current"}': "4x60",
            'citadel_gpu_pcie_width{host="a",gpu="1",which="max"}': "16x60",
        },
        {
            'citadel_gpu_pcie_width{host="a",gpu="1",which="current"}': "16x60",
            'citadel_gpu_pcie_width{host="a",gpu="1",which="max"}': "16x60",
        },
        "40m",
        "25%",
        _host(gpu="1"),
    ),
    Case(
        "DriverMismatch",
        {'citadel_gpu_driver_mismatch{host="a"}': "1x9"},
        {'citadel_gpu_driver_mismatch{host="a"}': "0x9"},
        "8m",
        "1",
    ),
)
_QUEUE = 'vllm:request_queue_time_seconds_bucket{host="a",deployment="x",model_name="m",engine="0",le="%s"}'
_PROBES = 'citadel_gateway_backend_probes_total{host="a",model="m",backend="b",kind="real",result="%s"}'
ENGINE = (
    Case(
        "EngineDown",
        {_up("vllm", ',deployment="x"'): "1 0x9"},
        {_up("vllm", ',deployment="x"'): "1 0 1x9"},
        "5m",
        "0",
        _unit("vllm", deployment="x"),
    ),
    Case(
        "EngineProbeFails",
        {_PROBES % "timeout": "0+1x20"},
        {
            _PROBES % "timeout": "0+1x20",
            _PROBES % "passed": "0+1x20",
        },
        "10m",
        "2",
        _host(model="m", backend="b"),
    ),
    Case(
        "EngineStalled",
        {f"vllm:num_requests_running{_ENGINE}": "0x9", f"vllm:num_requests_waiting{_ENGINE}": "3x9"},
        {f"vllm:num_requests_running{_ENGINE}": "1x9", f"vllm:num_requests_waiting{_ENGINE}": "3x9"},
        "5m",
        "3",
        _WHO,
    ),
    Case(
        "EngineSilent",
        {
            'citadel_gateway_requests_in_flight{host="a",model="m"}': "2x30",
            f"vllm:generation_tokens_total{_ENGINE}": "0+60x10 600x20",
        },
        {
            'citadel_gateway_requests_in_flight{host="a",model="m"}': "2x30",
            f"vllm:generation_tokens_total{_ENGINE}": "0+60x30",
        },
        "20m",
        "2",
        _host(model="m"),
    ),
    Case(
        "EngineQueueSlow",
        {_QUEUE % "1.0": "0x30", _QUEUE % "2.0": "0+60x30", _QUEUE % "+Inf": "0+60x30"},
        {_QUEUE % "1.0": "0+60x30", _QUEUE % "2.0": "0+60x30", _QUEUE % "+Inf": "0+60x30"},
        "20m",
        "1.95s",
        _WHO,
    ),
    Case(
        "EngineCacheFull",
        {f"vllm:kv_cache_usage_perc{_ENGINE}": "0.97x20", f"vllm:num_requests_waiting{_ENGINE}": "1x20"},
        {f"vllm:kv_cache_usage_perc{_ENGINE}": "0.97x20", f"vllm:num_requests_waiting{_ENGINE}": "0x20"},
        "10m",
        "97%",
        _WHO,
    ),
    Case(
        "EnginePreempting",
        {f"vllm:num_preemptions_total{_ENGINE}": "0+60x30"},
        {f"vllm:num_preemptions_total{_ENGINE}": "7x30"},
        "20m",
        "1",
        _WHO,
    ),
    Case(
        "EngineRequestsFail",
        {f'vllm:request_success_total{_ENGINE[:-1]},finished_reason="error"}}': "0+60x30"},
        {f'vllm:request_success_total{_ENGINE[:-1]},finished_reason="stop"}}': "0+60x30"},
        "10m",
        "1",
        _host(deployment="x", model="m", finished_reason="error"),
    ),
    Case(
        "EngineRestarting",
        {'process_start_time_seconds{job="vllm",host="a",deployment="x"}': "0+100x30"},
        {'process_start_time_seconds{job="vllm",host="a",deployment="x"}': "100x10 200x20"},
        "25m",
        "25",
        _unit("vllm", deployment="x"),
    ),
)
_BACKEND = 'citadel_gateway_backend_up{host="a",model="m",backend="%s"}'
GATEWAY = (
    Case("GatewayDown", {_up("gateway"): "1 0x9"}, {_up("gateway"): "1x9"}, "3m", "0", _unit("gateway")),
    Case(
        "ModelUnavailable",
        {_BACKEND % "b": "0x9", _BACKEND % "c": "0x9"},
        {_BACKEND % "b": "0x9", _BACKEND % "c": "1x9"},
        "5m",
        "0",
        _host(model="m"),
    ),
    Case(
        "BackendDown",
        {_BACKEND % "b": "0x9", _BACKEND % "c": "1x9"},
        {_BACKEND % "b": "1x9", _BACKEND % "c": "1x9"},
        "5m",
        "0",
        _host(model="m", backend="b"),
    ),
    Case(
        "QueueRefuses",
        {'citadel_gateway_queue_refused_total{host="a",model="m",reason="full"}': "0+1x20"},
        {'citadel_gateway_queue_refused_total{host="a",model="m",reason="full"}': "9x20"},
        "12m",
        "5",
        _host(model="m"),
    ),
    Case(
        "SnapshotRefused",
        {'citadel_gateway_snapshot_refused_total{host="a"}': "0x10 1x20"},
        {'citadel_gateway_snapshot_refused_total{host="a"}': "1x30"},
        "15m",
        "1",
    ),
    Case(
        "AccessLogDropped",
        {'citadel_gateway_access_lines_dropped{host="a"}': "0+1x30"},
        {'citadel_gateway_access_lines_dropped{host="a"}': "30x30"},
        "20m",
        "15",
    ),
    Case(
        "LimitStoreDown",
        {'citadel_gateway_limits_store_up{host="a"}': "1 0x9"},
        {'citadel_gateway_limits_store_up{host="a"}': "1 0 1x9"},
        "5m",
        "0",
    ),
    Case(
        "UsageEventsDropped",
        {'citadel_gateway_usage_events_dropped_total{host="a",cause="full"}': "0+1x30"},
        {'citadel_gateway_usage_events_dropped_total{host="a",cause="full"}': "8x30"},
        "20m",
        "15",
        _host(cause="full"),
    ),
    Case(
        "IssuerKeysStale",
        {'citadel_gateway_issuer_keys_age_seconds{host="a",issuer="i"}': "7000+60x30"},
        {'citadel_gateway_issuer_keys_age_seconds{host="a",issuer="i"}': "0+60x5 0x30"},
        "15m",
        "2h 11m 40s",
        _host(issuer="i"),
    ),
    Case(
        "EdgeUnreachable",
        {'probe_success{job="probe",module="edge",probe="edge",instance="https://a/ready"}': "1 0x9"},
        {'probe_success{job="probe",module="tcp",probe="edge",instance="https://a/ready"}': "1 0x9"},
        "5m",
        "0",
        {"job": "probe", "module": "edge", "probe": "edge", "instance": "https://a/ready"},
    ),
    Case(
        "NeighbourUnreachable",
        {'probe_success{job="probe",module="tcp",probe="sql",instance="b:5432"}': "0x9"},
        {'probe_success{job="probe",module="edge",probe="sql",instance="b:5432"}': "0x9"},
        "8m",
        "0",
        {"job": "probe", "module": "tcp", "probe": "sql", "instance": "b:5432"},
    ),
)
_LINES = 'citadel_log_messages_total{host="a",unit="u",level="%s"}'
_CERTIFICATE = 'citadel_certificate_not_after_timestamp_seconds{host="a",certificate="edge"}'
_CHANGED = 'citadel_config_changed_timestamp_seconds{host="a"}'
_BACKED_UP = 'citadel_backup_last_timestamp_seconds{host="a",kind="config"}'
UPKEEP = (
    Case(
        "LogErrorsMany",
        {_LINES % "error": "0+120x40"},
        {_LINES % "info": "0+120x40"},
        "20m",
        "2",
        _host(unit="u"),
    ),
    Case(
        "LogFlood",
        {_LINES % "info": "0+60000x40"},
        {_LINES % "info": "0+6000x40"},
        "20m",
        "1k",
        _host(unit="u"),
    ),
    Case(
        "LogShippingStopped",
        {f"citadel_unit_active{_UPLOAD}": "0x20"},
        {f"citadel_unit_active{_UPLOAD}": "1x20"},
        "15m",
        "0",
        _host(unit="systemd-journal-upload.service"),
    ),
    Case(
        "CertificateEndsSoon",
        {_CERTIFICATE: "871200x130"},
        {_CERTIFICATE: "2600000x130"},
        "2h",
        "10d 0h 0m 0s",
        _host(certificate="edge"),
    ),
    Case(
        "CertificateEnds",
        {'probe_ssl_earliest_cert_expiry{probe="edge",host="a"}': "90000x90"},
        {'probe_ssl_earliest_cert_expiry{probe="edge",host="a"}': "871200x90"},
        "1h",
        "1d 0h 0m 0s",
        _host(certificate="edge"),
    ),
    Case(
        "BackupOld",
        {_CHANGED: "100000x1600", _BACKED_UP: "10000x1600"},
        {_CHANGED: "100000x1600", _BACKED_UP: "99990x1600"},
        "1500m",
        "1d 1h 0m 0s",
        _host(kind="config"),
    ),
    Case(
        "BackupMissing",
        {'citadel_backups{host="a",kind="config"}': "0x1600", _CHANGED: "0x10 900x1600"},
        {'citadel_backups{host="a",kind="config"}': "0x1600", _CHANGED: "900x1600"},
        "1500m",
        "0",
        _host(kind="config"),
    ),
)
MONITORING = (
    Case("TargetDown", {_up("citadel"): "0x9"}, {_up("node"): "0x9"}, "8m", "0", _unit("citadel")),
    Case(
        "PrometheusConfigRefused",
        {'prometheus_config_last_reload_successful{host="a"}': "0x9"},
        {'prometheus_config_last_reload_successful{host="a"}': "1x9"},
        "8m",
        "0",
    ),
    Case(
        "PrometheusRulesFail",
        {'prometheus_rule_evaluation_failures_total{host="a",rule_group="g"}': "0+1x20"},
        {'prometheus_rule_evaluation_failures_total{host="a",rule_group="g"}': "9x20"},
        "18m",
        "15",
        _host(rule_group="g"),
    ),
    Case(
        "PrometheusCannotNotify",
        {'prometheus_notifications_alertmanagers_discovered{host="a"}': "0x20"},
        {
            'prometheus_notifications_alertmanagers_discovered{host="a"}': "1x20",
            'prometheus_notifications_errors_total{host="a",alertmanager="x"}': "3x20",
        },
        "10m",
        "0",
    ),
    Case(
        "PrometheusSeriesMany",
        {'prometheus_tsdb_head_series{host="a"}': "2000000x30"},
        {'prometheus_tsdb_head_series{host="a"}': "20000x30"},
        "20m",
        "2M",
    ),
    Case(
        "AlertmanagerConfigRefused",
        {'alertmanager_config_last_reload_successful{host="a"}': "0x9"},
        {'alertmanager_config_last_reload_successful{host="a"}': "1x9"},
        "8m",
        "0",
    ),
    Case(
        "NotificationsFail",
        {'alertmanager_notifications_failed_total{host="a",integration="email"}': "0+1x30"},
        {'alertmanager_notifications_failed_total{host="a",integration="email"}': "4x30"},
        "20m",
        "10",
        _host(integration="email"),
    ),
)
SLO = (
    Case(
        "GatewayErrorBudgetBurnFast",
        _burn("availability", "0+2x90", "0+98x90"),
        _burn("availability", "0+1x90", "0+99x90"),
        "80m",
        "2%",
        _host(slo="availability"),
    ),
    Case(
        "GatewayErrorBudgetBurnSteady",
        _burn("availability", "0+1x70", "0+99x70"),
        _burn("availability", "0+0.5x70", "0+99.5x70"),
        "60m",
        "1%",
        _host(slo="availability"),
    ),
    Case(
        "GatewayErrorBudgetBurnSlow",
        _burn("availability", "0+2x140", "0+998x140"),
        _burn("availability", "0+0.5x140", "0+999.5x140"),
        "130m",
        "0.2%",
        _host(slo="availability"),
    ),
    Case(
        "FirstTokenBudgetBurnFast",
        _burn("first-token", "0+20x90", "0+100x90"),
        _burn("first-token", "0+60x90", "0+100x90"),
        "80m",
        "80%",
        _host(slo="first-token"),
    ),
    Case(
        "FirstTokenBudgetBurnSteady",
        _burn("first-token", "0+60x70", "0+100x70"),
        _burn("first-token", "0+80x70", "0+100x70"),
        "60m",
        "40%",
        _host(slo="first-token"),
    ),
    Case(
        "FirstTokenBudgetBurnSlow",
        _burn("first-token", "0+90x140", "0+100x140"),
        _burn("first-token", "0+96x140", "0+100x140"),
        "130m",
        "10%",
        _host(slo="first-token"),
    ),
)
CASES = (*HOST, *GPU, *ENGINE, *GATEWAY, *UPKEEP, *MONITORING, *SLO)
ALWAYS = "Watchdog"
"""The one alert that has no quiet state."""
