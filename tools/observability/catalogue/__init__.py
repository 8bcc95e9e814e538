"""Every metric that a rule or a dashboard uses, and which exporter exposes it.

A target has these labels from Prometheus' own configuration:

| job | exporter | further labels |
|---|---|---|
| `node` | node exporter | |
| `citadel` | the citadel exporter | |
| `gpu`, `dcgm` | nvitop-exporter, dcgm-exporter | |
| `engine` | vLLM | `engine_name`: the instance of `citadel-engine@` |
| `gateway` | the gateway | |
| `probe-edge`, `probe-neighbour` | blackbox exporter | `target`: name of what is probed |
| `prometheus`, `alertmanager` | themselves | |

Each target also has `host`, the name of the inventory; for a probe it is the host that probes.
"""

from tools.observability.catalogue.engine import ENGINE
from tools.observability.catalogue.gateway import GATEWAY
from tools.observability.catalogue.gpu import GPU
from tools.observability.catalogue.host import HOST
from tools.observability.catalogue.model import Metric
from tools.observability.catalogue.platform import PLATFORM

METRICS: tuple[Metric, ...] = (*ENGINE, *GATEWAY, *GPU, *HOST, *PLATFORM)
JOBS = {
    "node": "node",
    "citadel": "citadel",
    "gpu": "nvitop",
    "dcgm": "dcgm",
    "engine": "vllm",
    "gateway": "gateway",
    "probe-edge": "blackbox",
    "probe-neighbour": "blackbox",
    "prometheus": "prometheus",
    "alertmanager": "alertmanager",
}
"""Exporter of each scrape job."""


def series_names() -> dict[str, Metric]:
    """Each name that can stand in a query, with its metric: a histogram has three."""
    return {name: metric for metric in METRICS for name in metric.series}


__all__ = ["JOBS", "METRICS", "Metric", "series_names"]
