# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from ansible_collections.citadel.llm.plugins.module_utils._model_fit_arguments import MODEL_FIT
from ansible_collections.citadel.llm.plugins.modules import model_fit
from ansible_collections.citadel.llm.tests.unit.plugins.module_utils.model_fit_testing import GIB, config

RunModule = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("check", [False, True])
def test_a_model_that_fits(run_module: RunModule, check: bool) -> None:
    result = run_module(model_fit, check=check, config=config(), weight_bytes=4 * GIB, gpu_memory_mib=[16311])
    assert result["changed"] is False and result["fits"] is True and result["verdict"] == "ready"
    assert result["counts"]["blocking"] == 0 and result["kv_bytes_per_token"] == 131072


def test_every_number_is_documented_and_returned(run_module: RunModule) -> None:
    """Whatever is found out, the same names are there."""
    documented = set(yaml.safe_load(model_fit.RETURN))
    for given in (
        {"config": config(), "weight_bytes": GIB, "gpu_memory_mib": [16311]},
        {"config": config(num_attention_heads=3), "weight_bytes": GIB, "tensor_parallel_size": 2},
        {"config": {}},
        {"path": "/nonexistent"},
    ):
        result = run_module(model_fit, **given)
        assert set(result) - {"changed", "invocation", "warnings"} == documented, given


def test_documentation_has_the_options() -> None:
    documented = yaml.safe_load(model_fit.DOCUMENTATION)["options"]
    assert set(documented) == set(MODEL_FIT)
    for name, option in MODEL_FIT.items():
        assert documented[name].get("default") == option.get("default"), name
        assert documented[name].get("choices") == option.get("choices"), name


def test_values_that_cannot_be(run_module: RunModule) -> None:
    result = run_module(model_fit, config=config(), gpu_memory_utilization=1.5)
    assert result["failed"] is True and "gpu_memory_utilization: 1.5" in result["msg"]
    assert "one of path and config" in run_module(model_fit)["msg"]
