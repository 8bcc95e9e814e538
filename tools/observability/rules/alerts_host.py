"""Alerts on hosts, their disks and their GPUs."""

from __future__ import annotations

from tools.observability.rules.model import Alert, Group
from tools.observability.rules.recording import DISKS

_GPU_BOARD = "citadel-gpu"
_EVENTS = "citadel-logs"
FATAL_XIDS = "48|62|63|64|74|79|92|94|95|109|119|120|121|140|143"
"""Xids of the memory, the bus, the links and the card's own processor; others mostly come from a program."""
_OTHER_UNITS = 'unit!="systemd-journal-upload.service"'
"""It restarts for as long as the receiver is away, by design; LogShippingStopped tells of it."""

HOST = Group(
    "citadel-host-alerts",
    (
        Alert(
            "HostDown",
            'up{job="node"} == 0',
            "critical",
            "{{ $labels.host }} does not answer",
            "The node exporter of {{ $labels.host }} has not answered for a minute (up is "
            "{{ $value }}): the host is off, unreachable, or too busy to answer.",
            "host-down",
            ("citadel-overview", "Hosts"),
            "1m",
            "2m",  # longer than what it silences, or that is told when the host is back
        ),
        Alert(
            "HostMemoryLow",
            "host:memory_used:ratio > 0.95",
            "warning",
            "{{ $labels.host }} has little memory left",
            "{{ $value | humanizePercentage }} of the memory is in use; above 95 % the kernel soon starts "
            "to kill.",
            "memory",
            (_GPU_BOARD, "Memory"),
            "5m",
        ),
        Alert(
            "HostOutOfMemoryKill",
            "increase(node_vmstat_oom_kill[10m]) > 0",
            "critical",
            "{{ $labels.host }}: the kernel has killed a process to get memory",
            "About {{ $value | humanize }} processes were killed in ten minutes because memory ran out; an "
            "engine's worker may be "
            "among them.",
            "memory",
            (_GPU_BOARD, "Memory"),
        ),
        Alert(
            "DiskFillsSoon",
            f"predict_linear(node_filesystem_avail_bytes{{{DISKS}}}[6h], 86400) < 0"
            " and on (host, mountpoint) host:disk_used:ratio > 0.7",
            "warning",
            "{{ $labels.host }}: {{ $labels.mountpoint }} is full within a day",
            "At the pace of the last six hours {{ $value | humanize1024 }}B would be left on {{ "
            "$labels.mountpoint }} in 24 hours.",
            "disk-space",
            ("citadel-capacity", "Days until a disk is full"),
            "30m",
        ),
        Alert(
            "DiskAlmostFull",
            "host:disk_used:ratio > 0.95",
            "critical",
            "{{ $labels.host }}: {{ $labels.mountpoint }} is almost full",
            "{{ $value | humanizePercentage }} of {{ $labels.mountpoint }} is used. Logs, downloads of "
            "models and metrics stop "
            "when it is full.",
            "disk-space",
            (_GPU_BOARD, "Disks"),
            "5m",
        ),
        Alert(
            "DiskInodesLow",
            f"max by (host, mountpoint) (node_filesystem_files_free{{{DISKS}}}"
            f" / (node_filesystem_files{{{DISKS}}} > 0)) < 0.05",
            "warning",
            "{{ $labels.host }}: {{ $labels.mountpoint }} has few inodes left",
            "{{ $value | humanizePercentage }} of the inodes of {{ $labels.mountpoint }} are free; without "
            "one no file can be made.",
            "disk-space",
            (_GPU_BOARD, "Disks"),
            "15m",
        ),
        Alert(
            "DiskReadOnly",
            f"max by (host, mountpoint) (node_filesystem_readonly{{{DISKS}}}) == 1",
            "critical",
            "{{ $labels.host }}: {{ $labels.mountpoint }} is read-only",
            "{{ $labels.mountpoint }} is mounted read-only (readonly is {{ $value }}): after an error of "
            "the disk the kernel does "
            "that by itself.",
            "disk-space",
            (_GPU_BOARD, "Disks"),
            "5m",
        ),
        Alert(
            "UnitFailed",
            f"citadel_unit_failed{{{_OTHER_UNITS}}} == 1",
            "critical",
            "{{ $labels.host }}: {{ $labels.unit }} has failed",
            "systemd has given up on {{ $labels.unit }} (failed is {{ $value }}).",
            "unit-failed",
            (_EVENTS, "Units"),
            "2m30s",
        ),
        Alert(
            "UnitRestarting",
            f"increase(citadel_unit_restarts_total{{{_OTHER_UNITS}}}[30m]) > 2",
            "warning",
            "{{ $labels.host }}: {{ $labels.unit }} keeps restarting",
            "{{ $labels.unit }} was restarted {{ $value | humanize }} times within 30 minutes.",
            "unit-failed",
            (_EVENTS, "Restarts"),
        ),
        Alert(
            "ClockNotSynchronised",
            "min by (host) (node_timex_sync_status) == 0 and on (host) node_timex_maxerror_seconds >= 16",
            "warning",
            "{{ $labels.host }}: the clock is not synchronised",
            "The clock has had no source for a long time (sync status {{ $value }}); tokens, certificates "
            "and logs depend on it.",
            "clock",
            ("citadel-overview", "Hosts"),
            "15m",
        ),
        Alert(
            "RebootRequired",
            "max by (host) (citadel_reboot_required == 1 or citadel_gpu_reboot_required == 1)",
            "info",
            "{{ $labels.host }} waits for a reboot",
            "An update takes effect only after a reboot (reboot required is {{ $value }}).",
            "reboot-required",
            (_EVENTS, "State of the hosts"),
            "1h",
        ),
        Alert(
            "PreflightBlocking",
            'citadel_preflight_findings{severity="blocking"} > 0',
            "warning",
            "{{ $labels.host }}: the last preflight found something blocking",
            "{{ $value }} findings of the last preflight are blocking: the next deployment will stop at "
            "them.",
            "preflight-blocking",
            (_EVENTS, "State of the hosts"),
        ),
    ),
)

