"""GPU and host."""

from tools.observability.dashboards.model import (
    GOOD_LOW,
    NONE_IS_GOOD,
    Board,
    Column,
    Panel,
    Query,
    Row,
    Steps,
)
from tools.observability.rules.recording import DISKS

_H = '{host=~"$host"}'
_G = '{host=~"$host", gpu=~"$gpu"}'
_CARD = "GPU {{gpu}} · {{host}}"
_BY = "host, gpu, name"
_HOT: Steps = ((None, "green"), (80, "yellow"), (88, "red"))

_CARDS = Row(
    "GPUs",
    (
        Panel(
            "table",
            "GPUs",
            "One line for each GPU.",
            (
                Query(f"max by ({_BY}) (gpu:utilization:ratio{_G})", column="in use"),
                Query(f"max by ({_BY}) (gpu:memory_used:ratio{_G})", column="memory"),
                Query(f"max by ({_BY}) (gpu:memory_total:bytes{_G})", column="of"),
                Query(f"max by ({_BY}) (gpu:temperature:celsius{_G})", column="temperature"),
                Query(f"max by ({_BY}) (gpu:power:watts{_G})", column="power"),
                Query(f"max by ({_BY}) (gpu:sm_clock:hertz{_G})", column="clock"),
            ),
            width=15,
            height=18,
            sort="host gpu",
            order=("host", "gpu", "name"),
            columns=(
                Column("host", width=140),
                Column("gpu", decimals=0, width=50),
                Column("name", width=180),
                Column("in use", "percentunit", decimals=0, width=75),
                Column("memory", "percentunit", ((None, "green"), (0.97, "yellow")), 0, width=80),
                Column("of", "bytes", decimals=0, width=75),
                Column("temperature", "celsius", _HOT, 0, width=110),
                Column("power", "watt", decimals=0, width=75),
                Column("clock", "hertz", decimals=2, width=95),
            ),
        ),
        Panel(
            "timeseries",
            "Utilisation",
            "Share of time in which a kernel ran. 100 % says that the card was busy, not that it was used "
            "well.",
            (Query(f"max by ({_BY}) (gpu:utilization:ratio{_G})", _CARD),),
            unit="percentunit",
            width=9,
            height=9,
            high=1,
        ),
        Panel(
            "timeseries",
            "Temperature",
            "Of the chip. Above 88 °C most cards lower their clocks.",
            (Query(f"max by ({_BY}) (gpu:temperature:celsius{_G})", _CARD),),
            unit="celsius",
            width=9,
            height=9,
            steps=((None, "green"), (88, "red")),
            low=20,
        ),
        Panel(
            "timeseries",
            "GPU memory",
            "Memory in use. An engine takes its share at the start and keeps it.",
            (Query(f"max by ({_BY}) (gpu:memory_used:ratio{_G})", _CARD),),
            unit="percentunit",
            width=12,
            height=9,
            high=1,
        ),
        Panel(
            "timeseries",
            "Power",
            "Power drawn, and the limit where the exporter tells it.",
            (
                Query(f"max by ({_BY}) (gpu:power:watts{_G})", _CARD),
                Query(f"max by (name) (gpu:power_limit:watts{_G})", "limit {{name}}", only="nvitop"),
            ),
            unit="watt",
            width=12,
            height=9,
        ),
        Panel(
            "timeseries",
            "Clock",
            "Of the processors. It falls when the card is idle, hot or at its limit of power.",
            (Query(f"max by ({_BY}) (gpu:sm_clock:hertz{_G})", _CARD),),
            unit="hertz",
            width=12,
            height=9,
        ),
        Panel(
            "timeseries",
            "Throttling",
            "Reasons for which clocks are lowered now.",
            (
                Query(
                    f"sum by (host, reason) (citadel_gpu_throttled{_G})",
                    "{{reason}} · {{host}}",
                ),
            ),
            width=12,
            height=9,
            decimals=0,
        ),
    ),
)
_FAULTS = Row(
    "Faults of GPUs",
    (
        Panel(
            "table",
            "Xid events",
            "Errors that the driver reported since boot, by number; 79: fell off the bus, 48, 63, 64, 94: "
            "memory.",
            (Query(f"max by (host, gpu, xid) (citadel_gpu_xid_errors_total{_H})", column="events"),),
            width=8,
            sort="-events",
            order=("host", "gpu", "xid"),
            columns=(
                Column("gpu", decimals=0, width=60),
                Column("xid", width=60),
                Column("events", decimals=0, steps=NONE_IS_GOOD),
            ),
            empty="no Xid since boot",
        ),
        Panel(
            "table",
            "Memory errors",
            "Uncorrectable errors over the card's life, rows put out of use, and whether a reset waits or "
            "has failed.",
            (
                Query(
                    'max by (host, gpu) (citadel_gpu_ecc_errors_total{kind="uncorrected", host=~"$host", '
                    'gpu=~"$gpu"})',
                    column="uncorrected",
                ),
                Query(f"sum by (host, gpu) (citadel_gpu_row_remap_rows{_G})", column="rows"),
                Query(f"max by (host, gpu) (citadel_gpu_row_remap_pending{_G})", column="pending"),
                Query(f"max by (host, gpu) (citadel_gpu_row_remap_failed{_G})", column="failed"),
            ),
            width=8,
            sort="host gpu",
            order=("host", "gpu"),
            columns=(
                Column("host", width=110),
                Column("gpu", decimals=0, width=45),
                Column("uncorrected", width=102, decimals=0, steps=NONE_IS_GOOD),
                Column("rows", decimals=0, width=55),
                Column(
                    "pending", width=75, steps=NONE_IS_GOOD, words={0: ("no", "green"), 1: ("yes", "orange")}
                ),
                Column("failed", width=65, steps=NONE_IS_GOOD, words={0: ("no", "green"), 1: ("yes", "red")}),
            ),
            empty="cards without error correction",
        ),
        Panel(
            "table",
            "PCIe lanes",
            "Lanes in use and lanes that card and slot could use.",
            (
                Query(
                    'max by (host, gpu) (citadel_gpu_pcie_width{which="current", host=~"$host", '
                    'gpu=~"$gpu"})',
                    column="lanes",
                ),
                Query(
                    'max by (host, gpu) (citadel_gpu_pcie_width{which="max", host=~"$host", gpu=~"$gpu"})',
                    column="possible",
                ),
            ),
            width=8,
            sort="host gpu",
            order=("host", "gpu"),
            columns=(
                Column("host", width=180),
                Column("gpu", decimals=0, width=60),
                Column("lanes", decimals=0),
                Column("possible", decimals=0),
            ),
        ),
    ),
)
_HOST = Row(
    "Host",
    (
        Panel(
            "timeseries",
            "Processors",
            "Share of the processors in use.",
            (Query(f"max by (host) (host:cpu_used:ratio{_H})", "{{host}}"),),
            unit="percentunit",
            width=8,
            high=1,
        ),
        Panel(
            "timeseries",
            "Memory",
            "Share of the memory in use.",
            (Query(f"max by (host) (host:memory_used:ratio{_H})", "{{host}}"),),
            unit="percentunit",
            width=8,
            high=1,
            steps=((None, "green"), (0.95, "red")),
        ),
        Panel(
            "bargauge",
            "Disks",
            "Share of each file system in use.",
            (Query(f"max by (host, mountpoint) (host:disk_used:ratio{_H})", "{{mountpoint}} · {{host}}"),),
            unit="percentunit",
            width=8,
            high=1,
            decimals=0,
            steps=GOOD_LOW,
        ),
        Panel(
            "timeseries",
            "Disk traffic",
            "Bytes read and written, by host.",
            (
                Query(
                    f"sum by (host) (rate(node_disk_read_bytes_total{_H}[$__rate_interval]))", "read {{host}}"
                ),
                Query(
                    f"sum by (host) (rate(node_disk_written_bytes_total{_H}[$__rate_interval]))",
                    "written {{host}}",
                ),
            ),
            unit="Bps",
            width=8,
        ),
        Panel(
            "timeseries",
            "Network",
            "Bytes received and sent, without the loopback.",
            (
                Query(
                    'sum by (host) (rate(node_network_receive_bytes_total{device!="lo", '
                    'host=~"$host"}[$__rate_interval]))',
                    "received {{host}}",
                ),
                Query(
                    'sum by (host) (rate(node_network_transmit_bytes_total{device!="lo", '
                    'host=~"$host"}[$__rate_interval]))',
                    "sent {{host}}",
                ),
            ),
            unit="Bps",
            width=8,
        ),
        Panel(
            "timeseries",
            "Stalls",
            "Share of time in which all work waited for memory or for disks.",
            (
                Query(
                    f"max by (host) (rate(node_pressure_memory_stalled_seconds_total{_H}[$__rate_interval]))",
                    "memory {{host}}",
                ),
                Query(
                    f"max by (host) (rate(node_pressure_io_stalled_seconds_total{_H}[$__rate_interval]))",
                    "disks {{host}}",
                ),
            ),
            unit="percentunit",
            width=8,
        ),
        Panel(
            "timeseries",
            "Free inodes",
            "Share of inodes that are free, by file system.",
            (
                Query(
                    f'min by (host, mountpoint) (node_filesystem_files_free{{{DISKS}, host=~"$host"}}'
                    f' / (node_filesystem_files{{{DISKS}, host=~"$host"}} > 0))',
                    "{{mountpoint}} · {{host}}",
                ),
            ),
            unit="percentunit",
            width=8,
            high=1,
        ),
        Panel(
            "timeseries",
            "Load",
            "Processes that want to run, over one minute.",
            (Query(f"max by (host) (node_load1{_H})", "{{host}}"),),
            width=8,
        ),
        Panel(
            "timeseries",
            "Killed for memory",
            "Processes that the kernel killed because memory ran out.",
            (Query(f"max by (host) (increase(node_vmstat_oom_kill{_H}[10m]))", "{{host}}"),),
            width=8,
            decimals=0,
        ),
    ),
)

GPUS = Board(
    "citadel-gpu",
    "GPU and host",
    "Each GPU and the host around it.",
    (_CARDS, _FAULTS, _HOST),
    ("host", "gpu"),
)
