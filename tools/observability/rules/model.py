"""Rules and how they are written down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

Severity = Literal["critical", "warning", "info", "none"]
HEADER = (
    "# Written by `python -m tools.observability`. Change tools/observability, not this file.\n"
    "# yamllint disable rule:line-length\n---\n"
)


class _Indented(yaml.SafeDumper):
    """Lists are indented below their key, as yamllint wants it."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        """Never without an indent."""
        super().increase_indent(flow, False)


@dataclass(frozen=True)
class Record:
    """A recording rule."""

    name: str
    expr: str
    labels: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The rule as Prometheus reads it."""
        return {"record": self.name, "expr": self.expr} | ({"labels": self.labels} if self.labels else {})


@dataclass(frozen=True)
class Alert:
    """An alert rule.

    `panel` is the dashboard's uid and the title of the panel that shows the cause; `runbook` is the name of a
    page in docs/runbooks. critical: somebody is called. warning: looked at on the same day. info: shown only.
    `keep` is how long it still fires when its cause has gone: what follows from it must not outlive it.
    """

    name: str
    expr: str
    severity: Severity
    summary: str
    description: str
    runbook: str
    panel: tuple[str, str]
    wait: str = "0m"
    keep: str = ""
    labels: dict[str, str] = field(default_factory=dict)

    def as_dict(self, panel_ids: dict[tuple[str, str], int]) -> dict[str, Any]:
        """The rule as Prometheus reads it, with links to its page and its panel."""
        uid, panel = self.panel[0], panel_ids[self.panel]
        host = "&var-host={{ $labels.host }}" if "$labels.host" in self.summary + self.description else ""
        rule: dict[str, Any] = {"alert": self.name, "expr": self.expr}
        if self.wait != "0m":
            rule["for"] = self.wait
        if self.keep:
            rule["keep_firing_for"] = self.keep
        return rule | {
            "labels": {"severity": self.severity, **self.labels},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"docs/runbooks/{self.runbook}.md",
                "dashboard_url": f"/d/{uid}?viewPanel={panel}{host}",
                "__dashboardUid__": uid,
                "__panelId__": str(panel),
            },
        }


@dataclass(frozen=True)
class Group:
    """Rules that are computed one after another, so that a later one sees what an earlier one recorded."""

    name: str
    rules: tuple[Record | Alert, ...]


def write(groups: tuple[Group, ...], panel_ids: dict[tuple[str, str], int]) -> str:
    """The text of a rule file."""
    document = {
        "groups": [
            {
                "name": group.name,
                "rules": [
                    rule.as_dict(panel_ids) if isinstance(rule, Alert) else rule.as_dict()
                    for rule in group.rules
                ],
            }
            for group in groups
        ]
    }
    return HEADER + yaml.dump(document, Dumper=_Indented, sort_keys=False, width=140, allow_unicode=True)
