"""Recording rules: one set of names for both GPU exporters and for both generations of vLLM."""

from __future__ import annotations

from tools.observability.rules.model import Group, Record

DISKS = 'fstype!~"tmpfs|ramfs|devtmpfs|overlay|squashfs|nsfs|iso9660|fuse.*"'
"""File systems that can fill."""

_MIB = 1048576


def _renamed(metric: str, names: dict[str, str]) -> str:
    for new, old in names.items():
        metric = f'label_replace({metric}, "{new}", "$1", "{old}", "(.+)")'
    return metric


def _nvitop(metric: str) -> str:
    return _renamed(metric, {"gpu": "index", "name": "devicename"})


def _dcgm(metric: str) -> str:
    return _renamed(metric, {"uuid": "UUID", "name": "modelName"})


def _gpu(name: str, nvitop: str, dcgm: str) -> Record:
    """A GPU's value by host, number, identity and name. With both exporters on a host it is still one."""
    return Record(name, f"max by (host, gpu, uuid, name) ({nvitop} or {dcgm})")


GPU = Group(
    "citadel-gpu",
    (
        _gpu(
            "gpu:utilization:ratio",
            f"{_nvitop('gpu_utilization_Percentage')} / 100",
            f"{_dcgm('DCGM_FI_DEV_GPU_UTIL')} / 100",
        ),
        _gpu(
            "gpu:memory_used:bytes",
            f"{_nvitop('gpu_memory_used_MiB')} * {_MIB}",
            f"{_dcgm('DCGM_FI_DEV_FB_USED')} * {_MIB}",
        ),
        _gpu(
            "gpu:memory_total:bytes",
            f"{_nvitop('gpu_memory_total_MiB')} * {_MIB}",
            f"({_dcgm('DCGM_FI_DEV_FB_USED')} + {_dcgm('DCGM_FI_DEV_FB_FREE')}) * {_MIB}",
        ),
        Record("gpu:memory_used:ratio", "gpu:memory_used:bytes / gpu:memory_total:bytes"),
        _gpu("gpu:temperature:celsius", _nvitop("gpu_temperature_C"), _dcgm("DCGM_FI_DEV_GPU_TEMP")),
        _gpu("gpu:power:watts", _nvitop("gpu_power_usage_W"), _dcgm("DCGM_FI_DEV_POWER_USAGE")),
        # dcgm-exporter does not tell the limit.
        Record(
            "gpu:power_limit:watts",
            f"max by (host, gpu, uuid, name) ({_nvitop('gpu_power_limit_W')})",
        ),
        _gpu(
            "gpu:sm_clock:hertz",
            f"{_nvitop('gpu_clock_sm_MHz')} * 1e6",
            f"{_dcgm('DCGM_FI_DEV_SM_CLOCK')} * 1e6",
        ),
        Record("host:gpus:count", "count by (host) (gpu:temperature:celsius)"),
        # A counter that appears with its first event has no increase yet: hence the second half. It looks
        # back over more than a moment, for a restart of the exporter leaves a gap.
        Record(
            "gpu:xid_errors:increase10m",
            "sum by (host, gpu, xid) (increase(citadel_gpu_xid_errors_total[10m]) > 0"
            " or (citadel_gpu_xid_errors_total"
            " unless last_over_time(citadel_gpu_xid_errors_total[10m] offset 10m)))",
        ),
    ),
)


def _engine(inner: str, *, by: str = "", how: str = "sum") -> str:
    """Per engine and model; the ranks of a data-parallel engine are taken together."""
    labels = ", ".join(["host", "deployment", "model", *by.split()])
    return f"{how} by ({labels}) ({_renamed(inner, {'model': 'model_name'})})"


def _rate(metric: str, *, by: str = "") -> str:
    return _engine(f"rate({metric}[5m])", by=by)


