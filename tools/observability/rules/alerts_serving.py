"""Alerts on engines and the gateway."""

from __future__ import annotations

from tools.observability.rules.model import Alert, Group

_ENGINES = "citadel-engines"
_GATEWAY = "citadel-gateway"
_P95_QUEUE = (
    "histogram_quantile(0.95, sum by (host, deployment, model, le)"
    " (engine:request_queue_time_seconds_bucket:rate5m))"
)
_GENERATED = (
    "sum by (model) ("
    'label_replace(rate(vllm:generation_tokens_total[2m]), "model", "$1", "model_name", "(.+)"))'
)
_FAILED = 'citadel_gateway_backend_probes_total{kind="real", result!="passed"}'
_PROBES_FAILED = (
    f"sum by (host, model, backend) (increase({_FAILED}[2m]) > 0"
    # A counter that appears with its first event has no increase yet.
    f" or ({_FAILED} unless last_over_time({_FAILED}[10m] offset 2m)))"
)

ENGINE = Group(
    "citadel-engine-alerts",
    (
        Alert(
            "EngineDown",
            'up{job="vllm"} == 0',
            "critical",
            "{{ $labels.host }}: engine {{ $labels.deployment }} does not answer",
            "The engine has not answered for 90 seconds (up is {{ $value }}). A start takes minutes; a "
            "deployment silences this.",
            "engine-down",
            (_ENGINES, "Engines"),
            "1m30s",
            "1m",
        ),
        Alert(
            "EngineProbeFails",
            f"{_PROBES_FAILED} > 0 unless on (host, model, backend) sum by (host, model, backend)"
            ' (increase(citadel_gateway_backend_probes_total{kind="real", result="passed"}[2m])) > 0',
            "critical",
            "{{ $labels.host }}: back end {{ $labels.backend }} of {{ $labels.model }} generates nothing",
            "{{ $value | humanize }} requests for one token have failed in two minutes, none has succeeded. "
            "A hung engine still says that it is healthy.",
            "engine-hung",
            (_GATEWAY, "Probes of back ends"),
            "30s",
        ),
        Alert(
            "EngineStalled",
            "engine:requests_waiting:sum > 0 and engine:requests_running:sum == 0",
            "critical",
            "{{ $labels.host }}: {{ $labels.model }} has requests waiting and computes none",
            "{{ $value }} requests wait in engine {{ $labels.deployment }} while none is computed.",
            "engine-hung",
            (_ENGINES, "Running and waiting"),
            "2m",
        ),
        Alert(
            "EngineSilent",
            'sum by (host, model) (citadel_gateway_requests_in_flight{model!=""}) > 0'
            f" and on (model) {_GENERATED} == 0"
            " and on (model) max by (model) (max_over_time(engine:generation_tokens:rate5m[1d])) > 0",
            "critical",
            "{{ $labels.model }} generates no token while requests are in flight",
            "{{ $value }} requests are in flight at the gateway, and no engine of {{ $labels.model }} "
            "generates anything.",
            "engine-hung",
            (_ENGINES, "Tokens per second"),
            "3m",
        ),
        Alert(
            "EngineQueueSlow",
            f"{_P95_QUEUE} > 1",
            "warning",
            "{{ $labels.host }}: requests for {{ $labels.model }} wait long",
            "5 % of the requests wait longer than {{ $value | humanizeDuration }} before they are computed.",
            "first-token-slow",
            (_ENGINES, "Time in the queue"),
            "10m",
        ),
        Alert(
            "EngineCacheFull",
            "engine:kv_cache_usage:ratio > 0.9 and engine:requests_waiting:sum > 0",
            "warning",
            "{{ $labels.host }}: the KV cache of {{ $labels.model }} is full",
            "{{ $value | humanizePercentage }} of the KV cache is in use and requests wait.",
            "kv-cache-full",
            (_ENGINES, "KV cache"),
            "5m",
        ),
        Alert(
            "EnginePreempting",
            "engine:preemptions:rate5m > 0",
            "warning",
            "{{ $labels.host }}: {{ $labels.model }} computes requests twice",
            "{{ $value | humanize }} requests a second are put back because the KV cache is full; their "
            "work is lost.",
            "kv-cache-full",
            (_ENGINES, "Preemptions"),
            "10m",
        ),
        Alert(
            "EngineRequestsFail",
            'engine:requests_ended:rate5m{finished_reason="error"} > 0',
            "warning",
            "{{ $labels.host }}: requests for {{ $labels.model }} end with an error in the engine",
            "{{ $value | humanize }} requests a second end with an error in engine {{ $labels.deployment }}.",
            "engine-down",
            (_ENGINES, "How requests end"),
            "5m",
        ),
        Alert(
            "EngineRestarting",
            'changes(process_start_time_seconds{job="vllm"}[30m]) > 2',
            "warning",
            "{{ $labels.host }}: engine {{ $labels.deployment }} keeps restarting",
            "The engine was started {{ $value }} times within 30 minutes.",
            "engine-down",
            (_ENGINES, "Engines"),
        ),
    ),
)

