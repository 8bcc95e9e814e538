"""Usage events on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from citadel_llm.gateway.accounting.spool import Spool
from citadel_llm.schema.gateway_access import UsageSettings

SETTINGS: dict[str, Any] = {"segment_bytes": 4096, "max_bytes": 16384, "sync_s": 0.01}


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Spool]:
    def made(**fields: Any) -> Spool:
        spool = Spool(tmp_path / "usage", UsageSettings.model_validate(SETTINGS | fields))
        spool.start()
        return spool

    return made


def events(tmp_path: Path) -> list[dict[str, Any]]:
    files = sorted((tmp_path / "usage").iterdir())
    assert all(path.suffix == ".jsonl" for path in files)
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def test_events_are_written_in_order_and_files_are_handed_over(
    make: Callable[..., Spool], tmp_path: Path
) -> None:
    spool = make(max_bytes=10**6)
    for number in range(500):
        spool.add(json.dumps({"number": number, "text": "ä" * 20}))
    spool.close(60)
    assert [event["number"] for event in events(tmp_path)] == list(range(500))
    assert spool.written == 500
    assert set(spool.dropped.values()) == {0}
    for path in (tmp_path / "usage").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


def test_the_size_is_bounded_and_the_oldest_goes_first(make: Callable[..., Spool], tmp_path: Path) -> None:
    for batch in range(40):
        spool = make()
        for number in range(20):
            spool.add(json.dumps({"number": batch * 20 + number, "text": "x" * 100}))
        spool.close(60)
    found = [event["number"] for event in events(tmp_path)]
    assert found == list(range(found[0], 800))
    assert sum(path.stat().st_size for path in (tmp_path / "usage").iterdir()) <= 16384 + 4096
    assert spool.dropped["size"] > 0


def test_what_a_crash_left_open_is_completed(make: Callable[..., Spool], tmp_path: Path) -> None:
    directory = tmp_path / "usage"
    directory.mkdir()
    (directory / "usage-000000000000007.open").write_bytes(b'{"number": 1}\n{"number": 2}\n{"num')
    (directory / "usage-000000000000009.open").write_bytes(b"")
    spool = make()
    spool.add(json.dumps({"number": 3}))
    spool.close(60)
    assert [event["number"] for event in events(tmp_path)] == [1, 2, 3]


def test_files_that_a_collector_took_are_not_missed(make: Callable[..., Spool], tmp_path: Path) -> None:
    spool = make()
    spool.add(json.dumps({"number": 1}))
    spool.close(60)
    for path in (tmp_path / "usage").iterdir():
        path.unlink()
    spool = make()
    spool.add(json.dumps({"number": 2}))
    spool.close(60)
    assert [event["number"] for event in events(tmp_path)] == [2]


def test_more_than_may_wait_is_dropped_and_counted(tmp_path: Path) -> None:
    settings = UsageSettings.model_validate(SETTINGS | {"max_waiting": 100})
    spool = Spool(tmp_path / "usage", settings)  # its thread has not begun
    for number in range(150):
        spool.add(json.dumps({"number": number}))
    assert spool.dropped["waiting"] == 50
    spool.start()
    spool.close(60)
    assert len(events(tmp_path)) == 100


def test_a_disk_that_refuses_costs_events_and_nothing_else(
    make: Callable[..., Spool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", full)
        spool = make()
        spool.add(json.dumps({"number": 1}))
        spool.close(60)
    assert spool.dropped["disk"] == 1
    assert spool.written == 0
    spool = make()
    spool.add(json.dumps({"number": 2}))
    spool.close(60)
    assert spool.written == 1
    assert events(tmp_path)[-1]["number"] == 2


def test_half_a_character_costs_itself_and_nothing_else(make: Callable[..., Spool], tmp_path: Path) -> None:
    spool = make()
    spool.add('{"user": "\ud800"}')
    spool.add('{"user": "b"}')
    spool.close(60)
    assert [event["user"] for event in events(tmp_path)] == ["?", "b"]
