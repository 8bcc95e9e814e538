"""The rule files are what their source says, Prometheus accepts them, and every alert fires when it "
"should."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.observability.alert_cases import ALWAYS, CASES, Case
from tools.observability.__main__ import RULES, differences
from tools.observability.catalogue import series_names
from tools.observability.dashboards import panel_ids
from tools.observability.faster import faster
from tools.observability.prometheus import PrometheusError, promtool
from tools.observability.promql import metric_names
from tools.observability.rules import alerts, records, rules

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
ALERTS = {alert.name: alert for alert in alerts()}


def test_generated_files_equal_their_source() -> None:
    assert differences() == []


def test_prometheus_accepts_the_rules() -> None:
    promtool("check", "rules", *sorted(RULES.glob("*.yml")))


def test_no_rule_reads_a_metric_that_nothing_exposes() -> None:
    known = {*series_names(), *(rule.name for rule in records())}
    unknown = {rule.name: names for rule in rules() if (names := metric_names(rule.expr) - known)}
    assert unknown == {}


def test_every_recording_rule_is_used() -> None:
    shown = "".join(path.read_text() for path in sorted(ROOT.glob("collections/**/dashboards/*.json")))
    read = {name for rule in rules() for name in metric_names(rule.expr)}
    unused = {rule.name for rule in records() if rule.name not in read and rule.name not in shown}
    assert {name for name in unused if not name.endswith(("_sum:rate5m", "_count:rate5m"))} == set()


def test_every_alert_has_a_case_and_a_page_and_a_panel() -> None:
    assert {case.alert for case in CASES} | {ALWAYS} == set(ALERTS)
    panels = panel_ids()
    for alert in ALERTS.values():
        assert (ROOT / f"docs/runbooks/{alert.runbook}.md").is_file(), alert.name
        assert alert.panel in panels, alert.name
        assert "$value" in alert.description, alert.name


def test_names_are_unique() -> None:
    assert len(ALERTS) == len(alerts())


def said(template: str, labels: dict[str, str], value: str) -> str:
    """An annotation as Prometheus renders it."""
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda match: labels.get(match[1], ""), template)
    return re.sub(r"\{\{ \$value[^}]*\}\}", lambda _: value, text)


def expected(case: Case) -> dict[str, Any]:
    rule = ALERTS[case.alert].as_dict(panel_ids())
    labels = {**case.labels, **rule["labels"]}
    annotations = {name: said(text, labels, case.value) for name, text in rule["annotations"].items()}
    return {"exp_labels": labels, "exp_annotations": annotations}


def group(
    name: str, alert: str, inputs: dict[str, str], at: str, alarms: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in inputs.items()],
        "alert_rule_test": [{"alertname": alert, "eval_time": at, "exp_alerts": alarms}],
    }


@cache
def shipped() -> list[dict[str, Any]]:
    """Groups of the generated files."""
    files = [yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.yml"))]
    return [group for file in files for group in file["groups"]]


def needed(names: set[str]) -> list[dict[str, Any]]:
    """Groups of the generated files with these rules and those that they read, and no others.

    All rules together would be computed for every minute of every case: that takes minutes.
    """
    expressions = {rule.name: rule.expr for rule in rules()}
    known = set(names)
    while (
        more := {name for known_name in known for name in metric_names(expressions[known_name])}
        & set(expressions) - known
    ):
        known |= more
    chosen = [
        {
            **group,
            "rules": [rule for rule in group["rules"] if (rule.get("alert") or rule["record"]) in known],
        }
        for group in shipped()
    ]
    return [group for group in chosen if group["rules"]]


def run(directory: Path, names: set[str], groups: list[dict[str, Any]]) -> None:
    directory.mkdir(exist_ok=True)
    (directory / "rules.yml").write_text(yaml.safe_dump({"groups": needed(names)}))
    document = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": groups}
    path = directory / "tests.yml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    promtool("test", "rules", path)


def try_out(directory: Path, case: Case) -> None:
    fires = group(f"{case.alert} fires", case.alert, case.fires, case.at, [expected(case)])
    quiet = group(f"{case.alert} quiet", case.alert, case.quiet, case.quiet_at or case.at, [])
    run(directory / case.alert, {case.alert}, [fires, quiet])


def test_every_alert_fires_says_why_and_stays_quiet(tmp_path: Path) -> None:
    failed = []
    with ThreadPoolExecutor(2) as pool:
        tries = {case.alert: pool.submit(try_out, tmp_path, case) for case in CASES}
        for alert, tried in tries.items():
            try:
                tried.result()
            except PrometheusError as error:
                failed.append(f"{alert}: {error}")
    assert not failed, "\n".join(failed)


def test_the_watchdog_always_fires(tmp_path: Path) -> None:
    watchdog = Case(ALWAYS, {}, {}, "1m", "1", {})
    run(tmp_path, {ALWAYS}, [group("watchdog", ALWAYS, {"up": "1"}, "1m", [expected(watchdog)])])


def test_few_requests_do_not_burn_a_budget(tmp_path: Path) -> None:
    failed = {'citadel_gateway_requests_total{host="a",model="m",endpoint="e",code="502"}': "0x30 3x60"}
    run(
        tmp_path,
        {"GatewayErrorBudgetBurnFast"},
        [group("three failures", "GatewayErrorBudgetBurnFast", failed, "40m", [])],
    )


@pytest.mark.parametrize("exporter", ["nvitop", "dcgm", "both"])
def test_gpus_have_one_set_of_names(tmp_path: Path, exporter: str) -> None:
    nvitop = (
        'gpu_temperature_C{host="a",exporter="nvitop",hostname="h",index="1",devicename="L40S",uuid="GPU-1"}'
    )
    dcgm = 'DCGM_FI_DEV_GPU_TEMP{host="a",exporter="dcgm",gpu="1",modelName="L40S",UUID="GPU-1"}'
    inputs = {"nvitop": [nvitop], "dcgm": [dcgm], "both": [nvitop, dcgm]}[exporter]
    one = {
        "interval": "1m",
        "input_series": [{"series": series, "values": "60x5"} for series in inputs],
        "promql_expr_test": [
            {
                "expr": "gpu:temperature:celsius",
                "eval_time": "2m",
                "exp_samples": [
                    {
                        "labels": 'gpu:temperature:celsius{gpu="1",host="a",name="L40S",uuid="GPU-1"}',
                        "value": 60,
                    }
                ],
            }
        ],
    }
    run(tmp_path, {"gpu:temperature:celsius"}, [one])


@pytest.mark.parametrize("metric", ["inter_token_latency_seconds", "time_per_output_token_seconds"])
def test_both_generations_of_vllm_have_one_set_of_names(tmp_path: Path, metric: str) -> None:
    series = f'vllm:{metric}_bucket{{host="a",deployment="x",model_name="m",engine="%s",le="0.05"}}'
    one = {
        "interval": "1m",
        "input_series": [{"series": series % rank, "values": "0+60x10"} for rank in (0, 1)],
        "promql_expr_test": [
            {
                "expr": "engine:inter_token_latency_seconds_bucket:rate5m",
                "eval_time": "8m",
                "exp_samples": [
                    {
                        "labels": "engine:inter_token_latency_seconds_bucket:rate5m"
                        '{deployment="x",host="a",le="0.05",model="m"}',
                        "value": 2,
                    }
                ],
            }
        ],
    }
    run(tmp_path, {"engine:inter_token_latency_seconds_bucket:rate5m"}, [one])


def test_faster_rules_wait_and_look_back_less_and_are_else_the_same() -> None:
    rule = {
        "alert": "A",
        "expr": "rate(a[1m30s]) > 300 unless b offset 10m and predict_linear(c[6h], 86400) < 0",
        "for": "2m",
        "keep_firing_for": "1m",
    }
    (group,) = faster({"groups": [{"name": "g", "rules": [rule]}]}, 10)["groups"]
    assert group["rules"] == [
        {
            "alert": "A",
            "expr": "rate(a[9000ms]) > 300 unless b offset 60000ms"
            " and predict_linear(c[2160000ms], 86400) < 0",
            "for": "12000ms",
            "keep_firing_for": "6000ms",
        }
    ]


def test_prometheus_accepts_faster_rules(tmp_path: Path) -> None:
    for path in RULES.glob("*.yml"):
        text = yaml.safe_dump(faster(yaml.safe_load(path.read_text()), 10))
        (tmp_path / path.name).write_text(text)
    promtool("check", "rules", *sorted(tmp_path.glob("*.yml")))
