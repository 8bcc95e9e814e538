"""Two real engines on this machine, each on a core of its own, and what they say of their prefix caches."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.gateway.environments import PYTHON
from bench.gateway.processes import answers, free_port, running
from bench.page import ROOT
from tools.lab_model.cli import cache_directory
from tools.lab_model.models import SMOLLM2

MODEL = "smol"
CONTEXT = 1024
CACHE_BYTES = 104_857_600
"""Of an engine's KV cache: 17 blocks of 128 tokens of this model in float32."""
START_S = 600
_ROLE = ROOT / "collections/ansible_collections/citadel/llm/roles/python_env/files"
_LOCK = _ROLE / "stacks/cpu/requirements.txt"
_COUNTER = re.compile(r"^vllm:prefix_cache_(hits|queries)_total\{[^}]*\} (\S+)$", re.MULTILINE)


def environment() -> Path:
    """The engine's environment, as on the lab's hosts; it is built when there is none of this lock."""
    digest = hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:12]
    target = cache_directory() / "venvs" / f"bench-engine-{digest}"
    if not target.is_dir():
        building = target.with_suffix(".new")
        shutil.rmtree(building, ignore_errors=True)
        uv, python = str(Path(sys.executable).parent / "uv"), str(building / "bin/python")
        (metadata,) = (_ROLE / "wheels").glob("vllm-*.whl")
        options = ["--quiet", "--compile-bytecode", "--python", python]
        sources = ["--find-links", str(cache_directory() / "wheelhouse")]
        for argv in (
            [uv, "venv", "--quiet", "--relocatable", "--python", PYTHON, str(building)],
            [uv, "pip", "sync", *options, *sources, "--require-hashes", str(_LOCK)],
            [uv, "pip", "install", *options, "--no-deps", str(metadata)],
        ):
            subprocess.run(argv, check=True)
        building.rename(target)
    return target / "bin"


@contextlib.contextmanager
def engines(directory: Path) -> Iterator[tuple[int, ...]]:
    """Run two engines and give their ports. Raises RuntimeError when one does not serve."""
    program = str(environment() / "vllm")
    ports = (free_port(), free_port())
    with contextlib.ExitStack() as stack:
        for core, port in enumerate(ports):
            # The second one starts while the first one does: both mostly import.
            ready = (lambda: True) if core == 0 else _ready(ports)
            argv = [program, "serve", str(cache_directory() / "models" / SMOLLM2.name)]
            argv += ["--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port)]
            argv += ["--max-model-len", str(CONTEXT), "--enforce-eager", "--dtype", "float32"]
            argv += ["--kv-cache-memory-bytes", str(CACHE_BYTES)]
            env = {
                "HOME": str(directory),
                "HF_HUB_OFFLINE": "1",
                "VLLM_NO_USAGE_STATS": "1",
                "VLLM_CPU_OMP_THREADS_BIND": str(core),
                "VLLM_SERVER_DEV_MODE": "1",  # for /reset_prefix_cache
            }
            log = directory / f"engine-{core}.log"
            stack.enter_context(running(argv, core=core, log=log, ready=ready, env=env, seconds=START_S))
        yield ports


def _ready(ports: tuple[int, ...]) -> Callable[[], bool]:
    body = f'{{"model":"{MODEL}","prompt":"Hello","max_tokens":1}}'.encode()
    headers = {"content-type": "application/json"}
    probes = [answers(port, "POST", "/v1/completions", headers, body) for port in ports]
    return lambda: all(probe() for probe in probes)


def empty(port: int) -> None:
    """Make an engine forget every prefix."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/reset_prefix_cache", method="POST")
    urllib.request.urlopen(request, timeout=30).close()


def counted(port: int) -> tuple[float, float]:
    """Tokens found in an engine's prefix cache, and tokens looked for, since its start."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        found = dict(_COUNTER.findall(answer.read().decode()))
    return float(found["hits"]), float(found["queries"])
