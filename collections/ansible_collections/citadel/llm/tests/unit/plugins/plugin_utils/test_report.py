# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports: valid, the verdict first, what changed, and nothing that a host says is taken for markup."""

from __future__ import annotations

import copy
import html.parser
import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.citadel.llm.plugins.plugin_utils import _report as reports
from ansible_collections.citadel.llm.plugins.plugin_utils import _report_files as files
from ansible_collections.citadel.llm.plugins.plugin_utils._report_render import (
    clean,
    fenced,
    md,
    moment,
    render,
    table,
)

SCHEMA = Path(__file__).resolve().parents[4] / "roles/preflight/files/preflight-report.schema.json"
EVIL = "<script>alert(1)</script>|`x`\x1b[31m\u202e&\"'"
NOW = "2026-06-30T12:00:00+00:00"


def finding(name: str = "host.cpu", severity: str = "deviation", **changes: Any) -> dict[str, Any]:
    return {
        "id": name,
        "severity": severity,
        "subject": "cpu",
        "expected": "A",
        "found": "B",
        "why": "Different, suitable.",
        "remedy": "Record it.",
        "unknown": False,
        "accepted": None,
        "expired": None,
        **changes,
    }


def facts() -> dict[str, Any]:
    return {
        "host": {
            "cpu": {"model": "Core Ultra 9", "cores": 24, "threads": 24},
            "memory": {"total_mib": 128000, "type": "DDR5", "ecc": False},
            "os": {"name": "Ubuntu 24.04.2 LTS", "kernel": "6.8.0", "architecture": "x86_64"},
            "python": {"version": "3.12.3"},
            "virtualization": {"type": "none", "container": None},
            "machine": {"vendor": "Maker", "product": EVIL},
            "network": {"hostname": "one", "addresses": [{"address": "192.0.2.1", "scope": "global"}]},
        },
        "storage": {
            "devices": [
                {"name": "sda", "aliases": [], "size_mib": 100, "device_class": "rotational", "serial": "S1"}
            ],
            "filesystems": [
                {"path": "/srv", "source": "/dev/sda", "fstype": "ext4", "available_percent": 50}
            ],
        },
        "account": {"user": "citadel", "exists": True, "uid": 1001},
        "endpoints": [
            {"name": "db", "host": "b", "port": 1, "state": "answered", "latency_ms": {"avg": 1.5}}
        ],
    }


def report(*found: dict[str, Any], before: dict[str, Any] | None = None, **result: Any) -> dict[str, Any]:
    told = {"findings": list(found), "verdict": "deviations", "facts": facts(), **result}
    return reports.host_report("one", told, address="192.0.2.1", generated_at=NOW, before=before)


def lost() -> dict[str, Any]:
    return reports.host_report(
        "two", {"unreachable": True, "msg": "Task failed: no route"}, address=None, generated_at=NOW
    )


class Tags(html.parser.HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


@pytest.mark.parametrize("kind", ["host", "fleet"])
def test_what_hosts_say_is_never_markup(kind: str) -> None:
    evil = finding(subject=EVIL, expected={EVIL: EVIL}, found=[EVIL], why=EVIL, remedy=f"{EVIL}\n``` {EVIL}")
    accepted = {"id": "x", "subject": None, "reason": EVIL, "until": "2027-01-01"}
    one = report(evil, finding("gpu.model", accepted=accepted), unused=[accepted])
    page = one if kind == "host" else reports.fleet_report([one, lost()], generated_at=NOW)
    texts = render(page, {"one": "one", "two": "two"})
    tags = Tags()
    tags.feed(texts["html"])
    names = {tag for tag, _attributes in tags.seen}
    assert "script" not in names
    assert not names & {"img", "link", "iframe", "object"}
    for _tag, attributes in tags.seen:
        assert not any(name.startswith("on") or name == "src" for name in attributes)
        assert "://" not in (attributes.get("href") or "")
    for ending in ("html", "md"):
        assert not set("\x1b\u202e") & set(texts[ending])
    outside = texts["md"].split("````")[::2]
    assert not any("<script>" in part for part in outside)
    assert "&lt;script&gt;" in texts["html"]
    assert json.loads(texts["json"]) == page


def test_verdict_then_remedies_then_inventory() -> None:
    texts = render(report(finding(), finding("host.os", "ok", found="Ubuntu")), {})
    for ending in ("html", "md"):
        text = texts[ending]
        order = [text.index(part) for part in ("deviations", "Record it.", "Inventory", "DDR5", "Passed")]
        assert order == sorted(order)
    assert 'name="viewport"' in texts["html"]
    assert "prefers-color-scheme: dark" in texts["html"]
    assert "@media print" in texts["html"]


def test_each_value_of_a_table_has_its_name_where_a_table_is_too_wide() -> None:
    """A phone shows the rows of a table one below the other; nine and more columns are no table anywhere."""
    acceptance = {"id": "host.cpu", "subject": None, "reason": "r", "until": "2027-01-01"}
    page = report(finding(), unused=[acceptance])
    page["inventory"]["gpus"] = [{f"column_{number}": number for number in range(9)}]
    text = render(page, {})["html"]
    assert '<td data-label="reason">r</td>' in text
    assert "<dt>column 8</dt><dd>8</dd>" in text and 'data-label="column 8"' not in text
    assert "<td>" not in text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("2026-11-22T21:25:22+00:00", "2026-11-22 21:25 UTC"),
        ("2026-11-22T21:25:22+02:00", "2026-11-22T21:25:22+02:00"),
        (None, "-"),
    ],
)
def test_moments_are_for_people(given: Any, shown: str) -> None:
    assert moment(given) == shown


