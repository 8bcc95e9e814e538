# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any, Dict

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _gpu_arguments as arguments
from ansible_collections.citadel.llm.plugins.module_utils import _gpu_check_arguments as check_arguments


def parameters(spec: Dict[str, Dict[str, Any]], **given: Any) -> Dict[str, Any]:
    """A module's parameters as AnsibleModule would make them."""
    return {**{name: option.get("default") for name, option in spec.items()}, **given}


def test_expectations_of_the_gpus() -> None:
    wanted = check_arguments.expected_gpus(
        parameters(
            check_arguments.GPUS,
            count=2,
            tensor_parallel=[["0", 1]],
            records=[{"source": "sheet", "name": "RTX 4070", "count": 2, "memory_gb": 16.0}],
            stack={"name": "cuda", "vllm": None, "torch": None},
        )
    )
    assert wanted.tensor_parallel == ((0, 1),) and wanted.records[0].name == "RTX 4070"
    assert wanted.stack is not None and wanted.stack.vllm == "0.33.0"
    assert wanted.machine and wanted.persistence is True and wanted.mig is False


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tensor_parallel": [[0], "ab"]}, r"tensor_parallel\[1\]: 'ab'"),
        ({"tensor_parallel": [5]}, r"tensor_parallel\[0\]: 5"),
        ({"compute_capability": "new"}, "'new' is not a version"),
        ({"stack": {"name": "gpu"}}, "known stacks"),
        ({"stack": {"torch": "2.7.0+cuda"}}, "cuNNN"),
    ],
)
def test_expectations_that_cannot_be(given: Dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_arguments.expected_gpus(parameters(check_arguments.GPUS, **given))


def test_expectations_of_the_driver() -> None:
    wanted = check_arguments.expected_driver(
        parameters(check_arguments.DRIVER, version_min="570", flavour="open", stack=None)
    )
    assert (wanted.version_min, wanted.flavour, wanted.stack) == ("570", "open", None)
    with pytest.raises(ValueError, match="branch: 'R575' is not a version"):
        check_arguments.expected_driver(parameters(check_arguments.DRIVER, branch="R575"))


def test_where_to_look() -> None:
    request = arguments.request(parameters(arguments.LOOK, source="/tmp/x", timeout=2.0))
    assert request.source == "/tmp/x" and not request.live
    with pytest.raises(ValueError, match="timeout: 0"):
        arguments.request(parameters(arguments.LOOK, timeout=0.0))


def test_what_was_seen_before_is_not_looked_at_again() -> None:
    seen: Dict[str, Any] = {
        "gpus": [],
        "driver": None,
        "driver_version": None,
        "error_code": None,
        "source": "file",
    }
    assert arguments.info(parameters(arguments.CHECK, info=seen)) == seen
    with pytest.raises(ValueError, match="gpus, driver"):
        arguments.info(parameters(arguments.CHECK, info={}))
