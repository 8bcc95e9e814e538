"""Ask the deployed API one question with the official client over TLS, and say how to go on.

Run as `python -m tools.ask HOST [QUESTION]`; HOST is a host of inventories/local.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

from openai import DefaultHttpxClient, OpenAI

QUESTION = "What is the capital of France?"
CA_CERTIFICATE = "/opt/citadel/config/edge/tls/ca.crt"
KEY = "/opt/citadel/secrets/keys/default.key"


def lab(*arguments: str) -> str:
    """Output of a lab command. Exits with its own message when it fails."""
    run = subprocess.run(
        [sys.executable, "-m", "lab", *arguments], capture_output=True, text=True, check=False
    )
    if run.returncode:
        sys.exit(run.stderr.strip())
    return run.stdout


def address(host: str) -> str:
    for entry in json.loads(lab("list", "--json")):
        if entry["name"] == host:
            return str(entry["address"])
    sys.exit(f"ask: the host {host} is not up. Run `make up`.")


def main() -> None:
    host = sys.argv[1]
    question = sys.argv[2] if len(sys.argv) > 2 else QUESTION
    base_url = f"https://{address(host)}/v1"
    with tempfile.TemporaryDirectory() as directory:
        ca = Path(directory) / "ca.crt"
        ca.write_text(lab("exec", host, "cat", CA_CERTIFICATE))
        key = lab("exec", host, "cat", KEY).strip()
        client = OpenAI(
            base_url=base_url,
            api_key=key,
            http_client=DefaultHttpxClient(verify=ssl.create_default_context(cafile=str(ca))),
        )
        model = client.models.list().data[0].id
        answer = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question}], temperature=0, max_tokens=32
        )
    say = sys.stdout.write
    say(f"\n  {question}\n  → {answer.choices[0].message.content}\n\n")
    say(f"  model     {model}\n  base URL  {base_url}\n")
    say(f"  key       {KEY} on {host} (python3 -m lab exec {host} cat {KEY})\n")
    say(f"  CA        {CA_CERTIFICATE} on {host}\n\n")
    say("  make shell   look around on the host (then: citadel status)\n")
    say("  make logs    follow its services\n  make down    stop it and leave nothing behind\n")


if __name__ == "__main__":
    main()
