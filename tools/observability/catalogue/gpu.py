"""GPUs: nvitop-exporter on every card, dcgm-exporter by choice, the citadel exporter for what they lack."""

from tools.observability.catalogue.model import counter, gauge

_N = "nvitop"
_D = "dcgm"
_C = "citadel"
_CARD = "hostname index devicename uuid"
_DCGM = "gpu UUID modelName Hostname"

GPU = (
    gauge(_N, "gpu_utilization_Percentage", _CARD, "Share of time with a kernel running, 0 to 100."),
    gauge(_N, "gpu_memory_used_MiB", _CARD, "Memory in use."),
    gauge(_N, "gpu_memory_total_MiB", _CARD, "Memory of the card."),
    gauge(_N, "gpu_temperature_C", _CARD, "Temperature of the chip."),
    gauge(_N, "gpu_power_usage_W", _CARD, "Power drawn."),
    gauge(_N, "gpu_power_limit_W", _CARD, "Power that the card may draw."),
    gauge(_N, "gpu_clock_sm_MHz", _CARD, "Clock of the processors."),
    gauge(_D, "DCGM_FI_DEV_GPU_UTIL", _DCGM, "Share of time with a kernel running, 0 to 100."),
    gauge(_D, "DCGM_FI_DEV_FB_USED", _DCGM, "Memory in use, MiB."),
    gauge(_D, "DCGM_FI_DEV_FB_FREE", _DCGM, "Memory free, MiB."),
    gauge(_D, "DCGM_FI_DEV_GPU_TEMP", _DCGM, "Temperature of the chip, degrees Celsius."),
    gauge(_D, "DCGM_FI_DEV_POWER_USAGE", _DCGM, "Power drawn, W."),
    gauge(_D, "DCGM_FI_DEV_SM_CLOCK", _DCGM, "Clock of the processors, MHz."),
    gauge(_D, "DCGM_FI_DEV_XID_ERRORS", _DCGM, "Last Xid, 0 when there was none."),
    gauge(_D, "DCGM_FI_DEV_ROW_REMAP_FAILURE", _DCGM, "Whether the remapping of rows has failed."),
    gauge(_C, "citadel_gpu_up", "", "Whether the driver answers."),
    gauge(_C, "citadel_gpu_error", "code", "Why it does not, always 1."),
    gauge(_C, "citadel_gpu_driver_mismatch", "", "Whether the driver and its library differ in version."),
    gauge(_C, "citadel_gpu_reboot_required", "", "Whether the driver waits for a restart of the server."),
    gauge(_C, "citadel_gpus", "", "GPUs that the driver shows."),
    gauge(_C, "citadel_gpus_on_bus", "", "GPUs that the PCI bus shows."),
    gauge(_C, "citadel_gpu_info", "gpu uuid name driver", "A GPU and its driver, always 1."),
    counter(_C, "citadel_gpu_xid_errors_total", "gpu xid", "Xid events since boot."),
    gauge(_C, "citadel_gpu_row_remap_rows", "gpu kind", "Memory rows that were put out of use."),
    gauge(_C, "citadel_gpu_row_remap_pending", "gpu", "Whether a remapping waits for a reset."),
    gauge(_C, "citadel_gpu_row_remap_failed", "gpu", "Whether a row could not be remapped."),
    counter(_C, "citadel_gpu_ecc_errors_total", "gpu kind", "Memory errors over the card's life."),
    gauge(_C, "citadel_gpu_throttled", "gpu reason", "Whether a reason slows the GPU down now."),
    gauge(_C, "citadel_gpu_pcie_width", "gpu which", "PCIe lanes of the link: current and max."),
    gauge(_C, "citadel_gpu_reset_required", "gpu", "Whether the GPU asks to be reset."),
)
