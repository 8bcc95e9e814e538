"""Dashboards, by the file that they are written to."""

from tools.observability.dashboards.capacity import CAPACITY
from tools.observability.dashboards.engines import ENGINES
from tools.observability.dashboards.gateway import GATEWAY
from tools.observability.dashboards.gpus import GPUS
from tools.observability.dashboards.grafana import VARIABLES, build, encode
from tools.observability.dashboards.logs import LOGS
from tools.observability.dashboards.model import Board, Panel, Query
from tools.observability.dashboards.overview import OVERVIEW

BOARDS: tuple[Board, ...] = (OVERVIEW, ENGINES, GPUS, GATEWAY, LOGS, CAPACITY)


def panel_ids() -> dict[tuple[str, str], int]:
    """Number of each panel, by its dashboard's uid and its title."""
    found: dict[tuple[str, str], int] = {}
    for board in BOARDS:
        number = 0
        for row in board.rows:
            number += 1
            for panel in row.panels:
                number += 1
                found[board.uid, panel.title] = number
    return found


__all__ = ["BOARDS", "VARIABLES", "Board", "Panel", "Query", "build", "encode", "panel_ids"]
