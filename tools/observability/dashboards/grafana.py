"""Panels and dashboards as Grafana reads them, built with its own typed SDK."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    table,
    text,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import prometheus as prometheus_model
from grafana_foundation_sdk.models import text as text_model

from tools.observability.dashboards.model import Board, Column, Panel, Query, Row, Steps

SCHEMA_VERSION = 41
SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
Builder = stat.Panel | timeseries.Panel | table.Panel | bargauge.Panel | text.Panel
VARIABLES = {
    "host": ("Host", "label_values(up, host)"),
    "model": ("Model", 'label_values(engine:requests_running:sum{host=~"$host"}, model)'),
    "deployment": ("Engine", 'label_values(engine:requests_running:sum{host=~"$host"}, deployment)'),
    "served": ("Model", 'label_values(citadel_gateway_requests_in_flight{host=~"$host"}, model)'),
    "gpu": ("GPU", 'label_values(gpu:temperature:celsius{host=~"$host"}, gpu)'),
    "unit": ("Unit", 'label_values(citadel_unit_active{host=~"$host"}, unit)'),
}
"""Label and query of each variable that a dashboard can have."""


def build(board: Board) -> model.Dashboard:
    """The dashboard. Numbers of panels are given in order, so they stay while none is put in between."""
    builder = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags(["citadel"])
        .editable()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .link(
            dashboard.DashboardLink("Citadel")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags(["citadel"])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
    )
    for name in board.variables:
        builder = builder.with_variable(_variable(name))
    for annotation in _annotations():
        builder = builder.annotation(annotation)
    number = 0
    top = 0
    for row in board.rows:
        number += 1
        builder = builder.with_row(_row(row, number, top))
        top += 1
        skyline = [top] * 24
        for panel in row.panels:
            number += 1
            left = min(
                range(25 - panel.width),
                key=lambda x: max(skyline[x : x + panel.width]),
            )
            place = model.GridPos(
                h=panel.height, w=panel.width, x=left, y=max(skyline[left : left + panel.width])
            )
            builder = builder.with_panel(_panel(panel).id(number).grid_pos(place))
            skyline[left : left + panel.width] = [place.y + panel.height] * panel.width
        top = max(skyline)
    return builder.build()


def encode(board: Board) -> str:
    """The dashboard's file."""
    built = build(board)
    built.schema_version = SCHEMA_VERSION
    return JSONEncoder(sort_keys=True, indent=1).encode(built) + "\n"


def _row(row: Row, number: int, top: int) -> dashboard.Row:
    return dashboard.Row(row.title).id(number).grid_pos(model.GridPos(h=1, w=24, x=0, y=top))


def _variable(name: str) -> dashboard.QueryVariable:
    label, query = VARIABLES[name]
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.NATURAL_ASC)
    )


def _annotations() -> list[dashboard.AnnotationQuery]:
    marks = (
        ("Configuration", "blue", 'changes(citadel_config_changed_timestamp_seconds{host=~"$host"}[1m]) > 0'),
        ("Restarts", "orange", 'changes(citadel_unit_start_time_seconds{host=~"$host"}[1m]) > 0'),
        (
            "Routing",
            "purple",
            'changes(citadel_gateway_snapshot_created_timestamp_seconds{host=~"$host"}[1m]) > 0',
        ),
        ("Alerts", "red", 'ALERTS{alertstate="firing", severity="critical"}'),
    )
    return [
        dashboard.AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(color).expr(expr)
        for name, color, expr in marks
    ]


def _panel(panel: Panel) -> Builder:
    builder: Any = {
        "stat": _stat,
        "timeseries": _timeseries,
        "table": _table,
        "bargauge": _bargauge,
        "text": _text,
    }[panel.kind](panel)
    builder = builder.title(panel.title).description(panel.description)
    if panel.kind == "text":
        return builder  # type: ignore[no-any-return]
    builder = builder.datasource(SOURCE).thresholds(_thresholds(panel.steps)).unit(panel.unit)
    mode = (
        model.FieldColorModeId.PALETTE_CLASSIC
        if panel.kind == "timeseries"
        else model.FieldColorModeId.THRESHOLDS
    )
    builder = builder.color_scheme(dashboard.FieldColor().mode(mode))
    if panel.low is not None and panel.kind != "table":
        builder = builder.min(panel.low)
    if panel.high is not None:
        builder = builder.max(panel.high)
    if panel.decimals is not None:
        builder = builder.decimals(panel.decimals)
    if panel.words:
        builder = builder.mappings([_words(panel.words)])
    if panel.empty:
        builder = builder.no_value(panel.empty)
    if panel.title not in ("Lines by unit", "Errors by unit"):
        builder = builder.links([_logs_link()])
    for column in panel.columns:
        builder = builder.override_by_name(column.name, _column(column, in_table=panel.kind == "table"))
    instant = panel.kind in ("table", "bargauge")
    for letter, query in zip("ABCDEFGHIJKL", panel.queries, strict=False):
        builder = builder.with_target(_target(query, letter, instant=instant, as_table=panel.kind == "table"))
    return builder  # type: ignore[no-any-return]


