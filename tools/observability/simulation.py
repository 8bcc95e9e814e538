"""Simulated hosts with the series of recorded expositions, over any time: for tests and pictures.

Names, labels and buckets come from the recordings; values follow a load that rises and falls.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tools.observability.profiles import CONSTANTS, DISTRIBUTIONS, FROM_LOAD, RATES, SINCE, UNTIL

_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:\\.|[^"\\])*)"')
Labels = dict[str, str]
_USUAL = {"code": "200", "level": "info", "finished_reason": "stop", "result": "passed", "mode": "idle"}


@dataclass(frozen=True)
class Host:
    """One host: its engines as (deployment, model), its GPUs and what exposes them."""

    name: str
    generation: str = "vllm-0.32"
    gpus: int = 2
    gpu_exporter: str = "nvitop"
    engines: tuple[tuple[str, str], ...] = (("chat-a", "chat"), ("embed-a", "embed"))
    card: str = "NVIDIA L40S"


@dataclass(frozen=True)
class Series:
    """One series and the host whose load it follows."""

    name: str
    labels: Labels
    host: Host
    seed: float


def recorded(directory: Path, exporter: str) -> list[tuple[str, Labels]]:
    """Names and labels of a recorded exposition."""
    found = []
    for line in (directory / f"{exporter}.prom").read_text().splitlines():
        match = _SAMPLE.match(line)
        if match:
            found.append((match[1], dict(_LABEL.findall(match[2] or ""))))
    return found


def _of_gpu(labels: Labels, host: Host, number: int) -> Labels:
    """The labels of the first GPU, given to another one."""
    changed = dict(labels)
    identity = f"GPU-{zlib.crc32(host.name.encode()):08x}-0000-0000-0000-{number:012d}"
    for name, value in (
        ("index", str(number)),
        ("gpu", str(number)),
        ("device", f"nvidia{number}"),
        ("uuid", identity),
        ("UUID", identity),
        ("devicename", host.card),
        ("modelName", host.card),
        ("name", host.card),
        ("hostname", host.name),
        ("Hostname", host.name),
    ):
        if name in changed:
            changed[name] = value
    return changed


def _per_gpu(samples: list[tuple[str, Labels]], host: Host) -> Iterator[tuple[str, Labels]]:
    for name, labels in samples:
        key = labels.get("gpu", labels.get("index"))
        if key is None:
            yield name, labels
        elif key == "0":
            for number in range(host.gpus):
                yield name, _of_gpu(labels, host, number)


def _scraped(directory: Path, host: Host) -> Iterator[tuple[Labels, list[tuple[str, Labels]]]]:
    """Each target of a host: the labels that Prometheus gives it, and what it exposes."""
    target = {"host": host.name, "instance": host.name}
    node = [
        (name, {**labels, "mountpoint": mount, "device": f"/dev/{mount.strip('/') or 'root'}"})
        for name, labels in recorded(directory, "node")
        for mount in (("/", "/mnt/nvme0n1", "/mnt/sda") if "mountpoint" in labels else ("",))
        if mount
    ] + [sample for sample in recorded(directory, "node") if "mountpoint" not in sample[1]]
    yield {**target, "job": "node"}, node
    yield {**target, "job": "citadel"}, list(_per_gpu(recorded(directory, "citadel"), host))
    yield {**target, "job": "gateway"}, recorded(directory, "gateway")
    gpus = list(_per_gpu(recorded(directory, host.gpu_exporter), host))
    yield {**target, "job": "gpu", "exporter": host.gpu_exporter}, gpus
    for deployment, model in host.engines:
        exposed = [
            (name, {**labels, **({"model_name": model} if "model_name" in labels else {})})
            for name, labels in recorded(directory, host.generation)
        ]
        yield {**target, "job": "vllm", "deployment": deployment}, exposed


def _watching(directory: Path, host: Host) -> Iterator[tuple[Labels, list[tuple[str, Labels]]]]:
    target = {"host": host.name, "instance": host.name}
    yield {**target, "job": "prometheus"}, recorded(directory, "prometheus")
    yield {**target, "job": "alertmanager"}, recorded(directory, "alertmanager")
    for probe, module in (("edge", "edge"), ("sql", "tcp"), ("vectors", "tcp"), ("web", "http")):
        yield (
            {"job": "probe", "probe": probe, "module": module, "instance": probe},
            recorded(directory, "blackbox"),
        )


def series(directory: Path, hosts: list[Host]) -> list[Series]:
    """Every series that Prometheus would have of these hosts; the first one watches."""
    found = []
    for host in hosts:
        targets = list(_scraped(directory, host))
        if host is hosts[0]:
            targets += _watching(directory, host)
        for target, samples in targets:
            about = ("up", "scrape_duration_seconds", "scrape_samples_post_metric_relabeling")
            found += [_series(name, target, host) for name in about]
            found += [_series(name, {**labels, **target}, host) for name, labels in samples]
    watchdog = {"alertname": "Watchdog", "alertstate": "firing", "severity": "none"}
    hot = {
        "alertname": "GpuHot",
        "alertstate": "firing",
        "severity": "warning",
        "host": hosts[0].name,
        "gpu": "1",
    }
    return [*found, _series("ALERTS", watchdog, hosts[0]), _series("ALERTS", hot, hosts[0])]


def _series(name: str, labels: Labels, host: Host) -> Series:
    who = "".join(f"{key}{value}" for key, value in sorted(labels.items()) if key != "le")
    return Series(name, labels, host, zlib.crc32(who.encode()) / 2**32)


def load(host: Host, seconds: float) -> float:
    """Share of its capacity that a host uses, 0 to 1, at a moment."""
    phase = zlib.crc32(host.name.encode()) % 628 / 100
    day = 0.5 + 0.2 * math.sin(2 * math.pi * seconds / 86400 + phase)
    hour = 0.2 * math.sin(2 * math.pi * seconds / 3100 + 2 * phase)
    return max(0.05, min(0.95, day + hour + 0.06 * math.sin(seconds / 97 + phase)))


def values(one: Series, start: int, end: int, step: int) -> Iterator[float]:
    """Its values from start to end."""
    base = re.sub(r"_(bucket|sum|count)$", "", one.name)
    if base in DISTRIBUTIONS:
        per_step = _histogram(one, base)
    elif one.name in RATES or one.name.endswith("_total"):
        rate = RATES.get(one.name, 0.0) * _share(one)
        per_step = lambda now: rate * (0.3 + load(one.host, now))  # noqa: E731
    else:
        for now in range(start, end, step):
            yield _gauge(one, now, end)
        return
    total = 0.0
    for now in range(start, end, step):
        total += step * per_step(now)
        yield total


def _share(one: Series) -> float:
    """What part of a rate falls to this series, by what its labels say."""
    labels = one.labels
    share = 0.5 + one.seed
    for name, usual in _USUAL.items():
        if labels.get(name, usual) != usual:
            share *= 0.02
    if labels.get("code", "").startswith("5") or labels.get("level") == "critical":
        share *= 0.01
    return share


def _histogram(one: Series, base: str) -> Callable[[float], float]:
    median, sigma, rate = DISTRIBUTIONS[base]
    scale = median * (0.7 + 0.6 * one.seed)
    if one.name.endswith("_sum"):
        return lambda now: rate * load(one.host, now) * scale * math.exp(sigma**2 / 2)
    if one.name.endswith("_count") or one.labels["le"] == "+Inf":
        return lambda now: rate * load(one.host, now)
    boundary = float(one.labels["le"])

    def bucket(now: float) -> float:
        busy = load(one.host, now)
        at = math.log(max(boundary, 1e-9) / (scale * (0.5 + busy))) / (sigma * math.sqrt(2))
        return rate * busy * 0.5 * (1 + math.erf(at))

    return bucket


def _gauge(one: Series, now: int, end: int) -> float:
    name, busy = one.name, load(one.host, now)
    if name in FROM_LOAD:
        low, high = FROM_LOAD[name]
        wobble = 0.03 * math.sin(now / 61 + 20 * one.seed)
        return max(0.0, low + (high - low) * (0.75 + 0.25 * one.seed) * max(0.0, busy + wobble))
    if name in SINCE:
        return end - SINCE[name] * (0.8 + 0.2 * one.seed)
    if name in UNTIL:
        return end + UNTIL[name] * (0.4 + 0.6 * one.seed)
    if name == "node_filesystem_avail_bytes":
        return (0.35 + 0.4 * one.seed) * CONSTANTS["node_filesystem_size_bytes"] - 2000.0 * (now % 1_000_000)
    if name == "citadel_gateway_backend_state":
        return float(one.labels["state"] == "up")
    if name == "citadel_preflight_findings":
        return {"ok": 47.0, "deviation": 4.0}.get(one.labels["severity"], 0.0)
    return CONSTANTS.get(name, 0.0)


def write(directory: Path, hosts: list[Host], start: int, end: int, step: int, file: TextIO) -> int:
    """Write all of it as OpenMetrics; return the number of series. Times are Unix seconds."""
    every = series(directory, hosts)
    for one in every:
        labels = ",".join(f'{name}="{value}"' for name, value in one.labels.items())
        head = f"{one.name}{{{labels}}}"
        times = range(start, end, step)
        file.writelines(
            f"{head} {value:.10g} {now}\n"
            for now, value in zip(times, values(one, start, end, step), strict=True)
        )
    file.write("# EOF\n")
    return len(every)
