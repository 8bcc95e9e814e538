"""GPUs: nvitop-exporter on every card, dcgm-exporter by choice, the citadel exporter for what they lack."""

from tools.observability.catalogue.model import counter, gauge

_N = "nvitop"
_D = "dcgm"
_C = "citadel"
_CARD = "hostname index devicename uuid"
_DCGM = "gpu UUID modelName Hostname"
_GPU = "gpu uuid"

GPU = (
    gauge(_N, "gpu_utilization_Percentage", _CARD, "Share of time with a kernel running, 0 to 100."),
    gauge(_N, "gpu_memory_used_MiB", _CARD, "Memory in use."),
    gauge(_N, "gpu_memory_total_MiB", _CARD, "Memory of the card."),
    gauge(_N, "gpu_temperature_C", _CARD, "Temperature of the chip."),
    gauge(_N, "gpu_power_usage_W", _CARD, "Power drawn."),
    gauge(_N, "gpu_power_limit_W", _CARD, "Power that the card may draw."),
    gauge(_N, "gpu_clock_sm_MHz", _CARD, "Clock of the processors."),
    gauge(_N, "gpu_pcie_rx_throughput_MiBps", _CARD, "Received over PCIe."),
    gauge(_N, "gpu_pcie_tx_throughput_MiBps", _CARD, "Sent over PCIe."),
    gauge(_D, "DCGM_FI_DEV_GPU_UTIL", _DCGM, "Share of time with a kernel running, 0 to 100."),
    gauge(_D, "DCGM_FI_DEV_FB_USED", _DCGM, "Memory in use, MiB."),
    gauge(_D, "DCGM_FI_DEV_FB_FREE", _DCGM, "Memory free, MiB."),
    gauge(_D, "DCGM_FI_DEV_GPU_TEMP", _DCGM, "Temperature of the chip, degrees Celsius."),
    gauge(_D, "DCGM_FI_DEV_POWER_USAGE", _DCGM, "Power drawn, W."),
    gauge(_D, "DCGM_FI_DEV_SM_CLOCK", _DCGM, "Clock of the processors, MHz."),
    gauge(_D, "DCGM_FI_DEV_XID_ERRORS", _DCGM, "Last Xid, 0 when there was none."),
    gauge(_D, "DCGM_FI_DEV_ROW_REMAP_FAILURE", _DCGM, "Whether the remapping of rows has failed."),
    gauge(
        _C, "citadel_gpu_info", f"{_GPU} name driver_version", "The cards that the driver shows, always 1."
    ),
    gauge(_C, "citadel_gpu_power_limit_watts", _GPU, "Power that the card may draw."),
    counter(_C, "citadel_gpu_xid_errors_total", "gpu xid", "Xid events in the kernel's log."),
    gauge(_C, "citadel_gpu_row_remap_pending", _GPU, "Whether rows wait for a reset to be remapped."),
    gauge(_C, "citadel_gpu_row_remap_failure", _GPU, "Whether the remapping of rows has failed."),
    counter(_C, "citadel_gpu_ecc_uncorrected_errors_total", _GPU, "Uncorrectable memory errors."),
    gauge(_C, "citadel_gpu_throttle_active", f"{_GPU} reason", "Whether clocks are lowered for this reason."),
    gauge(_C, "citadel_gpu_pcie_link_width", _GPU, "PCIe lanes in use."),
    gauge(_C, "citadel_gpu_pcie_link_width_max", _GPU, "PCIe lanes that card and slot could use."),
)
