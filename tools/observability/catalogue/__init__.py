"""Every metric that a rule or a dashboard uses, and which exporter exposes it.

Jobs and the labels that Prometheus gives a target are those of docs/monitoring.md: `host` everywhere except
for neighbours, `deployment` for engines, `exporter` for GPUs, `probe` and `module` for what is probed.
"""

from tools.observability.catalogue.engine import ENGINE
from tools.observability.catalogue.gateway import GATEWAY
from tools.observability.catalogue.gpu import GPU
from tools.observability.catalogue.host import HOST
from tools.observability.catalogue.model import Metric
from tools.observability.catalogue.platform import PLATFORM

METRICS: tuple[Metric, ...] = (*ENGINE, *GATEWAY, *GPU, *HOST, *PLATFORM)


def series_names() -> dict[str, Metric]:
    """Each name that can stand in a query, with its metric: a histogram has three."""
    return {name: metric for metric in METRICS for name in metric.series}


__all__ = ["METRICS", "Metric", "series_names"]
