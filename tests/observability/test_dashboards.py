"""Dashboards: their form, and every query of every panel against a real Prometheus."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.observability.conftest import END, HOSTS
from tools.observability.__main__ import DASHBOARDS
from tools.observability.catalogue import series_names
from tools.observability.dashboards import BOARDS, VARIABLES, panel_ids
from tools.observability.dashboards.model import Board, Panel, Query
from tools.observability.prometheus import Prometheus, PrometheusError
from tools.observability.promql import metric_names
from tools.observability.rules import records

pytestmark = pytest.mark.slow

BY_UID = {board.uid: board for board in BOARDS}
NAMES = sorted(BY_UID)


def shipped(uid: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DASHBOARDS / f"{uid}.json").read_text())
    return document


@pytest.mark.parametrize("uid", NAMES)
def test_the_schema_knows_every_key(uid: str) -> None:
    document = shipped(uid)
    again = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(document)))
    assert again == document


@pytest.mark.parametrize("uid", NAMES)
def test_panels_have_what_a_reader_needs(uid: str) -> None:
    document = shipped(uid)
    panels = [panel for panel in document["panels"] if panel["type"] != "row"]
    assert [panel["title"] for panel in panels] == [panel.title for panel in BY_UID[uid].panels]
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["id"] == panel_ids()[uid, panel["title"]]
        assert len(panel["description"]) > 10, panel["title"]
        if panel["type"] == "text":
            continue
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"], panel["title"]
        assert defaults["thresholds"]["steps"], panel["title"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24


@pytest.mark.parametrize("uid", NAMES)
def test_panels_do_not_overlap(uid: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in shipped(uid)["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place.get("x", 0), place.get("x", 0) + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def queries() -> list[tuple[Board, Panel, Query]]:
    return [(board, panel, query) for board in BOARDS for panel in board.panels for query in panel.queries]


def test_no_dashboard_reads_a_metric_that_nothing_exposes() -> None:
    known = {*series_names(), *(rule.name for rule in records())}
    used = [(f"{board.uid}/{panel.title}", query.expr) for board, panel, query in queries()]
    used += [
        (f"variable {name}", re.sub(r"label_values\((.*), \w+\)", r"\1", text))
        for name, (_, text) in VARIABLES.items()
    ]
    used += [(uid, mark["expr"]) for uid in NAMES for mark in shipped(uid)["annotations"]["list"]]
    unknown = {where: names for where, expr in used if (names := metric_names(expr) - known)}
    assert unknown == {}


def filled(expr: str, host: str) -> str:
    """The expression as Grafana sends it with one host chosen and everything else at All."""
    values = {"host": host, "__rate_interval": "4m"} | {name: ".+" for name in VARIABLES if name != "host"}
    return re.sub(r"\$(\w+)", lambda match: values[match[1]], expr)


def problems(history: Prometheus, panel: Panel, query: Query, host: str) -> list[str]:
    expr = filled(query.expr, host)
    try:
        answer = history.query(expr, END)
    except PrometheusError as error:
        return [str(error)]
    if not answer:
        return ["empty"]
    found = []
    if any(not math.isfinite(float(series["value"][1])) for series in answer):
        found.append("not a number")
    wanted = set(re.findall(r"\{\{(\w+)\}\}", query.legend))
    found += [
        f"legend {query.legend!r} names {missing}, which is not in {series['metric']}"
        for series in answer
        if (missing := wanted - set(series["metric"]))
    ]
    if panel.kind == "timeseries" and len(
        {tuple(series["metric"].get(name) for name in wanted) for series in answer}
    ) < len(answer):
        found.append(f"legend {query.legend!r} does not tell series apart")
    return found


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_every_query_is_answered(history: Prometheus, host: Any) -> None:
    found = {
        f"{board.uid}/{panel.title}: {query.expr}": wrong
        for board, panel, query in queries()
        if query.only in ("", host.gpu_exporter) and (wrong := problems(history, panel, query, host.name))
    }
    assert found == {}


def test_every_query_is_answered_for_all_hosts_at_once(history: Prometheus) -> None:
    found = {
        f"{board.uid}/{panel.title}: {query.expr}": wrong
        for board, panel, query in queries()
        if (wrong := problems(history, panel, query, ".+"))
    }
    assert found == {}


def test_every_variable_has_values(history: Prometheus) -> None:
    for name, (_, text) in VARIABLES.items():
        match = re.fullmatch(r"label_values\((.*), (\w+)\)", text)
        assert match, name
        values = history.get(
            f"label/{match[2]}/values", **{"match[]": filled(match[1], ".+"), "start": END - 600, "end": END}
        )
        assert values, name


def test_eight_gpus_are_eight_lines(history: Prometheus) -> None:
    answer = history.query('gpu:temperature:celsius{host="old-8"}', END)
    assert sorted(series["metric"]["gpu"] for series in answer) == [str(number) for number in range(8)]


def test_annotations_are_accepted(history: Prometheus) -> None:
    for mark in shipped("citadel-overview")["annotations"]["list"]:
        history.query(filled(mark["expr"], ".+"), END)
