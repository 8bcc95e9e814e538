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
    gauge(_G, f"{_P}_backend_up", "model backend", "Whether the last contact with a back end succeeded."),
    counter(_G, f"{_P}_backend_failures_total", "model backend cause", "Failed attempts on a back end."),
    gauge(_G, f"{_P}_snapshot_info", "version", "The routing snapshot in use."),
    gauge(_G, f"{_P}_snapshot_created_timestamp_seconds", "", "When the snapshot in use was built."),
    counter(_G, f"{_P}_snapshot_refused_total", "", "Snapshots that were refused."),
    gauge(_G, f"{_P}_access_lines_dropped", "", "Lines of the access log that nobody took."),
    gauge(_G, f"{_P}_draining", "", "Whether the gateway is shutting down."),
)
