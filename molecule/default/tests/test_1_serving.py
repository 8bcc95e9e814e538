"""The provisioned host answers through its API, and only through it."""

from __future__ import annotations

import json
import socket
import ssl
from pathlib import Path

import openai
import pytest
from conftest import ADDRESS, MODEL, QUESTION, answer, playbook, until
from openai import DefaultHttpxClient, OpenAI
from testinfra.host import Host

UNITS = ("citadel-engine@smollm2.service", "citadel-gateway.service", "citadel-edge.service")


def test_check_after_converge_predicts_nothing() -> None:
    run = playbook("--check", "--diff")
    assert run.rc == 0, run.output[-3000:]
    assert run.changed == 0, run.output[-6000:]


def test_chat_completion(client: OpenAI) -> None:
    assert "Paris" in answer(client)


def test_streamed_chat_completion(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTION}],
        temperature=0,
        max_tokens=16,
        stream=True,
    )
    parts = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert len(parts) > 2
    assert "Paris" in "".join(parts)


def test_models_and_completions(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    completion = client.completions.create(
        model=MODEL, prompt="The capital of France is", max_tokens=4, temperature=0
    )
    assert "Paris" in completion.choices[0].text


def test_wrong_key_is_refused_in_the_form_of_openai(ca: Path) -> None:
    with DefaultHttpxClient(verify=ssl.create_default_context(cafile=str(ca))) as http:
        stranger = OpenAI(
            base_url=f"https://{ADDRESS}/v1", api_key="sk-citadel-unknown", http_client=http, max_retries=0
        )
        with pytest.raises(openai.AuthenticationError) as refused:
            stranger.models.list()
    assert refused.value.status_code == 401
    assert refused.value.code == "invalid_api_key"
    assert "sk-citadel-unknown" not in str(refused.value)


def test_unknown_model_is_told(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="no-such-model", messages=[{"role": "user", "content": "Hi"}])
    assert missing.value.code == "model_not_found"


@pytest.mark.parametrize("port", [8101, 8080, 8081])
def test_internal_ports_cannot_be_reached_from_elsewhere(port: int, server: Host) -> None:
    assert server.socket(f"tcp://127.0.0.1:{port}").is_listening
    with pytest.raises(OSError, match=r"refused|timed out"):
        socket.create_connection((ADDRESS, port), timeout=3)


def test_only_ssh_and_the_edge_listen_for_others(server: Host) -> None:
    listening = server.check_output("ss -Hltn").splitlines()
    addresses = {line.split()[3] for line in listening}
    public = {address for address in addresses if not address.startswith(("127.", "[::1]"))}
    assert {address.rpartition(":")[2] for address in public} == {"22", "443"}


@pytest.mark.parametrize("unit", UNITS)
def test_unit_is_enabled_running_and_confined(unit: str, server: Host) -> None:
    service = server.service(unit)
    assert service.is_running
    assert service.is_enabled
    overall = server.check_output(f"systemd-analyze security --no-pager {unit}").splitlines()[-1]
    exposure = float(overall.partition("exposure level for")[2].split()[1])
    assert exposure < 2.5


def test_services_cannot_use_sudo(server: Host) -> None:
    for unit in UNITS:
        pid = server.check_output(f"systemctl show -p MainPID --value {unit}")
        assert server.file(f"/proc/{pid}/status").contains("^NoNewPrivs:.*1$")


def test_environment_files_of_the_mission(server: Host) -> None:
    assert "vllm==0.32.0" in server.file("/opt/citadel/requirements.txt").content_string
    assert server.run("bash -c '. /opt/citadel/bin/activate_env.sh && python -c \"import vllm\"'").rc == 0
    for path in ("src/citadel_llm", "config", "bin", "secrets", "documentation"):
        assert server.file(f"/opt/citadel/{path}").is_directory
    assert server.file("/opt/citadel/secrets").mode == 0o700
    for stream in ("gpu-metrics", "inference", "vllm"):
        assert server.file(f"/mnt/sda/logs/llm/{stream}").user == "citadel"
    assert server.mount_point("/mnt/nvme0n1").exists
    assert server.mount_point("/mnt/sda").exists


def test_command(server: Host) -> None:
    assert server.run("citadel config validate").rc == 0
    origin = server.check_output("citadel config show --origin api_gateway.port")
    assert "8080" in origin
    assert "services/api_gateway.yaml" in origin
    status = json.loads(server.check_output("citadel status --json"))
    assert {"engine@smollm2", "gateway", "edge"} <= {service["service"] for service in status["services"]}
    health = server.run("citadel health --json")
    assert json.loads(health.stdout)["state"] in ("ok", "warning"), health.stdout


def test_account_drives_its_units_and_no_others(server: Host) -> None:
    assert server.run("runuser -u citadel -- /usr/local/bin/citadel reload gateway").rc == 0
    assert server.run("runuser -u citadel -- systemctl --no-ask-password restart cron.service").rc != 0
    assert server.run("runuser -l citadel -c 'sudo -n systemctl status citadel-gateway.service'").rc == 0
    assert server.run("runuser -l citadel -c 'sudo -n id'").rc != 0


def test_the_journal_has_the_request_and_no_key(server: Host, client: OpenAI, key: str) -> None:
    answered = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=[{"role": "user", "content": "Say hello."}], max_tokens=2
    )
    request_id = answered.headers["x-request-id"]
    journal = "journalctl -u citadel-gateway -o cat -n 200"
    until(lambda: request_id in server.check_output(journal), 30, "the request's line in the journal")
    assert key not in server.check_output("journalctl -o cat")
    assert "Say hello" not in server.check_output(journal)