GPU = Group(
    "citadel-gpu-alerts",
    (
        Alert(
            "GpuMetricsMissing",
            'up{job="gpu"} == 0',
            "warning",
            "{{ $labels.host }}: no metrics of the GPUs",
            "The exporter of the job {{ $labels.job }} has not answered for five minutes (up is {{ $value "
            "}}). It ends when the "
            "driver does not answer or shows no GPU.",
            "gpu-lost",
            (_GPU_BOARD, "GPUs"),
            "5m",
        ),
        Alert(
            "GpuLost",
            "(max_over_time(host:gpus:count[1d]) - host:gpus:count > 0 or citadel_gpus_on_bus - "
            "citadel_gpus > 0)"
            " unless on (host) citadel_gpu_driver_mismatch == 1",
            "critical",
            "{{ $labels.host }}: a GPU is missing",
            "{{ $value }} GPUs fewer than the bus shows or than within the last day. A card that fell off "
            "the bus shows Xid 79.",
            "gpu-lost",
            (_GPU_BOARD, "GPUs"),
            "2m",
        ),
        Alert(
            "GpuXidFatal",
            f'gpu:xid_errors:increase10m{{xid=~"{FATAL_XIDS}"}} > 0',
            "critical",
            "{{ $labels.host }}: GPU {{ $labels.gpu }} reports Xid {{ $labels.xid }}",
            "Xid {{ $labels.xid }} came {{ $value | humanize }} times in ten minutes; it tells of the "
            "card, its memory or its bus.",
            "gpu-xid",
            (_GPU_BOARD, "Xid events"),
        ),
        Alert(
            "GpuXid",
            f'gpu:xid_errors:increase10m{{xid!~"{FATAL_XIDS}"}} > 0',
            "warning",
            "{{ $labels.host }}: GPU {{ $labels.gpu }} reports Xid {{ $labels.xid }}",
            "Xid {{ $labels.xid }} came {{ $value | humanize }} times in ten minutes; mostly a program has "
            "caused it.",
            "gpu-xid",
            (_GPU_BOARD, "Xid events"),
        ),
        Alert(
            "GpuXidDcgm",
            "DCGM_FI_DEV_XID_ERRORS > 0 and changes(DCGM_FI_DEV_XID_ERRORS[10m]) > 0",
            "critical",
            "{{ $labels.host }}: GPU {{ $labels.gpu }} reports an Xid",
            "The last Xid that DCGM saw is {{ $value }}.",
            "gpu-xid",
            (_GPU_BOARD, "GPUs"),
        ),
        Alert(
            "GpuRowRemapFailed",
            "max by (host, gpu) (citadel_gpu_row_remap_failed or DCGM_FI_DEV_ROW_REMAP_FAILURE) == 1",
            "critical",
            "{{ $labels.host }}: GPU {{ $labels.gpu }} can no longer repair its memory",
            "The remapping of rows has failed (failure is {{ $value }}): the card is to be replaced.",
            "gpu-memory-errors",
            (_GPU_BOARD, "Memory errors"),
        ),
        Alert(
            "GpuRowRemapPending",
            "max by (host, gpu) (citadel_gpu_row_remap_pending) == 1",
            "warning",
            "{{ $labels.host }}: GPU {{ $labels.gpu }} waits for a reset",
            "Rows of its memory are to be remapped at the next reset (pending is {{ $value }}).",
            "gpu-memory-errors",
            (_GPU_BOARD, "Memory errors"),
            "10m",
        ),
        Alert(
            "GpuMemoryErrors",
            'sum by (host, gpu) (increase(citadel_gpu_ecc_errors_total{kind="uncorrected"}[1h])) > 0',
            "critical",
            "{{ $labels.host }}: GPU {{ $labels.gpu }} has uncorrectable memory errors",
            "About {{ $value | humanize }} uncorrectable errors in the last hour.",
            "gpu-memory-errors",
            (_GPU_BOARD, "Memory errors"),
        ),
        Alert(
            "GpuHot",
            "gpu:temperature:celsius > 88",
            "warning",
            "{{ $labels.host }}: GPU {{ $labels.gpu }} is hot",
            "{{ $labels.name }} has {{ $value }} °C; above 88 °C most cards lower their clocks.",
            "gpu-hot",
            (_GPU_BOARD, "Temperature"),
            "5m",
        ),
        Alert(
            "GpuThrottled",
            'max by (host, gpu, reason) (citadel_gpu_throttled{reason!="sw_power_cap"}) == 1',
            "warning",
            "{{ $labels.host }}: GPU {{ $labels.gpu }} is slowed down",
            "The clocks are lowered because of {{ $labels.reason }} (active is {{ $value }}).",
            "gpu-hot",
            (_GPU_BOARD, "Throttling"),
            "10m",
        ),
        Alert(
            "GpuPcieDegraded",
            'max by (host, gpu) (citadel_gpu_pcie_width{which="current"})'
            ' / max by (host, gpu) (citadel_gpu_pcie_width{which="max"}) < 1',
            "warning",
            "{{ $labels.host }}: GPU {{ $labels.gpu }} uses only a part of its PCIe lanes",
            "{{ $value | humanizePercentage }} of the lanes that card and slot could use.",
            "gpu-pcie",
            (_GPU_BOARD, "PCIe lanes"),
            "30m",
        ),
        Alert(
            "DriverMismatch",
            "citadel_gpu_driver_mismatch == 1",
            "critical",
            "{{ $labels.host }}: the NVIDIA driver was updated under the running kernel module",
            "Kernel module and library have different versions (mismatch is {{ $value }}): no engine can "
            "start until the reboot.",
            "driver-mismatch",
            (_EVENTS, "State of the hosts"),
            "5m",
        ),
    ),
)
