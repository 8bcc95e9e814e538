"""The gateway."""

from tools.observability.catalogue.model import counter, gauge, histogram

_G = "gateway"
_P = "citadel_gateway"

GATEWAY = (
    counter(_G, f"{_P}_requests_total", "model endpoint code", "Requests answered."),
    counter(_G, f"{_P}_failures_total", "model cause", "Requests that did not succeed, by cause."),
    gauge(_G, f"{_P}_requests_in_flight", "model", "Requests being served."),
    histogram(_G, f"{_P}_time_to_first_byte_seconds", "model", "From arrival to the answer's first byte."),
    histogram(_G, f"{_P}_request_duration_seconds", "model", "From arrival to the end of the answer."),
    counter(_G, f"{_P}_tokens_total", "model kind", "Tokens that engines reported."),
    counter(_G, f"{_P}_key_requests_total", "key model result", "Requests answered, of the most used keys."),
    counter(_G, f"{_P}_key_tokens_total", "key model kind", "Tokens that engines reported, by key."),
    gauge(_G, f"{_P}_backend_up", "model backend", "Whether a back end gets requests."),
    gauge(_G, f"{_P}_backend_state", "model backend state", "1 for the state that a back end is in."),
    counter(_G, f"{_P}_backend_breaker_opened_total", "model backend", "How often its breaker opened."),
    counter(_G, f"{_P}_backend_probes_total", "model backend kind result", "Probes of a back end."),
    gauge(_G, f"{_P}_backend_requests_in_flight", "model backend", "Requests that a back end has."),
    gauge(_G, f"{_P}_queue_requests", "model", "Requests that wait for a back end."),
    counter(_G, f"{_P}_queue_refused_total", "model reason", "Requests that the queue refused."),
    histogram(_G, f"{_P}_queue_seconds", "model", "How long requests waited, of those that had to."),
    gauge(_G, f"{_P}_paused", "model", "Whether a model's requests are held."),
    counter(_G, f"{_P}_retries_total", "model", "Requests sent again."),
    counter(_G, f"{_P}_retries_denied_total", "model", "Retries that the budget did not allow."),
    counter(_G, f"{_P}_arm_attempts_total", "model arm", "Attempts on the back ends of an arm."),
    counter(_G, f"{_P}_backend_failures_total", "model backend cause", "Failed attempts on a back end."),
    gauge(_G, f"{_P}_limits_subjects", "", "Subjects whose use is being counted."),
    gauge(_G, f"{_P}_limits_store_up", "", "Whether the shared store of limits can be asked."),
    counter(_G, f"{_P}_limits_store_failures_total", "", "Failures of the shared store of limits."),
    counter(_G, f"{_P}_limits_local_decisions_total", "", "Requests decided while that store was down."),
    counter(_G, f"{_P}_usage_events_written_total", "", "Usage events on disk."),
    counter(_G, f"{_P}_usage_events_dropped_total", "cause", "Usage events that were lost."),
    counter(_G, f"{_P}_spans_sent_total", "", "Spans that the collector took."),
    counter(_G, f"{_P}_spans_dropped_total", "", "Spans that were lost."),
    gauge(_G, f"{_P}_issuer_keys_age_seconds", "issuer", "Time since an issuer's keys were fetched."),
    counter(_G, f"{_P}_issuer_keys_failures_total", "issuer", "Failed attempts to fetch an issuer's keys."),
    gauge(_G, f"{_P}_snapshot_info", "version", "The routing snapshot in use."),
    gauge(_G, f"{_P}_snapshot_created_timestamp_seconds", "", "When the snapshot in use was built."),
    counter(_G, f"{_P}_snapshot_refused_total", "", "Snapshots that were refused."),
    gauge(_G, f"{_P}_access_lines_dropped", "", "Lines of the access log that nobody took."),
    gauge(_G, f"{_P}_draining", "", "Whether the gateway is shutting down."),
    counter(_G, "process_cpu_seconds_total", "", "Processor time of the process."),
)
