"""vLLM: 0.9.2, the first recorded set, and 0.32 and later."""

from tools.observability.catalogue.model import counter, gauge, histogram

OLD = "vllm-0.9.2"
NEW = "vllm-0.32"
BOTH = f"{OLD} {NEW}"
_ENGINE = "engine model_name"

ENGINE = (
    gauge(BOTH, "vllm:num_requests_running", _ENGINE, "Requests that are being computed."),
    gauge(BOTH, "vllm:num_requests_waiting", _ENGINE, "Requests that wait to be computed."),
    gauge(BOTH, "vllm:kv_cache_usage_perc", _ENGINE, "Share of the KV cache in use, 0 to 1."),
    gauge(BOTH, "vllm:cache_config_info", "engine block_size num_gpu_blocks", "Size of the KV cache."),
    counter(BOTH, "vllm:prefix_cache_queries_total", _ENGINE, "Prompt tokens looked up in the prefix cache."),
    counter(BOTH, "vllm:prefix_cache_hits_total", _ENGINE, "Prompt tokens found in the prefix cache."),
    counter(BOTH, "vllm:num_preemptions_total", _ENGINE, "Requests put back because the KV cache was full."),
    counter(BOTH, "vllm:prompt_tokens_total", _ENGINE, "Prompt tokens computed."),
    counter(BOTH, "vllm:generation_tokens_total", _ENGINE, "Tokens generated."),
    counter(BOTH, "vllm:request_success_total", f"{_ENGINE} finished_reason", "Requests ended, by reason."),
    histogram(BOTH, "vllm:time_to_first_token_seconds", _ENGINE, "From arrival to the first token."),
    histogram(OLD, "vllm:time_per_output_token_seconds", _ENGINE, "Time between tokens (0.9.2)."),
    histogram(NEW, "vllm:inter_token_latency_seconds", _ENGINE, "Time between tokens (0.32 and later)."),
    histogram(BOTH, "vllm:e2e_request_latency_seconds", _ENGINE, "From arrival to the last token."),
    histogram(BOTH, "vllm:request_queue_time_seconds", _ENGINE, "Time spent waiting."),
    histogram(BOTH, "vllm:request_prefill_time_seconds", _ENGINE, "Time spent on the prompt."),
    histogram(BOTH, "vllm:request_decode_time_seconds", _ENGINE, "Time spent generating."),
    histogram(BOTH, "vllm:request_prompt_tokens", _ENGINE, "Length of prompts."),
    histogram(BOTH, "vllm:request_generation_tokens", _ENGINE, "Length of answers."),
    gauge(BOTH, "process_start_time_seconds", "", "When the API server was started."),
    gauge(BOTH, "process_resident_memory_bytes", "", "Memory of the API server."),
)
