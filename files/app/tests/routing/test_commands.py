"""From the configuration to an answered request, by the commands that roles and people run."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from citadel_llm.cli.main import run
from citadel_llm.keys.records import new_key
from files.app.tests.gateway.mock_engine import MockEngine
from files.app.tests.gateway.test_process import free_ports

Rewrite = Callable[[str, str, str], None]
Citadel = Callable[..., tuple[int, str]]


@pytest.fixture
def server(tmp_path: Path, config_dir: Path, rewrite: Rewrite) -> Path:
    """A server whose state and secrets lie in `tmp_path`."""
    (tmp_path / "secrets").mkdir(mode=0o700)
    (tmp_path / "state").mkdir()
    rewrite("global/citadel.yaml", "/opt/citadel/secrets", f"{tmp_path}/secrets")
    rewrite(
        "services/api_gateway.yaml", "/var/lib/citadel/routing/routing.json", f"{tmp_path}/state/routing.json"
    )
    return tmp_path


@pytest.fixture
def citadel(
    server: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    def call(*args: str, stdin: Any = None) -> tuple[int, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(stdin)))
        status = run(args)
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return call


def test_keys_are_made_listed_and_revoked(server: Path, citadel: Citadel) -> None:
    status, out = citadel("keys", "create", "web", "--expires", "2090-01-01", "--note", "shop")
    assert status == 0
    assert out.startswith(
        f"Created web; its text is in {server}/secrets/keys/web.key. Run `citadel routing apply`"
    )
    status, out = citadel("keys", "create", "web")
    assert (status, out) == (
        1,
        "citadel: there is a key 'web' already; choose another id or revoke it first\n",
    )
    key = (server / "secrets/keys/web.key").read_text().strip()
    status, listing = citadel("keys", "list")
    assert (status, key[:16] in listing, "active" in listing, "2090-01-01" in listing) == (
        0,
        True,
        True,
        True,
    )
    found = json.loads(citadel("keys", "list", "--json")[1])
    assert [(entry["id"], "hash" in entry) for entry in found] == [("web", False)]
    assert "has been disabled" in citadel("keys", "revoke", "web")[1]
    assert "was disabled already" in citadel("keys", "revoke", "web")[1]
    assert "disabled" in citadel("keys", "list")[1]
    assert key not in listing


def test_sync_and_apply_change_once_and_predict_without_writing(server: Path, citadel: Citadel) -> None:
    given = new_key()
    desired = [{"id": "given", "key": given}, {"id": "made"}]
    for command, stdin in ((["keys", "sync"], desired), (["routing", "apply"], None)):
        before = sorted(path for path in server.rglob("*") if "config" not in path.parts)
        status, predicted = citadel(*command, "--check", stdin=stdin)
        assert (status, json.loads(predicted)["changed"]) == (0, True)
        assert sorted(path for path in server.rglob("*") if "config" not in path.parts) == before
        status, done = citadel(*command, stdin=stdin)
        assert (status, json.loads(done)["changed"]) == (0, True)
        assert given not in predicted + done
        for options in ([], ["--check"]):
            assert json.loads(citadel(*command, *options, stdin=stdin)[1])["changed"] is False
    status, shown = citadel("routing", "show")
    assert status == 0
    assert "phi-3-mini-4k-instruct" in shown
    assert "http://127.0.0.1:8101" in shown
    document = json.loads(citadel("routing", "show", "--json")[1])
    assert [key["id"] for key in document["keys"]] == ["given", "made"]
    assert all("hash" not in key for key in document["keys"])
    assert [model["task"] for model in document["models"]] == ["embed", "generate"]


def test_what_is_wrong_is_said_in_a_line(server: Path, citadel: Citadel) -> None:
    status, out = citadel("routing", "show")
    assert (status, out) == (
        1,
        f"citadel: {server}/state/routing.json: cannot be read: No such file or directory\n",
    )
    status, out = citadel("keys", "sync", stdin=[{"id": "a", "key": "short"}])
    assert (status, "key 'a': has 5 characters" in out) == (1, True)
    (server / "secrets/api_keys.json").write_text("nonsense")
    status, out = citadel("routing", "apply")
    assert (status, "api_keys.json: " in out, "Traceback" in out) == (1, True, False)
    assert not (server / "state/routing.json").exists()


async def test_the_whole_way(
    server: Path, citadel: Citadel, rewrite: Rewrite, engine: MockEngine, tmp_path: Path
) -> None:
    port, internal_port = free_ports(2)
    rewrite("services/api_gateway.yaml", "8080", str(port))
    rewrite("services/api_gateway.yaml", "8081", str(internal_port))
    rewrite("services/ai_models.yaml", "8101", str(engine.port))
    citadel("keys", "sync", stdin=[{"id": "web"}])
    citadel("routing", "apply")
    key = (server / "secrets/keys/web.key").read_text().strip()
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPATH"] = str(Path(__file__).parents[2] / "src")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "citadel_llm.cli.main", "gateway", "run"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        while json.loads(await asyncio.wait_for(process.stdout.readline(), 90))["event"] != "serving":
            pass
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as client:
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            async with client.post(url, json={"model": "phi-3", "messages": []}) as response:
                assert (response.status, "Paris" in await response.text()) == (200, True)
        assert engine.requests[0].json["model"] == "phi-3-mini-4k-instruct"
        citadel("keys", "revoke", "web")
        citadel("routing", "apply")
        process.send_signal(signal.SIGHUP)
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as client:
            async with asyncio.timeout(10):
                url = f"http://127.0.0.1:{port}/v1/models"
                while (await client.get(url)).status != 401:  # noqa: ASYNC110 (nobody tells)
                    await asyncio.sleep(0.05)
    finally:
        process.send_signal(signal.SIGTERM)
        out, _ = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0
    assert key.encode() not in out


async def test_a_port_in_use_is_said_in_a_line(
    server: Path, citadel: Citadel, rewrite: Rewrite, engine: MockEngine
) -> None:
    rewrite("services/api_gateway.yaml", "8080", str(engine.port))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "citadel_llm.cli.main", "gateway", "run"),
        env=environment,
        stderr=asyncio.subprocess.PIPE,
    )
    _, error = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{engine.port}".encode() in error
    assert error.count(b"\n") == 1
