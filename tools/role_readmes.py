"""Write each role's README.md from its argument specs. Run as `python -m tools.role_readmes [--check]`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[1] / "collections/ansible_collections/citadel/llm/roles"
MARKUP = {
    r"[CVIO]\(([^)]*)\)": r"`\1`",
    r"M\(([^)]*)\)": r"`\1`",
    r"P\(([^)#]*)#role\)": r"`\1`",
}


def prose(text: str | list[str]) -> str:
    """Documentation markup as Markdown, on one line."""
    joined = " ".join(text) if isinstance(text, list) else text
    for pattern, replacement in MARKUP.items():
        joined = re.sub(pattern, replacement, joined)
    return re.sub(r"\s+", " ", joined).strip().replace("|", r"\|")


def default_of(option: dict[str, Any]) -> str:
    if option.get("required"):
        return "*required*"
    if "default" not in option:
        return ""
    value = option["default"]
    shown = value if isinstance(value, str) and value else json.dumps(value)
    return f"`{shown}`".replace("|", r"\|")


def rows(options: dict[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for name, option in options.items():
        kind = option.get("type", "str")
        if kind == "list":
            kind = f"list of {option.get('elements', 'str')}"
        choices = (
            f" One of {', '.join(f'`{choice}`' for choice in option['choices'])}."
            if "choices" in option
            else ""
        )
        description = prose(option["description"]) + choices
        lines.append(f"| `{prefix}{name}` | {kind} | {default_of(option)} | {description} |")
        if "options" in option:
            lines += rows(option["options"], f"{prefix}{name}[].")
    return lines


def readme(role: Path) -> str:
    """The README of one role. Raises KeyError when its specs lack a part."""
    spec = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]
    description = spec["description"]
    sentences = description if isinstance(description, list) else [description]
    parts = [
        f"# citadel.llm.{role.name}",
        f"{prose(spec['short_description'])}.",
        *(prose(one) for one in sentences),
    ]
    if options := spec.get("options"):
        table = ["| variable | type | default | |", "|---|---|---|---|", *rows(options)]
        parts += ["## Variables", "\n".join(table)]
    if role.name != "citadel":
        parts.append(
            "The facts that every role shares (`citadel_*`) are described in the role `citadel.llm.citadel`."
        )
    stage = f"ansible-playbook -i inventories/production citadel.llm.{role.name}"
    if role.name != "citadel":
        parts += ["## Alone", f"```console\n{stage} --check --diff\n{stage}\n```"]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    check = "--check" in sys.argv[1:]
    stale = []
    for role in sorted(path.parent.parent for path in ROLES.glob("*/meta/argument_specs.yml")):
        target = role / "README.md"
        text = readme(role)
        if not target.exists() or target.read_text() != text:
            stale.append(role.name)
            if not check:
                target.write_text(text)
    if check and stale:
        names = ", ".join(stale)
        sys.exit(
            f"README.md of {names} is not made from the argument specs. Run python -m tools.role_readmes."
        )


if __name__ == "__main__":
    main()