def _target(query: Query, letter: str, *, instant: bool, as_table: bool) -> prometheus.Dataquery:
    target = prometheus.Dataquery().ref_id(letter).datasource(SOURCE).expr(query.expr)
    target = target.legend_format(query.legend or "__auto")
    target = target.instant() if instant else target.range()
    if as_table:
        target = target.format(prometheus_model.PromQueryFormat.TABLE)
    return target


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value=value, color=color) for value, color in steps])
    )


def _words(words: dict[int, tuple[str, Any]]) -> model.ValueMap:
    return model.ValueMap(
        options={
            str(value): model.ValueMappingResult(text=word, color=color, index=index)
            for index, (value, (word, color)) in enumerate(words.items())
        }
    )


def _logs_link() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("Logs of this time")
        .type(model.DashboardLinkType.LINK)
        .url("/d/citadel-logs?${__url_time_range}&${host:queryparam}")
    )


def _reduced() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def _stat(panel: Panel) -> stat.Panel:
    return (
        stat.Panel()
        .reduce_options(_reduced())
        .color_mode(common_model.BigValueColorMode.VALUE)
        .graph_mode(common_model.BigValueGraphMode.AREA)
        .text_mode(
            common_model.BigValueTextMode.VALUE_AND_NAME
            if len(panel.queries) > 1 or "{{" in panel.queries[0].legend
            else common_model.BigValueTextMode.VALUE
        )
    )


def _bargauge(_panel: Panel) -> bargauge.Panel:
    return (
        bargauge.Panel()
        .reduce_options(_reduced())
        .orientation(common_model.VizOrientation.HORIZONTAL)
        .display_mode(common_model.BarGaugeDisplayMode.BASIC)
        .min_viz_height(16)
        .name_placement(common_model.BarGaugeNamePlacement.LEFT)
    )


def _timeseries(panel: Panel) -> timeseries.Panel:
    legend = (
        common.VizLegendOptions()
        .display_mode(common_model.LegendDisplayMode.LIST)
        .placement(common_model.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs([])
    )
    builder = (
        timeseries.Panel()
        .legend(legend)
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_model.TooltipDisplayMode.MULTI)
            .sort(common_model.SortOrder.DESCENDING)
        )
        .line_width(1)
        .fill_opacity(30 if panel.stacked else 0)
        .show_points(common_model.VisibilityMode.NEVER)
    )
    if panel.decimals == 0:
        builder = builder.axis_soft_max(1)
    if panel.stacked:
        builder = builder.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL))
    if len(panel.steps) > 1:
        builder = builder.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_model.GraphThresholdsStyleMode.DASHED)
        )
    return builder


def _text(panel: Panel) -> text.Panel:
    return text.Panel().mode(text_model.TextMode.MARKDOWN).content(panel.content)


def _table(panel: Panel) -> table.Panel:
    builder = table.Panel().show_header(True).cell_height(common_model.TableCellHeight.SM)
    renamed = {
        "Value" if len(panel.queries) == 1 else f"Value #{letter}": query.column
        for letter, query in zip("ABCDEFGHIJKL", panel.queries, strict=False)
    }
    if len(panel.queries) > 1:
        builder = builder.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    if "gpu" in panel.order:  # as text, 10 would come before 2
        conversion = {"targetField": "gpu", "destinationType": "number"}
        builder = builder.with_transformation(
            model.DataTransformerConfig(
                id_val="convertFieldType", options={"conversions": [conversion], "fields": {}}
            )
        )
    builder = builder.with_transformation(
        model.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": dict.fromkeys(("Time", *panel.hidden), True),
                "indexByName": {name: index for index, name in enumerate(panel.order)},
                "renameByName": {old: new for old, new in renamed.items() if new},
            },
        )
    )
    if panel.sort:
        builder = builder.sort_by(
            [
                common.TableSortByFieldState().display_name(name.lstrip("-")).desc(name[0] == "-")
                for name in panel.sort.split()
            ]
        )
    return builder


def _column(column: Column, *, in_table: bool) -> list[model.DynamicConfigValue]:
    values: list[tuple[str, Any]] = [("unit", column.unit)]
    if column.decimals is not None:
        values.append(("decimals", column.decimals))
    if in_table:
        values.append(("custom.width", column.width))
    if column.steps:
        values.append(("thresholds", _thresholds(column.steps).build()))
    if column.words:
        values.append(("mappings", [_words(column.words)]))
    if in_table and (column.steps or column.words):
        values.append(("custom.cellOptions", {"type": "color-text"}))
    return [model.DynamicConfigValue(id_val=name, value=value) for name, value in values]
