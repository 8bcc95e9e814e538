"""A real Prometheus on a free loopback port with simulated history, recorded rules included."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from tools.observability.promql import metric_names
from tools.observability.rules import Record, records
from tools.observability.simulation import Host, write

MISSING = "run the tests with make, which unpacks it"
_START_S = 60.0


class PrometheusError(Exception):
    """Prometheus or promtool did not do what was asked; the message has its words."""


def promtool(*argv: str | Path) -> str:
    """Run promtool and return what it printed. Raises PrometheusError when it fails or is not there."""
    if shutil.which("promtool") is None:
        raise PrometheusError(f"promtool is not on the PATH: {MISSING}")
    done = subprocess.run(["promtool", *map(str, argv)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PrometheusError(f"promtool {argv[0]} {argv[1]}: {done.stdout}{done.stderr}")
    return done.stdout


class Prometheus:
    """A server over a data directory, as a context manager."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        self._configuration = directory / "prometheus.yml"
        self._configuration.write_text("global: {scrape_interval: 1m}\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Prometheus:
        if shutil.which("prometheus") is None:
            raise PrometheusError(f"prometheus is not on the PATH: {MISSING}")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{address}"
        with (self.directory / "prometheus.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self._configuration}",
                    f"--storage.tsdb.path={self.data}",
                    "--storage.tsdb.retention.time=10y",
                    f"--web.listen-address={address}",
                    "--log.level=warn",
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "GOMAXPROCS": "2"},
            )
        deadline = time.monotonic() + _START_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._stop()
                raise PrometheusError(f"Prometheus did not start: {self._log()}")
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def _log(self) -> str:
        return (self.directory / "prometheus.log").read_text()[-2000:]

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False

    def get(self, path: str, **parameters: str | float) -> Any:
        """The data of an API call. Raises PrometheusError with the server's reason."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=60) as answer:  # noqa: S310
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise PrometheusError(f"{path} {parameters}: {error.read().decode()}") from None

    def query(self, expr: str, at: float) -> list[dict[str, Any]]:
        """Answer of an instant query: a list of series with `metric` and `value`."""
        found: list[dict[str, Any]] = self.get("query", query=expr, time=at)["result"]
        return found


def tiers() -> list[list[Record]]:
    """Recording rules in the order in which history can be filled in: later ones read earlier ones."""
    left = list(records())
    ordered: list[list[Record]] = []
    while left:
        names = {rule.name for rule in left}
        ready = [rule for rule in left if not metric_names(rule.expr) & names]
        if not ready:
            raise PrometheusError(f"recording rules read each other in a circle: {sorted(names)}")
        ordered.append(ready)
        left = [rule for rule in left if rule not in ready]
    return ordered


def simulated(
    directory: Path, recordings: Path, hosts: Sequence[Host], start: int, end: int, step: int
) -> Prometheus:
    """A server, not yet started, that knows these hosts from start to end, with everything recorded."""
    server = Prometheus(directory)
    exposition = directory / "exposition.txt"
    with exposition.open("w") as file:
        write(recordings, list(hosts), start, end, step, file)
    promtool("tsdb", "create-blocks-from", "openmetrics", exposition, server.data)
    exposition.unlink()
    for number, rules in enumerate(tiers()):
        path = directory / f"rules-{number}.yml"
        group = {"name": f"tier-{number}", "rules": [rule.as_dict() for rule in rules]}
        path.write_text(yaml.safe_dump({"groups": [group]}))
        with server:
            span = (f"--start={start}", f"--end={end}", f"--eval-interval={step}s")
            where = (f"--url={server.url}", f"--output-dir={server.data}")
            promtool("tsdb", "create-blocks-from", "rules", *span, *where, path)
    return server
