"""What is measured beside each other: the gateway, other proxies, and no proxy at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench.gateway.environments import HERE, environment, program
from bench.gateway.processes import GATEWAY_CORE, Running, answers, free_port, running
from bench.page import ROOT
from citadel_llm.keys.records import new_key, record_of
from citadel_llm.schema.access import Limits
from citadel_llm.schema.gateway import GatewaySettings
from citadel_llm.schema.routes import Backend, Model
from citadel_llm.schema.snapshot import Key, seal

MODEL = "org/smol"
PATH = "/v1/chat/completions"
DIRECT = "no proxy"
OURS = "Citadel"
_PLENTY = 1_000_000_000


@dataclass
class Serving:
    """A contender that serves. `process` is None for no proxy; `extra` has folders and files of its own."""

    name: str
    port: int
    headers: dict[str, str]
    process: Running | None = None
    counts: Path | None = field(default=None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"


@dataclass(frozen=True)
class _Plan:
    argv: Sequence[str]
    env: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    counts: Path | None = None


def _nginx(directory: Path, port: int, engines: Sequence[int]) -> _Plan:
    servers = "".join(f"server 127.0.0.1:{engine};" for engine in engines)
    temporary = "".join(
        f"{name}_temp_path {directory}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = directory / "nginx.conf"
    configuration.write_text(
        f"daemon off; worker_processes 1; pid {directory}/pid; error_log stderr warn; user root;"
        "events { worker_connections 16384; }"
        f"http {{ access_log {directory}/access.log; keepalive_requests 1000000000; {temporary}"
        f"upstream engines {{ {servers} keepalive 4096; keepalive_requests 1000000000; }}"
        f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://engines;"
        'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; } } }'
    )
    return _Plan([program("nginx"), "-p", str(directory), "-c", str(configuration)])


def _citadel(directory: Path, port: int, engines: Sequence[int]) -> _Plan:
    """Everything on that a server has: a key with limits, metrics, access log, usage events, probes."""
    key = new_key()
    record = record_of("team", key)
    limits = Limits(requests_per_minute=_PLENTY, tokens_per_minute=_PLENTY, concurrent_requests=100_000)
    backends = tuple(
        Backend(name=f"engine-{number}", url=f"http://127.0.0.1:{engine}", model="served", max_in_flight=8192)
        for number, engine in enumerate(engines)
    )
    entry = Key(id="team", prefix=record.prefix, hash=record.hash, limits=limits)
    _, snapshot = seal([Model(name=MODEL, backends=backends)], [entry], now=datetime.now(UTC))
    settings = GatewaySettings(
        host="127.0.0.1",
        port=port,
        internal_host="127.0.0.1",
        internal_port=free_port(),
        snapshot_path=directory / "routing.json",
        state_dir=directory,
    )
    settings.snapshot_path.write_bytes(snapshot)
    (directory / "settings.json").write_text(settings.model_dump_json())
    counts = directory / "counts"
    python = str(environment("app") / "python")
    return _Plan(
        [python, str(HERE / "serve.py"), str(directory / "settings.json"), str(counts)],
        {"PYTHONPATH": str(ROOT / "files/app/src")},
        {"authorization": f"Bearer {key}"},
        counts,
    )


def _router(_directory: Path, port: int, engines: Sequence[int]) -> _Plan:
    urls = [f"http://127.0.0.1:{engine}" for engine in engines]
    options = ["--policy", "round_robin", "--log-level", "warning", "--prometheus-port", str(free_port())]
    listen = ["--host", "127.0.0.1", "--port", str(port)]
    return _Plan([str(environment("router") / "vllm-router"), *listen, *options, "--worker-urls", *urls])


def _litellm(directory: Path, port: int, engines: Sequence[int]) -> _Plan:
    key = "sk-" + secrets.token_urlsafe(24)
    models = "".join(
        f"  - model_name: {MODEL}\n    litellm_params: {{model: openai/served, api_key: none, "
        f"api_base: 'http://127.0.0.1:{engine}/v1'}}\n"
        for engine in engines
    )
    configuration = directory / "litellm.yaml"
    configuration.write_text(f"model_list:\n{models}litellm_settings: {{telemetry: false}}\n")
    argv = [str(environment("litellm") / "litellm"), "--config", str(configuration)]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    env = {"LITELLM_MASTER_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    return _Plan(argv, env, {"authorization": f"Bearer {key}"})


def _minimal(_directory: Path, port: int, engines: Sequence[int]) -> _Plan:
    argv = [str(environment("minimal") / "python"), "-m", "uvicorn", "bench.gateway.minimal:app"]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--no-access-log", "--log-level", "warning"]
    argv += ["--loop", "uvloop", "--http", "httptools"]
    env = {"BENCH_UPSTREAM": f"http://127.0.0.1:{engines[0]}", "PYTHONPATH": str(ROOT)}
    return _Plan(argv, env)


_PLANS: dict[str, Callable[[Path, int, Sequence[int]], _Plan]] = {
    "nginx": _nginx,
    OURS: _citadel,
    "vllm-router": _router,
    "minimal ASGI": _minimal,
    "LiteLLM": _litellm,
}
NAMES = (DIRECT, *_PLANS)
QUICK = tuple(name for name in NAMES if name != "LiteLLM")
"""Those that keep up with loads at which LiteLLM would only be overrun."""


@contextlib.contextmanager
def serving(name: str, directory: Path, engines: Sequence[int]) -> Iterator[Serving]:
    """A contender before engines at ports of this machine, pinned to its core."""
    if name == DIRECT:
        yield Serving(name, engines[0], {})
        return
    own = directory / name.replace(" ", "-")
    own.mkdir(exist_ok=True)
    port = free_port()
    plan = _PLANS[name](own, port, engines)
    headers = {"content-type": "application/json"} | plan.headers
    ready = answers(port, "POST", PATH, headers, body())
    env = {"PATH": os.environ["PATH"]} | plan.env
    with running(plan.argv, core=GATEWAY_CORE, log=own / "log", ready=ready, env=env) as process:
        yield Serving(name, port, plan.headers, process, plan.counts)


def body(*, stream: bool = False) -> bytes:
    """A request."""
    extra = ',"stream":true' if stream else ""
    return (
        f'{{"model":"{MODEL}","messages":[{{"role":"user","content":"What is the capital of France?"}}],'
        f'"max_tokens":16{extra}}}'
    ).encode()
