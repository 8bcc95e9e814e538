"""The page about `model_fit` says what it works out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible_collections.citadel.llm.plugins.module_utils import _model_fit, _model_fit_arguments

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = (
    ROOT / "collections/ansible_collections/citadel/llm/tests/unit/plugins/module_utils/fixtures/model_fit"
)
GIB = 1024**3


def answer(**given: Any) -> dict[str, Any]:
    """What model_fit says."""
    options = {name: spec.get("default") for name, spec in _model_fit_arguments.MODEL_FIT.items()}
    options.update(given)
    assert not _model_fit_arguments.model_fit_problem(options)
    return _model_fit.check(options)[1]


def row(name: str, model: dict[str, Any], gpus: int) -> str:
    """A line of the page's table of worked examples."""
    given = {
        "config": model["config"],
        "weight_bytes": model["weight_bytes"],
        "gpu_memory_mib": [16311, 16311],
    }
    numbers = answer(tensor_parallel_size=gpus, **given)
    cells = [
        name,
        str(gpus),
        f"{numbers['weight_bytes_per_gpu'] / GIB:.2f} GiB",
        f"{numbers['kv_bytes_per_token'] // 1024} KiB",
        f"{numbers['max_model_len']}",
    ]
    if numbers["fits"]:
        cells += ["yes", f"{numbers['kv_tokens']}", f"{numbers['max_concurrency']:.1f}", ""]
    else:
        change = ", ".join(f"`{option}` {value}" for option, value in numbers["change"].items())
        cells += ["no", "", "", change]
    return "| " + " | ".join(cells) + " |"


def test_worked_examples_of_the_page() -> None:
    page = (ROOT / "docs/model-fit.md").read_text()
    for name, model in json.loads((FIXTURES / "models.json").read_text()).items():
        for gpus in (1, 2):
            assert row(name, model, gpus) in page.splitlines()
