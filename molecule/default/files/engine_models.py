"""Runs in the engine's environment: starts an engine with each tiny model, and says what it printed.

Reads `[{name, config, engine}]` from its input; writes one JSON line for each, with the exit status, the
output, the model's config.json and the head of its safetensors file (Base64). Each runs in a child of its
own, forked when the libraries have been read: that takes longer than an engine with such a model.
"""

import base64
import json
import os
import struct
import sys
import tempfile
import traceback
from pathlib import Path

import vllm
import vllm.model_executor.models.registry as registry
import vllm.v1.engine.core
import vllm.v1.engine.llm_engine
import vllm.v1.worker.cpu_model_runner
import vllm.v1.worker.cpu_worker
from transformers import AutoConfig, AutoModelForCausalLM

# What vLLM asks of a model's class it asks a process of its own, which reads all libraries once more.
registry._run_in_subprocess = lambda ask: ask()  # noqa: SLF001


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def start(request: dict, folder: Path) -> None:
    config = AutoConfig.for_model(**request["config"])
    model = AutoModelForCausalLM.from_config(config).to(config.dtype)
    model.save_pretrained(folder)
    say(f"weights: {sum(one.numel() * one.element_size() for one in model.parameters())}")
    del model
    vllm.LLM(str(folder), skip_tokenizer_init=True, enforce_eager=True, **request["engine"])


def child(request: dict, folder: Path, output: Path) -> None:
    """Never returns, and ends without the clean-up of libraries, which may wait for each other."""
    status = 1
    try:
        with output.open("wb") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        start(request, folder)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def head(folder: Path) -> str:
    with (folder / "model.safetensors").open("rb") as stream:
        length = stream.read(8)
        return base64.b64encode(length + stream.read(struct.unpack("<Q", length)[0])).decode()


for request in json.load(sys.stdin):
    with tempfile.TemporaryDirectory() as directory:
        folder, output = Path(directory, "model"), Path(directory, "output")
        pid = os.fork()
        if pid == 0:
            child(request, folder, output)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        told = {
            "name": request["name"],
            "status": status,
            "output": output.read_text(errors="replace"),
            "config": (folder / "config.json").read_text(),
            "head": head(folder),
        }
        say(json.dumps(told))
