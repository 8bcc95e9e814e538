"""The host: node exporter, and the citadel exporter for what is particular to these servers."""

from tools.observability.catalogue.model import counter, gauge

_N = "node"
_C = "citadel"
_FS = "device fstype mountpoint"

HOST = (
    gauge(_N, "node_boot_time_seconds", "", "When the host was booted."),
    counter(_N, "node_cpu_seconds_total", "cpu mode", "Time of the processors, by mode."),
    gauge(_N, "node_load1", "", "Load over one minute."),
    gauge(_N, "node_memory_MemAvailable_bytes", "", "Memory that can be had without swapping."),
    gauge(_N, "node_memory_MemTotal_bytes", "", "Memory."),
    counter(_N, "node_vmstat_oom_kill", "", "Processes killed because memory ran out."),
    gauge(_N, "node_filesystem_size_bytes", _FS, "Size of a file system."),
    gauge(_N, "node_filesystem_avail_bytes", _FS, "Space that a user can still write."),
    gauge(_N, "node_filesystem_files", _FS, "Inodes."),
    gauge(_N, "node_filesystem_files_free", _FS, "Free inodes."),
    gauge(_N, "node_filesystem_readonly", _FS, "Whether it is mounted read-only."),
    counter(_N, "node_disk_read_bytes_total", "device", "Bytes read."),
    counter(_N, "node_disk_written_bytes_total", "device", "Bytes written."),
    counter(_N, "node_disk_io_time_seconds_total", "device", "Time during which the disk worked."),
    counter(_N, "node_network_receive_bytes_total", "device", "Bytes received."),
    counter(_N, "node_network_transmit_bytes_total", "device", "Bytes sent."),
    gauge(_N, "node_timex_sync_status", "", "Whether the clock is synchronised."),
    gauge(_N, "node_timex_maxerror_seconds", "", "How far off the clock may be."),
    counter(_N, "node_pressure_memory_stalled_seconds_total", "", "Time in which all waited for memory."),
    counter(_N, "node_pressure_io_stalled_seconds_total", "", "Time in which all waited for disks."),
    gauge(_C, "citadel_host_unit_active", "unit", "Whether a unit of citadel is active."),
    gauge(_C, "citadel_host_unit_failed", "unit", "Whether a unit of citadel has failed."),
    gauge(_C, "citadel_host_unit_restarts", "unit", "How often systemd has restarted a unit since its load."),
    gauge(_C, "citadel_host_driver_mismatch", "", "Whether kernel module and library of the driver differ."),
    gauge(_C, "citadel_host_reboot_required", "", "Whether an update waits for a reboot."),
    gauge(_C, "citadel_host_storage_size_bytes", "store", "Size of where a store lies: models, logs, ..."),
    gauge(_C, "citadel_host_storage_free_bytes", "store", "Space left where a store lies."),
    gauge(
        _C,
        "citadel_host_backup_last_success_timestamp_seconds",
        "backup",
        "When a backup last succeeded; 0: never.",
    ),
    gauge(_C, "citadel_host_certificate_expiry_timestamp_seconds", "path", "When a certificate ends."),
    gauge(_C, "citadel_host_preflight_findings", "severity", "Findings of the last preflight."),
    gauge(_C, "citadel_host_preflight_timestamp_seconds", "", "When preflight last ran."),
    counter(_C, "citadel_host_log_lines_total", "unit level", "Lines in the journal."),
    gauge(
        _C,
        "citadel_host_deployed_timestamp_seconds",
        "kind release",
        "When a release was made current: environment, application, model, configuration.",
    ),
    gauge(_C, "citadel_host_probe_success", "engine_name", "Whether the last one-token probe succeeded."),
    gauge(_C, "citadel_host_probe_duration_seconds", "engine_name", "How long that probe took."),
)
