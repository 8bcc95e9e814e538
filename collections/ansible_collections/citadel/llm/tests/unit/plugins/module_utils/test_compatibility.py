# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, Optional

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _compatibility as compatibility
from ansible_collections.citadel.llm.plugins.module_utils import _compatibility_table as table

STACKS = Path(compatibility.__file__).parents[2] / "roles" / "python_env" / "files" / "stacks"


@pytest.mark.parametrize(
    ("torch", "capability", "how"),
    [
        ("2.7.0+cu126", "12.0", None),
        ("2.7.0", "12.0", None),
        ("2.7.0+cu126", "9.0", "binary"),
        ("2.7.0+cu126", "8.9", "binary"),
        ("2.7.0+cu126", "6.1", "binary"),
        ("2.7.0+cu128", "12.0", "binary"),
        ("2.7.0+cu128", "12.1", "binary"),
        ("2.7.0+cu128", "7.0", None),
        ("2.8.0", "7.0", "binary"),
        ("2.8.0", "6.1", None),
        ("2.11.0+cu128", "7.0", None),
        ("2.14.0", "10.3", "binary"),
        ("2.14.0", "11.0", None),
        ("2.7.0+cu128", "13.0", "ptx"),
    ],
)
def test_which_build_runs_on_which_gpu(torch: str, capability: str, how: Optional[str]) -> None:
    listed = compatibility.kernels(compatibility.wheel(torch))
    assert listed is not None
    assert compatibility.runs_on(capability, listed) == how


def test_builds_that_the_table_does_not_know() -> None:
    assert compatibility.kernels(compatibility.wheel("2.7.0+cu121")) is None
    assert compatibility.kernels(compatibility.wheel("3.0.0+cu130")) is None
    assert compatibility.supports(compatibility.wheel("2.9.0+cu130"), ["11.0"], "aarch64") is True


@pytest.mark.parametrize(
    ("text", "said"),
    [("cu126", "not a version"), ("2.7.0+rocm6", "cuNNN"), ("2.0.1", "name it"), ("", "not a version")],
)
def test_a_torch_build_that_is_none(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        compatibility.wheel(text)


@pytest.mark.parametrize(
    ("driver", "cuda", "runs"),
    [
        ("575.57.08", "12.6", True),
        ("525.60.13", "12.9", True),
        ("525.60.11", "12.0", False),
        ("575.57.08", "13.0", False),
        ("580.65.06", "13.2", True),
        ("450.80.02", "11.8", True),
        ("575.57.08", "14.0", None),
    ],
)
def test_which_driver_runs_which_cuda(driver: str, cuda: str, runs: Optional[bool]) -> None:
    assert compatibility.driver_runs(driver, cuda) is runs


def test_what_to_choose_for_blackwell() -> None:
    ready = compatibility.recommend(["12.0"], "580.105.08")
    assert ready == "Choose the stack cuda (vLLM 0.33.0, torch 2.14.0+cu130)"
    older = compatibility.recommend(["12.0"], "575.57.08")
    assert "stack cuda (vLLM 0.33.0" in older and "580.65.06 or newer" in older
    assert "vLLM 0.19.1 (torch 2.10.0+cu128)" in older


def test_what_to_choose_for_others() -> None:
    assert "stack vllm-0.9.2" in compatibility.recommend(["7.0"], "580.105.08")
    assert compatibility.recommend(["6.1"], "580.105.08").startswith("No stack")
    assert "needs driver" in compatibility.recommend(["9.0"], None)


@pytest.mark.parametrize(
    ("given", "stack"),
    [
        ({"name": "vllm-0.9.2"}, ("vllm-0.9.2", "0.9.2", "2.7.0", "12.6")),
        ({"name": "mine", "torch": "2.8.0+cu129"}, ("mine", "", "2.8.0", "12.9")),
        ({"name": "vllm-0.9.2", "torch": "2.7.0+cu128"}, ("vllm-0.9.2", "0.9.2", "2.7.0", "12.8")),
        ({"vllm": "0.18.0"}, ("vllm 0.18.0", "0.18.0", "2.10.0", "12.8")),
        ({"name": "cpu"}, ("cpu", "0.32.0", "2.13.0", None)),
    ],
)
def test_stacks(given: Dict[str, str], stack: "tuple[str, ...]") -> None:
    assert tuple(compatibility.stack(given)) == stack


@pytest.mark.parametrize("given", [{"name": "cudda"}, {"vllm": "0.1.0"}, {"vllm": "99.0"}])
def test_a_stack_that_nobody_knows(given: Dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"known stacks: cpu, cuda, vllm-0\.9\.2"):
        compatibility.stack(given)


def test_rows_name_known_sources_and_are_in_order() -> None:
    named = [row.sources for row in table.CUDA] + [row.sources for row in table.DRIVERS]
    named += [row.sources for row in table.TORCH] + [row.sources for row in table.VLLM]
    for sources in named:
        assert sources and set(sources) <= set(table.SOURCES), sources
    for cuda in table.CUDA:
        assert compatibility.at_least(cuda.own, cuda.minimum) or cuda.version == "11.0"
    ends = [compatibility.version(end) for row in table.VLLM for end in (row.first, row.last)]
    assert ends == sorted(ends)
    for release in table.VLLM:
        assert compatibility.kernels(compatibility.Wheel(release.torch, release.cuda)), release


def test_stacks_are_the_ones_that_the_role_locks() -> None:
    locked = sorted(path.parent.name for path in STACKS.glob("*/requirements.txt"))
    if not locked:
        pytest.skip(f"no locked stacks in {STACKS}")
    for stack in table.STACKS:
        text = (STACKS / stack.name / "requirements.txt").read_text(encoding="utf-8")
        torch = re.search(r"^torch==(\S+)", text, re.MULTILINE)
        assert torch is not None, stack.name
        assert compatibility.wheel(torch.group(1)) == compatibility.stack_wheel(stack)
        runtime = re.search(r"^nvidia-cuda-runtime(?:-cu\d+)?==(\d+\.\d+)", text, re.MULTILINE)
        assert (runtime.group(1) if runtime else None) == stack.cuda
        vllm = re.search(r"^vllm(?:-cpu)?==(\S+)", text, re.MULTILINE)
        assert vllm is not None and vllm.group(1) == stack.vllm
