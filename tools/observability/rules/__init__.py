"""Recording rules and alerts, by the file that they are written to."""

from tools.observability.rules import alerts_host, alerts_serving, alerts_upkeep
from tools.observability.rules.model import Alert, Group, Record
from tools.observability.rules.recording import RECORDING
from tools.observability.rules.slo import SLO_ALERTS, SLO_RECORDING

FILES: dict[str, tuple[Group, ...]] = {
    "citadel-recording.yml": RECORDING,
    "citadel-slo.yml": (*SLO_RECORDING, SLO_ALERTS),
    "citadel-host.yml": (alerts_host.HOST, alerts_host.GPU),
    "citadel-serving.yml": (alerts_serving.ENGINE, alerts_serving.GATEWAY),
    "citadel-upkeep.yml": (alerts_upkeep.UPKEEP, alerts_upkeep.MONITORING),
}


def rules() -> list[Record | Alert]:
    """Every rule of every file."""
    return [rule for groups in FILES.values() for group in groups for rule in group.rules]


def alerts() -> list[Alert]:
    """Every alert."""
    return [rule for rule in rules() if isinstance(rule, Alert)]


def records() -> list[Record]:
    """Every recording rule."""
    return [rule for rule in rules() if isinstance(rule, Record)]


__all__ = ["FILES", "Alert", "Group", "Record", "alerts", "records", "rules"]
