"""T1: clients without a pause between answer and next request, before an engine that takes no time."""

from __future__ import annotations

import re
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.gateway.contenders import DIRECT, NAMES, OURS, QUICK, Serving, body
from bench.gateway.environments import program
from bench.gateway.measuring import Taken, rounds, spread
from bench.gateway.processes import OTHER_CORE, accepts, free_port, running

ROUNDS = 3
SECONDS, SLOW_SECONDS = 1, 4
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
_REQUESTS = re.compile(r"(\d+) requests in ([\d.]+)(us|ms|s|m)")
_LATENCY = re.compile(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m)", re.MULTILINE)
_ERRORS = re.compile(r"Non-2xx or 3xx responses: (\d+)|timeout (\d+)")


@dataclass(frozen=True)
class Taking:
    """One measurement: latencies in milliseconds, processor time of the contender in microseconds."""

    per_s: float
    p50: float
    p99: float
    cpu_us: float
    errors: int


def parse(output: str) -> tuple[int, float, dict[str, float], int]:
    """Requests, seconds, percentiles in milliseconds, and errors that wrk tells of."""
    found = _REQUESTS.search(output)
    if found is None:
        raise ValueError(f"wrk told no number of requests:\n{output}")
    requests, seconds = int(found[1]), float(found[2]) * _UNITS[found[3]] / 1000
    latency = {part: float(value) * _UNITS[unit] for part, value, unit in _LATENCY.findall(output)}
    errors = sum(int(number or other) for number, other in _ERRORS.findall(output))
    return requests, seconds, latency, errors


def _wrk(contender: Serving, clients: int, script: Path) -> Taking:
    headers = {"content-type": "application/json"} | contender.headers
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
    text = body().decode().replace("'", "\\'")
    script.touch(mode=0o600)
    script.write_text("\n".join(['wrk.method = "POST"', f"wrk.body = '{text}'", *lines]))
    argv = ["taskset", "-c", str(OTHER_CORE), program("wrk"), "-t1", f"-c{clients}"]
    duration = SECONDS if contender.name in QUICK else SLOW_SECONDS
    before = contender.process.cpu_s() if contender.process is not None else 0.0
    output = subprocess.run(
        [*argv, f"-d{duration}s", "--latency", "--timeout", "10s", "-s", str(script), contender.url],
        check=True,
        text=True,
        capture_output=True,
    ).stdout
    used = contender.process.cpu_s() - before if contender.process is not None else 0.0
    requests, seconds, latency, errors = parse(output)
    cpu_us = used / requests * 1e6 if requests else float("nan")
    return Taking(requests / seconds, latency.get("50", 0), latency.get("99", 0), cpu_us, errors)


def _engine(directory: Path, port: int) -> list[str]:
    """nginx with a fixed answer: it costs least."""
    answer = (
        '{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"served","choices":[{"index":0,'
        '"message":{"role":"assistant","content":"Paris"},"finish_reason":"stop"}],'
        '"usage":{"prompt_tokens":7,"total_tokens":9,"completion_tokens":2}}'
    )
    temporary = "".join(
        f"{name}_temp_path {directory}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = directory / "nginx.conf"
    configuration.write_text(
        f"daemon off; worker_processes 1; pid {directory}/pid; error_log stderr warn; user root;"
        "events { worker_connections 16384; }"
        f"http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; {temporary}"
        "default_type application/json;"
        f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 '{answer}'; }} }} }}"
    )
    return [program("nginx"), "-p", str(directory), "-c", str(configuration)]


def measure(directory: Path) -> tuple[list[str], dict[str, float]]:
    """Rows of the table, and each contender's processor time per request at 64 clients."""
    port = free_port()
    own = directory / "engine"
    own.mkdir()
    with running(_engine(own, port), core=OTHER_CORE, log=own / "log", ready=accepts(port)):

        def take(contender: Serving) -> dict[int, Taking]:
            # The middle comes first: with it, pools and caches get warm.
            levels = (64, 1, 256) if contender.name in QUICK else (64, 1)
            return {clients: _wrk(contender, clients, directory / "wrk.lua") for clients in levels}

        taken = rounds(ROUNDS, NAMES, directory, [port], take)
    cpu = {
        name: statistics.median(at[64].cpu_us for at in levels)
        for name, levels in taken.items()
        if name != DIRECT
    }
    return [*_rows(taken), "", *_ratios(cpu, taken)], cpu


def _rows(taken: Taken[dict[int, Taking]]) -> list[str]:
    rows = [
        "| | clients | CPU per request, µs | requests/s | p50, ms | p99, ms | errors |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, levels in taken.items():
        for clients in sorted(levels[0]):
            at = [level[clients] for level in levels]
            cpu = "" if name == DIRECT else spread([t.cpu_us for t in at], 0)
            per_s, errors = spread([t.per_s for t in at], 0), sum(t.errors for t in at)
            times = f"{spread([t.p50 for t in at])} | {spread([t.p99 for t in at])}"
            rows.append(f"| {name} | {clients} | {cpu} | {per_s} | {times} | {errors} |")
    return rows


def _ratios(cpu: dict[str, float], taken: Taken[dict[int, Taking]]) -> list[str]:
    def alone(name: str) -> float:
        return statistics.median(levels[1].p50 for levels in taken[name])

    ours = cpu[OURS]
    added = {name: alone(name) - alone(DIRECT) for name in (OURS, "vllm-router", "nginx")}
    times = ", ".join(
        f"{cpu[name] / ours:.2f} times {name}'s{target}"
        for name, target in (
            ("LiteLLM", " (target 40)"),
            ("vllm-router", " (target 1)"),
            ("nginx", ""),
            ("minimal ASGI", ""),
        )
    )
    latency = ", ".join(f"{name} {milliseconds:.2f} ms" for name, milliseconds in added.items())
    return [
        f"{OURS}'s requests per core, by processor time at 64 clients: {times}.",
        f"Added at one client (p50): {latency}.",
    ]
