"""Service level objectives: their ratios over every window, and alerts on how fast the budget burns."""

from __future__ import annotations

from dataclasses import dataclass

from tools.observability.rules.model import Alert, Group, Record, Severity

WINDOWS = ("5m", "30m", "1h", "6h", "3d")
LEAST_REQUESTS = 20
"""Requests in the longer window below which a ratio says nothing."""
_SECONDS = {"1h": 3600, "6h": 21600, "3d": 259200}


@dataclass(frozen=True)
class Burn:
    """A pair of windows and how many times too fast the budget burns when both exceed it."""

    speed: str
    factor: float
    short: str
    long: str
    wait: str
    severity: Severity


BURNS = (
    Burn("Fast", 14.4, "5m", "1h", "2m", "critical"),
    Burn("Steady", 6.0, "30m", "6h", "15m", "critical"),
    Burn("Slow", 1.0, "6h", "3d", "1h", "warning"),
)


@dataclass(frozen=True)
class Slo:
    """An objective over 30 days.

    `bad` and `all` are rates with `WINDOW` where the window goes, each summed by host.
    """

    name: str
    alert: str
    objective: float
    means: str
    bad: str
    all: str
    runbook: str

    @property
    def budget(self) -> float:
        """Share of requests that may be bad."""
        return round(1 - self.objective, 6)


_REQUESTS = "sum by (host) (rate(citadel_gateway_requests_total[WINDOW]))"
_FAILED = 'sum by (host) (rate(citadel_gateway_requests_total{code=~"5.."}[WINDOW]))'
_FIRST = "sum by (host) (rate(vllm:time_to_first_token_seconds_count[WINDOW]))"
_IN_TIME = 'sum by (host) (rate(vllm:time_to_first_token_seconds_bucket{le="2.5"}[WINDOW]))'

SLOS = (
    Slo(
        "availability",
        "GatewayErrorBudgetBurn",
        0.999,
        "requests are answered without an error of the service",
        f"({_FAILED} or {_REQUESTS} * 0)",
        _REQUESTS,
        "error-budget",
    ),
    # 2.5 s is a boundary of the histogram's buckets in every generation of vLLM; 2 s is not.
    Slo(
        "first-token",
        "FirstTokenBudgetBurn",
        0.95,
        "requests get their first token within 2.5 s",
        f"({_FIRST} - {_IN_TIME})",
        _FIRST,
        "first-token-slow",
    ),
)


def records(slo: Slo) -> list[Record]:
    """Rate of requests, share of bad ones over every window, and the budget that is left of 30 days."""
    labels = {"slo": slo.name}
    rules = []
    for window in WINDOWS:
        bad, total = (expr.replace("WINDOW", window) for expr in (slo.bad, slo.all))
        if window == "5m" or window in _SECONDS:
            rules.append(Record(f"slo:requests:rate{window}", total, labels))
        rules.append(Record(f"slo:errors:ratio_rate{window}", f"{bad} / ({total} > 0)", labels))
    selector = f'{{slo="{slo.name}"}}'
    rules.append(
        Record(
            "slo:errors:rate5m",
            f"slo:errors:ratio_rate5m{selector} * slo:requests:rate5m{selector}",
            labels,
        )
    )
    rules.append(
        Record(
            "slo:budget_left:ratio30d",
            f"1 - sum_over_time(slo:errors:rate5m{selector}[30d])"
            f" / (sum_over_time(slo:requests:rate5m{selector}[30d]) > 0) / {slo.budget:g}",
            labels,
        )
    )
    rules.append(Record("slo:objective:ratio", f"vector({slo.objective:g})", labels))
    return rules


def alert(slo: Slo, burn: Burn) -> Alert:
    """The alert on one pair of windows."""
    selector = f'{{slo="{slo.name}"}}'
    limit = f"{burn.factor:g} * {slo.budget:g}"
    return Alert(
        f"{slo.alert}{burn.speed}",
        f"slo:errors:ratio_rate{burn.long}{selector} > {limit}"
        f" and slo:errors:ratio_rate{burn.short}{selector} > {limit}"
        f" and slo:requests:rate{burn.long}{selector} * {_SECONDS[burn.long]} >= {LEAST_REQUESTS}",
        burn.severity,
        f"{{{{ $labels.host }}}}: the budget of the objective {slo.name} burns {burn.factor:g} times too "
        f"fast",
        f"{{{{ $value | humanizePercentage }}}} of the requests of the last {burn.long} missed the "
        f"objective that "
        f"{slo.objective * 100:g} % of {slo.means}; {burn.factor * slo.budget * 100:g} % is the limit of "
        f"this alert.",
        slo.runbook,
        ("citadel-overview", "Error budget left"),
        burn.wait,
    )


SLO_RECORDING = tuple(Group(f"citadel-slo-{slo.name}", tuple(records(slo))) for slo in SLOS)
SLO_ALERTS = Group("citadel-slo-alerts", tuple(alert(slo, burn) for slo in SLOS for burn in BURNS))
