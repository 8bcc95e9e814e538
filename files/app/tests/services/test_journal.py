"""Reading the journal: structure, filters, and nothing secret."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from citadel_llm.services import journal
from citadel_llm.services.journal import Filter, JournalError, Range
from files.app.tests.fixtures.journalctl import FakeJournal

UNITS = ["citadel-*.service"]


def ours(event: str, level: str = "info", **fields: object) -> str:
    return json.dumps({"event": event, "level": level, "timestamp": "2026-01-31T00:00:00Z", **fields})


def messages(wanted: Filter, lines: int = 100) -> list[str]:
    return [entry.message for entry in journal.read(UNITS, wanted, lines)]


def test_json_lines_are_taken_apart(fake_journal: FakeJournal) -> None:
    fake_journal.add(ours("request", "warning", request_id="req-1", status=503))
    (entry,) = journal.read(UNITS, Filter(), 10)
    assert (entry.message, entry.level, entry.unit) == ("request", "warning", "citadel-gateway.service")
    assert entry.fields == {"request_id": "req-1", "status": 503}
    assert entry.time.isoformat() == "2023-11-14T22:13:21+00:00"
    assert fake_journal.argv[:4] == ["--output", "json", "--no-pager", "--unit=citadel-*.service"]


@pytest.mark.parametrize(
    ("text", "priority", "level"),
    [
        ("(EngineCore pid=12) INFO 01-31 12:00:00 [core.py:1] started", 6, "info"),
        ("ERROR 01-31 12:00:00 [core.py:1] out of memory", 6, "error"),
        ("INFO:     127.0.0.1 - GET /health", 6, "info"),
        ("Failed to start", 3, "error"),
        ("Stopped", 6, "info"),
        ("{not json", 4, "warning"),
        ("[1, 2]", 7, "debug"),
        ("INFORMATION is not a level", 5, "info"),
    ],
)
def test_plain_lines_have_a_level(fake_journal: FakeJournal, text: str, priority: int, level: str) -> None:
    fake_journal.add(text, priority=priority)
    (entry,) = journal.read(UNITS, Filter(), 10)
    assert (entry.message, entry.level) == (text, level)


def test_secrets_and_control_characters_are_removed(fake_journal: FakeJournal) -> None:
    secret = "sk-" + "a1b2c3d4e5f6"
    fake_journal.add(f"Authorization: Bearer {secret}\x1b[31m")
    fake_journal.add(ours(f"called with {secret}", api_key=secret, nested={"token": secret}))
    entries = journal.read(UNITS, Filter(), 10)
    assert secret not in json.dumps([entry.as_dict() for entry in entries])
    assert "\x1b" not in entries[0].message


def test_bytes_and_empty_messages_are_read(fake_journal: FakeJournal) -> None:
    fake_journal.add(list("naïve \udcff".encode("utf-8", "surrogateescape")))
    fake_journal.add(None)
    first, second = journal.read(UNITS, Filter(), 10)
    assert first.message == "naïve \ufffd"
    assert second.message == ""


def test_the_last_lines_come_oldest_first(fake_journal: FakeJournal) -> None:
    for number in range(5):
        fake_journal.add(f"line {number}")
    assert messages(Filter(), 2) == ["line 3", "line 4"]
    assert fake_journal.argv[-3:] == ["--reverse", "--lines", "2"]


def test_a_filter_counts_what_it_lets_through(fake_journal: FakeJournal) -> None:
    for number in range(6):
        fake_journal.add(ours(f"line {number}", "error" if number % 2 else "debug", request_id=f"r{number}"))
    assert messages(Filter(level="warning"), 2) == ["line 3", "line 5"]
    assert messages(Filter(request_id="r4")) == ["line 4"]
    assert messages(Filter(pattern=re.compile("LINE [12]", re.IGNORECASE))) == ["line 1", "line 2"]
    assert messages(Filter(pattern=re.compile("request_id=r0"))) == ["line 0"]
    assert messages(Filter(level="critical")) == []


def test_a_request_is_found_in_the_engines_plain_lines(fake_journal: FakeJournal) -> None:
    fake_journal.add("INFO Received request cmpl-req-7: prompt", unit="citadel-engine@a.service")
    fake_journal.add(ours("other", request_id="req-8"))
    assert messages(Filter(request_id="req-7")) == ["INFO Received request cmpl-req-7: prompt"]


def test_since_is_handed_on(fake_journal: FakeJournal) -> None:
    journal.read(UNITS, Filter(level="error"), 5, Range("10 min ago"))
    assert fake_journal.argv[-3:] == ["--reverse", "--since", "10 min ago"]


def test_following_yields_what_is_written(fake_journal: FakeJournal) -> None:
    fake_journal.add("one")
    fake_journal.add("ERROR two")
    assert [entry.message for entry in journal.follow(UNITS, Filter(level="error"))] == ["ERROR two"]
    assert "--follow" in fake_journal.argv


def test_a_journal_that_knows_no_unit_is_empty(fake_journal: FakeJournal) -> None:
    fake_journal.end(1, "Failed to add filter for units: No data available")
    assert journal.read(UNITS, Filter(), 10) == []


@pytest.mark.parametrize(
    ("status", "complaint", "message"),
    [
        (1, "Failed to parse timestamp: soon", "journalctl: Failed to parse timestamp: soon"),
        (2, "", "exit status 2"),
        (1, "No journal files were opened due to insufficient permissions.", "Run it with sudo"),
        (0, "Hint: You are currently not seeing messages from other users", "join the group systemd-journal"),
    ],
)
def test_what_journalctl_complains_of_is_told(
    fake_journal: FakeJournal, status: int, complaint: str, message: str
) -> None:
    fake_journal.end(status, complaint)
    with pytest.raises(JournalError, match=message):
        journal.read(UNITS, Filter(), 10)


def test_without_journalctl_there_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JournalError, match="journalctl: No such file"):
        journal.read(UNITS, Filter(), 10)
    assert journal.last_lines("citadel-gateway.service", 3) == []


def test_last_words_are_plain_and_masked(fake_journal: FakeJournal) -> None:
    secret = "sk-" + "a1b2c3d4e5f6"
    fake_journal.add("first")
    fake_journal.add(f"key {secret} refused")
    lines = journal.last_lines("citadel-gateway.service", 2)
    assert lines[0] == "first"
    assert secret not in lines[1]


def test_a_range_names_times_and_hosts(fake_journal: FakeJournal) -> None:
    fake_journal.add("one", _HOSTNAME="llm-1")
    (entry,) = journal.read(UNITS, Filter(), 5, Range("-2h", "-1h", "llm-1"))
    assert fake_journal.argv[-6:] == ["--since", "-2h", "--until", "-1h", "--merge", "_HOSTNAME=llm-1"]
    assert entry.as_dict()["host"] == "llm-1"
    list(journal.walk(UNITS, Range(host="*")))
    assert fake_journal.argv[-1] == "--merge"


def test_what_was_shipped_twice_is_shown_once(fake_journal: FakeJournal) -> None:
    for monotonic, text in ((1, "a"), (2, "b"), (2, "b"), (2, "c"), (1, "a"), (3, "b")):
        fake_journal.add(text, _BOOT_ID="boot", __MONOTONIC_TIMESTAMP=str(monotonic))
    found = [entry.message for entry in journal.walk(UNITS, Range(host="*"))]
    assert found == ["a", "b", "c", "b"]
    assert len(list(journal.walk(UNITS, Range()))) == 6, "nothing is shipped to a host by itself"


def test_levels_are_followed(fake_journal: FakeJournal) -> None:
    fake_journal.add(ours("request", "error"))
    fake_journal.add("INFO started", unit="citadel-engine@a.service")
    fake_journal.add("citadel-gateway.service is spoken of", unit="ssh.service")
    found = list(journal.follow_levels(UNITS))
    assert found == [("citadel-gateway.service", "error"), ("citadel-engine@a.service", "info")]


def test_journalctl_looks_for_a_request_itself(fake_journal: FakeJournal) -> None:
    fake_journal.add(ours("request", request_id="req-1.a"))
    assert messages(Filter(request_id="req-1.a")) == ["request"]
    assert fake_journal.argv[-3:] == ["--case-sensitive=yes", "--grep", r"req\-1\.a"]
