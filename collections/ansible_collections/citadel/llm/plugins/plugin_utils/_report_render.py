# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports as HTML, Markdown and terminal text. Names and paths of a host are untrusted input everywhere."""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ansible_collections.citadel.llm.plugins.plugin_utils._report_drift import state

TEMPLATES = Path(__file__).resolve().parents[2] / "roles/preflight/templates"
UNITS = {"mib": "MiB", "gib": "GiB", "w": "W", "percent": "%", "ms": "ms", "s": "s"}
WORDS = {
    "gpus": "GPUs",
    "id": "ID",
    "os": "system",
    "cpu": "processor",
    "uuid": "UUID",
    "uid": "UID",
    "gid": "GID",
    "pci": "PCI",
    "pcie": "PCIe",
    "ecc": "ECC",
    "mig": "MIG",
    "cuda": "CUDA",
    "fstype": "type",
}
SHOWN_IN_TERMINAL = 12


def clean(text: str) -> str:
    """The text without what could steer a terminal or turn the direction of writing; line breaks stay."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}"
        if letter != "\n" and unicodedata.category(letter) in ("Cc", "Cf", "Cs")
        else letter
        for letter in text.replace("\t", " ")
    )


def show(value: Any) -> str:
    """A JSON value for people."""
    if value is None or value == "" or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "\n".join(f"{clean(str(key))}: {show(one)}" for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(show(one) for one in value)
    if isinstance(value, float):
        return f"{value:g}"
    return clean(str(value))


def label(name: str) -> str:
    """A key for people: ``memory_total_mib`` is ``memory total (MiB)``."""
    words = name.split("_")
    unit = UNITS.get(words[-1]) if len(words) > 1 else None
    text = " ".join(WORDS.get(word, word) for word in (words[:-1] if unit else words))
    return f"{text} ({unit})" if unit else text


def moment(value: Any) -> str:
    """``2026-11-22T21:25:22+00:00`` for people: ``2026-11-22 21:25 UTC``."""
    match = re.match(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d\+00:00$", str(value))
    return f"{match.group(1)} {match.group(2)} UTC" if match else show(value)


def md(value: Any) -> str:
    """A value as Markdown on one line, with everything escaped that Markdown or HTML would act on."""
    text = " ".join(show(value).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", text)


def fenced(text: str) -> str:
    """A Markdown block that shows the text as it is, whatever it contains."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}diff\n{text}\n{fence}"


def head(text: str) -> str:
    """The first line of a remedy."""
    return clean(str(text)).split("\n", 1)[0]


def block(text: str) -> str:
    """What follows the first line of a remedy, such as a change of the inventory."""
    return clean(str(text)).partition("\n")[2]


@functools.cache  # the templates are compiled once for all hosts of a run
def _environment(*, autoescape: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=autoescape,  # noqa: S701 (Markdown has its own filter)
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        show=show, label=label, moment=moment, md=md, fenced=fenced, head=head, block=block, state=state
    )
    return environment


def render(report: dict[str, Any], links: dict[str, str]) -> dict[str, str]:
    """The report by file name ending: ``json``, ``md`` and ``html``. ``links``: from hosts to folders."""
    kind = report["kind"]
    pages = _environment(autoescape=True)
    style = Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))  # noqa: S704 (a file of ours)
    html = pages.get_template(f"{kind}.html.j2").render(report=report, links=links, style=style)
    text = _environment(autoescape=False).get_template(f"{kind}.md.j2").render(report=report, links=links)
    return {"json": json.dumps(report, indent=2, sort_keys=True) + "\n", "md": text, "html": html}


def table(hosts: list[dict[str, Any]]) -> str:
    """The hosts of a run for a terminal: a table, then what needs attention."""
    rows = [("host", "verdict", "blocking", "deviations", "unknown", "accepted", "changes")]
    for host in hosts:
        counts = host["counts"]
        changes = "-" if host["drift"] is None else str(len(host["drift"]["changes"]))
        numbers = (str(counts[name]) for name in ("blocking", "deviation", "unknown", "accepted"))
        rows.append((clean(host["host"]), host["verdict"], *numbers, changes))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(_cell(row[at], widths[at], at) for at in range(len(row))).rstrip() for row in rows]
    for host in hosts:
        lines += _attention(host)
    return "\n".join(lines)


def _cell(text: str, width: int, column: int) -> str:
    return text.ljust(width) if column < 2 else text.rjust(width)


def _attention(host: dict[str, Any]) -> list[str]:
    name = clean(host["host"])
    if not host["findings"]:
        return ["", f"{name}: {host['summary']} {head(str(host['reason']))}"]
    told = [one for one in host["findings"] if state(one) not in ("ok", "accepted")]
    if not told:
        return []
    lines = ["", f"{name}: {host['summary']}"]
    for one in told[:SHOWN_IN_TERMINAL]:
        lines.append(
            f"  {state(one):9}  {clean(one['id'])}  {clean(str(one['subject']))}: {head(one['why'])}"
        )
        lines.append(f"             {head(one['remedy'])}")
        lines += [f"             {line}" for line in block(one["remedy"]).splitlines()]
    if len(told) > SHOWN_IN_TERMINAL:
        lines.append(f"  and {len(told) - SHOWN_IN_TERMINAL} more in the report")
    return lines
