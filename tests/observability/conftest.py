"""A real Prometheus with four simulated hosts, once for all tests of a process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.observability.prometheus import Prometheus, simulated
from tools.observability.simulation import Host

FIXTURES = Path(__file__).parent / "fixtures"
END = 1767225600
HOSTS = (
    Host("new-2"),
    Host("new-8", gpus=8, gpu_exporter="dcgm"),
    Host("old-2", "vllm-0.9.2"),
    Host("old-8", "vllm-0.9.2", gpus=8, gpu_exporter="dcgm"),
)
"""Both generations of vLLM with two and with eight GPUs, and both exporters of GPUs."""


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    directory = tmp_path_factory.mktemp("prometheus")
    with simulated(directory, FIXTURES, HOSTS, END - 1800, END + 60, 60) as server:
        yield server
