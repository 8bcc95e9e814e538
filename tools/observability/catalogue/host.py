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
    gauge(_C, "citadel_config_info", "version environment", "The configuration in force, always 1."),
    gauge(_C, "citadel_config_changed_timestamp_seconds", "", "When the configuration last changed."),
    gauge(_C, "citadel_unit_active", "unit", "Whether a unit runs."),
    gauge(_C, "citadel_unit_failed", "unit", "Whether systemd gave a unit up or it ended with an error."),
    counter(_C, "citadel_unit_restarts_total", "unit", "Automatic restarts of a unit."),
    gauge(_C, "citadel_unit_start_time_seconds", "unit", "Since when a unit is active."),
    counter(_C, "citadel_log_messages_total", "unit level", "Lines that units wrote to the journal."),
    gauge(_C, "citadel_space_size_bytes", "store", "Size of the file system that holds a store."),
    gauge(_C, "citadel_space_free_bytes", "store", "What services may still write to it."),
    gauge(_C, "citadel_backup_last_timestamp_seconds", "kind", "When the newest backup was made."),
    gauge(_C, "citadel_backups", "kind", "How many backups are kept."),
    gauge(_C, "citadel_certificate_not_after_timestamp_seconds", "certificate", "When a certificate ends."),
    gauge(_C, "citadel_preflight_findings", "severity", "Findings of the last preflight."),
    gauge(_C, "citadel_preflight_timestamp_seconds", "", "When the last preflight was made."),
    gauge(_C, "citadel_reboot_required", "", "Whether the distribution waits for a restart."),
    gauge(_C, "citadel_exporter_collector_up", "collector", "Whether a collector's last run succeeded."),
    gauge(_C, "citadel_exporter_collector_age_seconds", "collector", "Time since its last success."),
)
