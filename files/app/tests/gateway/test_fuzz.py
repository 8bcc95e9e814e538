"""The fuzzer of the HTTP surface for half a minute, and what it relies on."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tools.fuzz.grammar import Case, make
from tools.fuzz.strict import read_answers, read_requests

ROOT = Path(__file__).resolve().parents[4]
HEAD = b"POST /a HTTP/1.1\r\nhost: x\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.slow
def test_nothing_is_found_in_half_a_minute(tmp_path: Path) -> None:
    """In a process of its own: it looks at every task and every descriptor.

    The seed is one that once found something. New ones are tried with the command itself, for longer: no
    change is held up by what was there before it.
    """
    options = ["--seconds", "30", "--seed", "30174744", "--failures", str(tmp_path)]
    argv = [sys.executable, "-m", "tools.fuzz", *options]
    run = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    assert "findings: 0" in run.stdout


def test_the_same_seed_makes_the_same_input_and_a_kept_one_is_read_again() -> None:
    for number in range(200):
        case = make(random.Random(number), 3)
        assert case == make(random.Random(number), 3)
        assert Case.load(case.dump(["wrong"])) == case


@pytest.mark.parametrize(
    ("data", "bodies", "end"),
    [
        (b"", [], "clean"),
        (HEAD + b"content-length: 2\r\n\r\nhi\r\n", [b"hi"], "clean"),
        (CHUNKED + b"1;x=y\r\na\r\n0\r\nx: y\r\n\r\n" + HEAD + b"\r\n", [b"a", b""], "clean"),
        (HEAD + b"content-length: 3\r\n\r\nhi", [], "unfinished"),
        (HEAD, [], "unfinished"),
        (CHUNKED + b"1\r\na\r\n0\r\n", [], "unfinished"),
        (HEAD + b"\r\n" + b"nonsense\r\n\r\n", [b""], "invalid"),
        (HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", [], "invalid"),
        (HEAD + b"content-length: 2\r\ncontent-length: 2\r\n\r\nhi", [], "invalid"),
        (HEAD + b"content-length: +2\r\n\r\nhi", [], "invalid"),
        (HEAD + b"x: a\nb: c\r\n\r\n", [], "invalid"),
        (HEAD + b"x: a\r\n b\r\n\r\n", [], "invalid"),
        (HEAD + b"x : a\r\n\r\n", [], "invalid"),
        (CHUNKED + b"1 \r\na\r\n0\r\n\r\n", [], "invalid"),
        (CHUNKED + b"1\r\nab\r\n0\r\n\r\n", [], "invalid"),
        (CHUNKED + b"1\na\r\n0\r\n\r\n", [], "invalid"),
        (b"POST /a HTTP/1.1\r\n\r\n", [], "invalid"),
    ],
)  # fmt: skip
def test_the_strict_reading_of_requests(data: bytes, bodies: list[bytes], end: str) -> None:
    reading = read_requests(data)
    assert ([message.body for message in reading.messages], reading.end) == (bodies, end)


@pytest.mark.parametrize(
    ("data", "closed", "bodies", "end"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", False, [b"hi"], "clean"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nall", True, [b"all"], "clean"),
        (b"HTTP/1.1 200 OK\r\n\r\nall", False, [], "unfinished"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi!", True, [b"hi"], "unfinished"),
        (b"HTTP/1.1 600 No\r\ncontent-length: 0\r\n\r\n", True, [], "invalid"),
        (b"HTTP/1.1 200 OK\r\nx: a\nb: c\r\n\r\n", True, [], "invalid"),
    ],
)
def test_the_strict_reading_of_answers(data: bytes, closed: bool, bodies: list[bytes], end: str) -> None:
    reading = read_answers(data, [b"POST"], closed=closed)
    assert ([message.body for message in reading.messages], reading.end) == (bodies, end)