def _histogram(name: str, *metrics: str) -> list[Record]:
    """Buckets, sum and count of one histogram, whatever this generation of vLLM calls it."""
    return [
        Record(
            f"engine:{name}_{part}:rate5m",
            " or ".join(
                _rate(f"vllm:{metric}_{part}", by="le" if part == "bucket" else "") for metric in metrics
            ),
        )
        for part in ("bucket", "sum", "count")
    ]


ENGINE = Group(
    "citadel-engine",
    (
        Record("engine:requests_running:sum", _engine("vllm:num_requests_running")),
        Record("engine:requests_waiting:sum", _engine("vllm:num_requests_waiting")),
        Record("engine:kv_cache_usage:ratio", _engine("vllm:kv_cache_usage_perc", how="max")),
        Record("engine:prompt_tokens:rate5m", _rate("vllm:prompt_tokens_total")),
        Record("engine:generation_tokens:rate5m", _rate("vllm:generation_tokens_total")),
        Record("engine:preemptions:rate5m", _rate("vllm:num_preemptions_total")),
        Record("engine:requests_ended:rate5m", _rate("vllm:request_success_total", by="finished_reason")),
        Record(
            "engine:prefix_cache_hits:ratio_rate5m",
            f"{_rate('vllm:prefix_cache_hits_total')} / ({_rate('vllm:prefix_cache_queries_total')} > 0)",
        ),
        *_histogram("time_to_first_token_seconds", "time_to_first_token_seconds"),
        *_histogram(
            "inter_token_latency_seconds", "inter_token_latency_seconds", "time_per_output_token_seconds"
        ),
        *_histogram("e2e_request_latency_seconds", "e2e_request_latency_seconds"),
        *_histogram("request_queue_time_seconds", "request_queue_time_seconds"),
        *_histogram("request_prefill_time_seconds", "request_prefill_time_seconds"),
        *_histogram("request_decode_time_seconds", "request_decode_time_seconds"),
        *_histogram("request_prompt_tokens", "request_prompt_tokens"),
        *_histogram("request_generation_tokens", "request_generation_tokens"),
    ),
)


def _gateway(metric: str, by: str) -> str:
    return f"sum by (host, {by}) (rate(citadel_gateway_{metric}[5m]))"


GATEWAY = Group(
    "citadel-gateway",
    (
        Record("gateway:requests:rate5m", _gateway("requests_total", "model, code")),
        Record("gateway:failures:rate5m", _gateway("failures_total", "model, cause")),
        Record("gateway:tokens:rate5m", _gateway("tokens_total", "model, kind")),
        Record("gateway:key_requests:rate5m", _gateway("key_requests_total", "key, model, result")),
        Record("gateway:key_tokens:rate5m", _gateway("key_tokens_total", "key, model, kind")),
        Record(
            "gateway:request_duration_seconds_bucket:rate5m",
            _gateway("request_duration_seconds_bucket", "model, le"),
        ),
        Record(
            "gateway:time_to_first_byte_seconds_bucket:rate5m",
            _gateway("time_to_first_byte_seconds_bucket", "model, le"),
        ),
    ),
)

HOST = Group(
    "citadel-host",
    (
        Record("host:cpu_used:ratio", '1 - avg by (host) (rate(node_cpu_seconds_total{mode="idle"}[5m]))'),
        Record(
            "host:memory_used:ratio",
            "1 - sum by (host) (node_memory_MemAvailable_bytes) / sum by (host) (node_memory_MemTotal_bytes)",
        ),
        Record(
            "host:disk_used:ratio",
            f"1 - max by (host, mountpoint) (node_filesystem_avail_bytes{{{DISKS}}})"
            f" / max by (host, mountpoint) (node_filesystem_size_bytes{{{DISKS}}})",
        ),
        Record("host:log_lines:rate5m", "sum by (host, unit, level) (rate(citadel_log_messages_total[5m]))"),
    ),
)

RECORDING = (GPU, ENGINE, GATEWAY, HOST)
