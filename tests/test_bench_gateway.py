"""What the gateway's benchmarks compute: figures out of programs' output, slopes, frames, rows."""

from __future__ import annotations

import asyncio
import math
from collections import Counter

import pytest

from bench.gateway import closed, slow, soak
from bench.gateway.client import Client, request_of
from bench.gateway.measuring import percentile, spread
from bench.gateway.soak import Sample, slope

WRK = """Running 1s test @ http://127.0.0.1:1/
  1 threads and 64 connections
  Latency Distribution
     50%    {p50}
     75%    3.00ms
     90%    4.00ms
     99%    {p99}
  {requests} requests in {time}, 2.30MB read
{errors}Requests/sec:  10.00
"""


def output(
    p50: str = "1.50ms", p99: str = "2.00s", requests: int = 120, time: str = "2.00s", errors: str = ""
) -> str:
    return WRK.format(p50=p50, p99=p99, requests=requests, time=time, errors=errors)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (output(), (120, 2.0, {"50": 1.5, "99": 2000.0}, 0)),
        (output(p50="250.00us", p99="1.20m", time="1.50m"), (120, 90.0, {"50": 0.25, "99": 72_000.0}, 0)),
        (output(errors="  Non-2xx or 3xx responses: 7\n"), (120, 2.0, {"50": 1.5, "99": 2000.0}, 7)),
        (
            output(errors="  Socket errors: connect 0, timeout 3\n  Non-2xx or 3xx responses: 7\n"),
            (120, 2.0, {"50": 1.5, "99": 2000.0}, 10),
        ),
        (output(requests=0, time="100.00ms"), (0, 0.1, {"50": 1.5, "99": 2000.0}, 0)),
    ],
)  # fmt: skip
def test_what_wrk_tells(text: str, found: tuple[int, float, dict[str, float], int]) -> None:
    requests, seconds, latency, errors = closed.parse(text)
    assert (requests, errors) == (found[0], found[3])
    assert seconds == pytest.approx(found[1])
    assert latency == pytest.approx(found[2])


def test_what_wrk_does_not_tell() -> None:
    with pytest.raises(ValueError, match="no number of requests"):
        closed.parse("unable to connect to 127.0.0.1:1 Connection refused\n")


@pytest.mark.parametrize(
    ("memory", "found"),
    [([5, 5, 5, 5], 0.0), ([1, 2, 3, 4], 1.0), ([4, 2], -2.0), ([1, 3, 2, 4], 0.8), ([7], 0.0)],
)
def test_the_slope_of_memory(memory: list[float], found: float) -> None:
    samples = [Sample(minute, value, 1, 1) for minute, value in enumerate(memory)]
    assert slope(samples) == pytest.approx(found)


def test_the_rows_of_a_soak_compare_thirds_after_the_warm_up() -> None:
    loaded = [Sample(minute, 50 if minute < 2 else 60 + minute, 10 + minute, minute) for minute in range(11)]
    samples = [Sample(0, 40, 9, 3), *loaded, Sample(11, 65, 9, 3)]
    rows = soak._rows(10, samples, Counter({"answers": 1200, "streams": 34}))
    assert rows[0] == "10 minutes, 1,234 requests: 1,200 answers, 34 streams."
    assert rows[4] == "| memory, MiB | 40.0 | 63.0 (first third), 69.0 (last third), +1.000 a minute | 65.0 |"
    assert rows[5:] == ["| descriptors | 9 | at most 20 | 9 |", "| tasks | 3 | at most 10 | 3 |"]


@pytest.mark.parametrize(
    ("values", "part", "found"),
    [([3.0, 1.0, 2.0], 0.5, 2.0), ([1.0], 0.99, 1.0), (list(range(100)), 0.99, 99), ([2.0, 1.0], 0.0, 1.0)],
)
def test_a_percentile(values: list[float], part: float, found: float) -> None:
    assert percentile(values, part) == found


def test_figures_of_nothing() -> None:
    assert math.isnan(percentile([], 0.5))
    assert spread([]) == ""
    assert spread([3, 1, 2000], 1) == "3.0 (1.0 to 2,000.0)"


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def write(self, data: object) -> None:
        del data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.mark.parametrize("size", [1, 7, 40, 10_000])
def test_a_client_counts_the_frames_of_a_stream_however_they_arrive(size: int) -> None:
    done: list[Client] = []
    client = Client(done.append)
    client.connection_made(_Transport())
    client.ask(request_of(1, "/x", {"a": "b"}, b"{}"))
    body = (
        b"".join(b'data: {"content":"@%017.6f@"}\n\n' % moment for moment in (1.5, 2.5, 3.5))
        + b"data: [DONE]\n\n"
    )
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    for at in range(0, len(answer), size):
        client.data_received(answer[at : at + size])
    assert (client.status, len(client.arrivals), done) == (200, 3, [client])
    assert not client.failed
    assert client.usable


def test_a_client_whose_connection_ends_has_failed() -> None:
    done: list[Client] = []
    client = Client(done.append)
    client.connection_made(_Transport())
    client.ask(b"")
    client.connection_lost(None)
    assert (client.failed, client.usable, done) == (True, False, [client])
    client.connection_lost(None)
    assert len(done) == 1


def test_the_bytes_of_a_request() -> None:
    assert request_of(80, "/x", {"a": "b"}, b"hi") == (
        b"POST /x HTTP/1.1\r\nhost: 127.0.0.1:80\r\ncontent-type: application/json\r\na: b\r\n"
        b"content-length: 2\r\n\r\nhi"
    )


def test_the_row_of_slow_clients() -> None:
    seen = slow.Seen([0.02] * 99 + [0.5], 1, 60.4, 2000, Counter(heads=30, bodies=2))
    assert (
        slow._row("beside", seen) == "| beside | 100 | 1 | 20.0 | 500.0 | 2,000 | 2 bodies, 30 heads | 60 |"
    )