GATEWAY = Group(
    "citadel-gateway-alerts",
    (
        Alert(
            "GatewayDown",
            'up{job="gateway"} == 0',
            "critical",
            "{{ $labels.host }}: the gateway does not answer",
            "The gateway's metrics have not answered for 90 s (up is {{ $value }}): clients get errors.",
            "gateway-down",
            (_GATEWAY, "Requests by status"),
            "1m30s",
            "1m",
        ),
        Alert(
            "ModelUnavailable",
            "max by (host, model) (citadel_gateway_backend_up) == 0",
            "critical",
            "{{ $labels.host }}: no engine serves {{ $labels.model }}",
            "No back end of {{ $labels.model }} gets requests (up is {{ $value }}): clients get 503.",
            "backend-down",
            (_GATEWAY, "Back ends"),
            "3m",
        ),
        Alert(
            "BackendDown",
            "citadel_gateway_backend_up == 0",
            "warning",
            "{{ $labels.host }}: back end {{ $labels.backend }} of {{ $labels.model }} has failed",
            "{{ $labels.backend }} gets no requests (up is {{ $value }}); others take them if there are any.",
            "backend-down",
            (_GATEWAY, "Back ends"),
            "3m",
        ),
        Alert(
            "QueueRefuses",
            "sum by (host, model) (increase(citadel_gateway_queue_refused_total[5m])) > 0",
            "warning",
            "{{ $labels.host }}: requests for {{ $labels.model }} are refused because too many wait",
            "About {{ $value | humanize }} in five minutes: every back end has as many as it may have.",
            "queue-full",
            (_GATEWAY, "Queue"),
            "5m",
        ),
        Alert(
            "SnapshotRefused",
            "increase(citadel_gateway_snapshot_refused_total[10m]) > 0",
            "warning",
            "{{ $labels.host }}: the gateway has refused a routing snapshot",
            "{{ $value | humanize }} refused in ten minutes; the gateway goes on with the one before.",
            "snapshot-refused",
            (_GATEWAY, "Routing snapshot"),
        ),
        Alert(
            "AccessLogDropped",
            "delta(citadel_gateway_access_lines_dropped[15m]) > 0",
            "warning",
            "{{ $labels.host }}: lines of the access log were lost",
            "{{ $value | humanize }} lines in 15 minutes: the journal does not take them fast enough.",
            "logs-lost",
            (_GATEWAY, "Access log"),
        ),
        Alert(
            "LimitStoreDown",
            "max by (host) (citadel_gateway_limits_store_up) == 0",
            "warning",
            "{{ $labels.host }}: the shared store of limits does not answer",
            "The gateway decides by its own counts until it does (up is {{ $value }}): several gateways "
            "together let more through than a limit says.",
            "limit-store",
            (_GATEWAY, "Store of limits"),
            "2m",
        ),
        Alert(
            "UsageEventsDropped",
            "sum by (host, cause) (increase(citadel_gateway_usage_events_dropped_total[15m])) > 0",
            "warning",
            "{{ $labels.host }}: usage events were lost",
            "About {{ $value | humanize }} in 15 minutes ({{ $labels.cause }}): accounting lacks them.",
            "usage-lost",
            (_GATEWAY, "Usage events and spans"),
        ),
        Alert(
            "IssuerKeysStale",
            "max by (host, issuer) (citadel_gateway_issuer_keys_age_seconds) > 7200",
            "warning",
            "{{ $labels.host }}: the public keys of {{ $labels.issuer }} are old",
            "They were fetched {{ $value | humanizeDuration }} ago. Its tokens are refused when they are "
            "older than the issuer's max_age_s, 24 hours unless set otherwise.",
            "issuer-keys",
            (_GATEWAY, "Keys of issuers"),
            "5m",
        ),
        Alert(
            "EdgeUnreachable",
            'probe_success{job="probe", module="edge"} == 0',
            "critical",
            "The address for clients does not answer: {{ $labels.probe }}",
            "The probe of {{ $labels.instance }} has failed for three minutes (success is {{ $value }}).",
            "edge-unreachable",
            ("citadel-overview", "Probes"),
            "3m",
        ),
        Alert(
            "NeighbourUnreachable",
            'probe_success{job="probe", module!="edge"} == 0',
            "warning",
            "{{ $labels.probe }} cannot be reached",
            "The probe of {{ $labels.instance }} ({{ $labels.module }}) has failed for five minutes "
            "(success is {{ $value }}).",
            "neighbour-unreachable",
            ("citadel-overview", "Probes"),
            "5m",
        ),
    ),
)
