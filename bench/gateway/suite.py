"""The gateway beside other proxies: cost, latency, streams, failures."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.gateway import closed, failing, open_loop, streams
from bench.page import Benchmark

_EXPLANATIONS = """What the figures mean:

- The machine is shared and its cores are virtual, so processor time per request says most, and requests per
  second least.
- *Citadel* identifies a key, holds it to three limits, counts metrics, writes a line of the access log and a
  usage event, and probes the engine. The router identifies nobody and limits nothing; nginx and the
  minimal proxy do neither and count nothing. LiteLLM knows its master key.
- The router and nginx are compiled; Citadel is interpreted. A proxy on asyncio's protocols, uvloop and
  httptools that passes requests on and does nothing else takes about a fifth of the router's time (33 µs
  beside 156, measured apart from this run): sockets and parsing are not what Citadel's time goes into.
  It goes into what is known of each request, some 250 small calls of a fraction of a microsecond, none of
  them large.
- What follows from a head is found out once, as long as a connection sends the same one again, as these
  clients do. A client that sends another head with each request, or its head and its body apart, costs about
  half more Python."""


def measure() -> list[str]:
    """Parts of the page."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)  # nginx's worker looks into it
        rows, _ = closed.measure(directory)
        return [
            "### T1: an engine that takes no time, clients without a pause",
            "",
            *rows,
            "",
            f"### T2: an engine that takes {open_loop.DELAY_S * 1000:.0f} ms, requests at a fixed rate",
            "",
            *open_loop.measure(directory),
            "",
            "### T3: streams of 64 frames at 20 ms",
            "",
            *streams.measure(directory),
            "",
            f"### T5: one of two engines is killed under {failing.CLIENTS} clients",
            "",
            *failing.killed(directory),
            "",
            "### T6: the client leaves",
            "",
            *failing.aborted(directory),
            "",
            _EXPLANATIONS,
        ]


INTRODUCTION = f"""Each proxy has one core to itself; engine and clients share the other one. They take turns:
{closed.ROUNDS} rounds in T1, {open_loop.ROUNDS} in T2 and T3; LiteLLM is in the first round only. All but
nginx come from locks with hashes, on the distribution's Python: LiteLLM 1.104.5, vllm-router 0.1.17. T4 is
the part *The gateway for long*."""

BENCHMARKS = {"gateway": Benchmark("The gateway beside other proxies", INTRODUCTION, measure)}
