"""A flood of lines fills no disk and does not hold up serving."""

from __future__ import annotations

import re
import statistics
import time
import uuid
from typing import Any

from conftest import query, request, until
from testinfra.host import Host

LINES = 100_000
SECONDS = 25
KEPT = 20_000
WRITER = f"""
import time
line = '{{"level":"info","event":"flood","text":"' + "x" * 150 + '"}}\\n'
for second in range({SECONDS}):
    print(line * {LINES // SECONDS}, end="", flush=True)
    time.sleep(1)
# journald says how many lines it left out with the first line of the next 30 seconds.
time.sleep({35 - SECONDS})
print("over", flush=True)
"""


def latencies(watched: Host, seconds: float) -> list[float]:
    """Of requests one after the other, in seconds."""
    found = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        started = time.monotonic()
        assert "Paris" in request(watched, str(uuid.uuid4()))
        found.append(time.monotonic() - started)
    return found


def free(watched: Host) -> int:
    return int(watched.check_output("df --output=avail -B1 /var/log | tail -1"))


def test_a_hundred_thousand_lines_fill_no_disk_and_do_not_hurt_serving(
    watched: Host, central: Host, record_property: Any
) -> None:
    until(lambda: "Paris" in request(watched, str(uuid.uuid4())), 60, "it serves")
    watched.run("cat > /srv/flood.py <<'END'\n" + WRITER + "END")
    before, free_before = latencies(watched, 5), free(watched)
    watched.check_output("systemd-run --quiet --unit citadel-flood python3 /srv/flood.py")
    during = latencies(watched, SECONDS)
    slow, usual = (statistics.quantiles(one, n=20)[-1] for one in (during, before))
    record_property("95th percentile of requests before and during the flood, ms", f"{usual:.3f} {slow:.3f}")
    assert slow < 10 * usual + 0.5
    counted = 'sum(citadel_log_messages_total{unit="citadel-flood.service"})'

    def lines() -> int:
        return int(sum(float(one["value"][1]) for one in query(central, counted)))

    # journald takes logs_journal_rate_limit_burst lines in 30 s, and says how many it leaves out.
    until(lambda: lines() >= KEPT, 60, "its lines are counted", lines)
    told = "journalctl -q --no-pager -u systemd-journald -o cat | grep 'messages from citadel-flood.service'"
    until(lambda: watched.run(told).rc == 0, 60, "journald says how many lines it left out")
    (used,) = re.findall(r"take up ([\d.]+)M", watched.check_output("journalctl --disk-usage"))
    assert float(used) <= 32 + 8  # logs_journal_max_use, and the file that is being written
    assert free_before - free(watched) < 64 * 2**20
