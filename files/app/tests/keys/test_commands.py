"""`citadel keys` as people use it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from citadel_llm.cli.main import run

Citadel = Callable[..., tuple[int, str]]


@pytest.fixture
def citadel(
    tmp_path: Path,
    config_dir: Path,
    rewrite: Callable[[str, str, str], None],
    capsys: pytest.CaptureFixture[str],
) -> Citadel:
    (tmp_path / "secrets").mkdir(mode=0o700)
    rewrite("global/citadel.yaml", "/opt/citadel/secrets", f"{tmp_path}/secrets")

    def call(*args: str) -> tuple[int, str]:
        status = run(args)
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return call


def shown(citadel: Citadel) -> dict[str, object]:
    (entry,) = json.loads(citadel("keys", "list", "--json")[1])
    found: dict[str, object] = entry
    return found


def test_a_key_with_rights_is_made_changed_rotated_and_disabled(citadel: Citadel, tmp_path: Path) -> None:
    options = ["--model", "chat-*", "--endpoint", "messages", "--limit", "requests_per_minute=60"]
    options += ["--limit", "tokens_per_day=1000000", "--user-limit", "concurrent_requests=2"]
    options += ["--model-limit", "big:v1:tokens_per_minute=500"]
    assert citadel("keys", "create", "web", *options, "--priority", "high")[0] == 0
    entry = shown(citadel)
    assert (entry["models"], entry["priority"]) == (["chat-*"], "high")
    assert entry["endpoints"] == ["messages"]
    assert entry["limits"]["requests_per_minute"] == 60  # type: ignore[index]
    assert entry["model_limits"]["big:v1"]["tokens_per_minute"] == 500  # type: ignore[index]
    listing = citadel("keys", "list")[1]
    assert "chat-*" in listing
    assert "requests_per_minute=60, tokens_per_day=1000000, …" in listing
    assert citadel("keys", "set", "web", "--limit", "requests_per_minute=5", "--note", "n")[0] == 0
    entry = shown(citadel)
    assert entry["limits"]["tokens_per_day"] is None  # type: ignore[index]
    assert (entry["models"], entry["note"]) == (["chat-*"], "n")
    assert citadel("keys", "set", "web", "--all")[0] == 0
    assert shown(citadel)["models"] is None
    old = (tmp_path / "secrets/keys/web.key").read_text().strip()
    status, out = citadel("keys", "rotate", "web", "--overlap", "12h")
    assert (status, "the old one is valid until 20" in out) == (0, True)
    assert old not in out
    entry = shown(citadel)
    assert len(entry["previous"]) == 1  # type: ignore[arg-type]
    assert "hash" not in json.dumps(entry)
    assert "is disabled" in citadel("keys", "disable", "web")[1]
    assert shown(citadel)["disabled"] is True
    assert "is enabled" in citadel("keys", "enable", "web")[1]
    assert shown(citadel)["disabled"] is False


def test_the_pepper_is_made_once_and_not_shown(citadel: Citadel, tmp_path: Path) -> None:
    results = [json.loads(citadel("keys", "pepper", *options)[1]) for options in (["--check"], [], [])]
    assert [result["changed"] for result in results] == [True, True, False]
    text = (tmp_path / "secrets/gateway_pepper").read_text().strip()
    assert text not in json.dumps(results)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--limit", "requests_per_minute"], "'requests_per_minute' is not NAME=NUMBER"),
        (["--limit", "requests_per_minute=x"], "is not NAME=NUMBER"),
        (["--limit", "per_hour=5"], "limits.per_hour"),
        (["--limit", "requests_per_minute=0"], "limits.requests_per_minute"),
        (["--model-limit", "tokens_per_day=5"], "is not MODEL:NAME=NUMBER"),
        (["--endpoint", "everything"], "endpoints.0"),
        (["--model", "a b"], "models.0"),
    ],
)
def test_options_that_cannot_be_used_are_named(citadel: Citadel, options: list[str], reason: str) -> None:
    status, out = citadel("keys", "create", "web", *options)
    assert (status != 0, reason in out, "Traceback" in out) == (True, True, False), out
    assert json.loads(citadel("keys", "list", "--json")[1]) == []


def test_an_overlap_is_a_span_of_time(citadel: Citadel) -> None:
    citadel("keys", "create", "web")
    status, out = citadel("keys", "rotate", "web", "--overlap", "soon")
    assert (status != 0, "'soon' is no span of time" in out) == (True, True)