def test_a_change_of_the_inventory_is_shown_as_it_is() -> None:
    texts = render(report(finding(remedy="Swap:\n-  - {a: b}\n+  - {c: d}")), {})
    assert "```diff\n-  - {a: b}\n+  - {c: d}\n```" in texts["md"]
    assert "<pre>-  - {a: b}\n+  - {c: d}</pre>" in texts["html"]


def test_the_gravest_come_first() -> None:
    hidden = finding("gpu.readable", "blocking", unknown=True)
    accepted = finding(
        "a.b", "blocking", accepted={"id": "a.b", "subject": None, "reason": "r", "until": "2027-01-01"}
    )
    ordered = report(
        finding("host.os", "ok"),
        accepted,
        finding("c.d", unknown=True),
        finding(),
        hidden,
        finding("e.f", "blocking"),
    )
    assert [one["id"] for one in ordered["findings"]] == [
        "e.f",
        "gpu.readable",
        "host.cpu",
        "c.d",
        "a.b",
        "host.os",
    ]


def test_drift_tells_what_changed_and_nothing_else() -> None:
    first = report(finding(), finding("host.os", "ok"))
    assert first["drift"] is None
    told = facts()
    told["storage"]["filesystems"][0]["available_percent"] = 20
    told["endpoints"][0]["latency_ms"] = {"avg": 9.5}
    same = report(finding(found="C"), finding("host.os", "ok"), before=first, facts=told)
    assert same["drift"] == {"since": NOW, "changes": []}
    told["storage"]["devices"][0]["size_mib"] = 200
    told["host"]["memory"]["total_mib"] = 64000
    del told["account"]
    later = report(
        finding("mount.free", "blocking", subject="/srv"), before=first, facts=told, verdict="blocked"
    )
    assert [(one["what"], one["before"], one["now"], one["better"]) for one in later["drift"]["changes"]] == [
        ("verdict", "deviations", "blocked", False),
        ("host.cpu (cpu)", "deviation", "ok", True),
        ("mount.free (/srv)", "ok", "blocking", False),
        ("disks S1 size_mib", 100, 200, None),
        ("host memory_gib", 125, 62, None),
    ]


def test_a_host_that_could_not_be_reached_is_in_the_report() -> None:
    fleet = reports.fleet_report([report(finding()), lost()], generated_at=NOW)
    assert fleet["verdict"] == "unknown"
    assert fleet["not_found_out"] == [{"host": "two", "unreachable": True, "reason": "no route"}]
    assert fleet["counts"] == {"hosts": 2, "ready": 0, "deviations": 1, "unknown": 1, "blocked": 0}
    text = table([report(finding()), lost()])
    assert "two: The host could not be reached, so nothing is known of it. no route" in text


def test_what_several_hosts_share_is_told_once() -> None:
    one = report(finding())
    other = dict(copy.deepcopy(one), host="three")
    (shared,) = reports.fleet_report([one, other], generated_at=NOW)["findings"]
    assert shared["hosts"] == ["one", "three"]


def test_the_terminal_shows_a_table_and_remedies() -> None:
    text = table([report(finding(subject=EVIL), counts={"ok": 3, "deviation": 1})])
    assert text.splitlines()[0].split() == [
        "host",
        "verdict",
        "blocking",
        "deviations",
        "unknown",
        "accepted",
        "changes",
    ]
    assert text.splitlines()[1].split() == ["one", "deviations", "0", "1", "0", "0", "-"]
    assert "Record it." in text
    assert "\x1b" not in text


def test_reports_follow_the_published_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    first = report(finding(), finding("e.f", "blocking"))
    for page in (
        first,
        report(finding("host.os", "ok"), before=first, verdict="ready"),
        lost(),
        reports.fleet_report([first, lost()], generated_at=NOW),
        reports.fleet_report([], generated_at=NOW),
    ):
        jsonschema.validate(page, schema)
    for name in first:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({key: value for key, value in first.items() if key != name}, schema)


def test_history_keeps_the_newest(tmp_path: Path) -> None:
    folder = str(tmp_path / "one")
    for second in range(4):
        files.write(
            folder, "report", {"json": f'{{"n": {second}}}', "md": "m"}, f"20260630T12000{second}Z", 2
        )
    kept = sorted(path.name for path in (tmp_path / "one/history").iterdir())
    assert kept == ["report-20260630T120002Z.json", "report-20260630T120003Z.json"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "history",
        "report.json",
        "report.md",
    ]


def test_an_earlier_report_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    assert files.previous(str(path), "host") is None
    for text in (
        "{",
        "[]",
        '{"kind": "fleet", "schema_version": 1}',
        '{"kind": "host", "schema_version": 2}',
    ):
        path.write_text(text)
        assert files.previous(str(path), "host") is None
    path.write_text('{"kind": "host", "schema_version": 1}')
    assert files.previous(str(path), "host") is not None


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".", "..", "history", "fe80::1", "hôte"])
def test_no_host_name_leaves_the_directory(name: str) -> None:
    folder = files.folder_of(name)
    assert "/" not in folder
    assert not folder.startswith(".")
    assert folder not in ("", "history", name)
    assert files.folder_of("hx-llm-server-01.example") == "hx-llm-server-01.example"


def test_text_cannot_steer() -> None:
    assert clean("a\x1b[2Jb\tc\nd") == "a\ufffd[2Jb c\nd"
    assert md("a|b <c> [d](e)\nf_g") == r"a\|b &lt;c&gt; \[d\](e) f\_g"
    assert fenced("````") == "`````diff\n````\n`````"
