# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import os

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _hub, _hub_rules
from ansible_collections.citadel.llm.tests.unit.plugins.module_utils import hub_server
from ansible_collections.citadel.llm.tests.unit.plugins.module_utils.hub_server import COMMIT, REPOSITORY

WEIGHTS = bytes(range(256)) * 1000
CONFIG = b'{"model_type": "llama"}'


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def behaviour():
    return hub_server.Behaviour(small={"config.json": CONFIG}, large={"sub/weights #1.safetensors": WEIGHTS})


@pytest.fixture
def hub(behaviour):
    pauses = []
    with hub_server.running(behaviour) as url:
        client = _hub.Hub(url, token="hf_" + "x" * 20, timeout_s=5, attempts=3, sleep=pauses.append)
        client.pauses = pauses
        yield client


def by_path(snapshot):
    return {file.path: file for file in snapshot.files}


def test_snapshot_has_hashes_and_sizes(hub):
    files = by_path(hub.snapshot(REPOSITORY, COMMIT))
    assert files["config.json"] == _hub.HubFile(
        "config.json", len(CONFIG), git_sha1=hub_server.git_sha1(CONFIG)
    )
    weights = files["sub/weights #1.safetensors"]
    assert (weights.size, weights.sha256) == (len(WEIGHTS), hashlib.sha256(WEIGHTS).hexdigest())


def test_snapshot_asks_for_each_file_where_the_listing_says_little(hub, behaviour):
    complete = hub.snapshot(REPOSITORY, COMMIT)
    behaviour.listing = False
    assert hub.snapshot(REPOSITORY, COMMIT) == complete
    assert {asked.method for asked in behaviour.requests[2:]} == {"HEAD"}
    assert {asked.role for asked in behaviour.requests} == {"hub"}


def test_patterns_choose_files(hub):
    chosen = hub.snapshot(REPOSITORY, COMMIT, allow_patterns=["*.json"])
    assert [file.path for file in chosen.files] == ["config.json"]
    assert by_path(hub.snapshot(REPOSITORY, COMMIT, ignore_patterns=["sub/"])).keys() == {"config.json"}
    with pytest.raises(_hub_rules.HubError, match=r"no file .* is chosen: it has 2"):
        hub.snapshot(REPOSITORY, COMMIT, allow_patterns=["*.gguf"])


def test_a_branch_is_refused_unless_allowed(hub):
    with pytest.raises(_hub_rules.HubError, match=r"'main' is not a commit .* allow_moving_revision"):
        hub.snapshot(REPOSITORY, "main")
    assert hub.snapshot(REPOSITORY, "main", allow_moving=True).commit == COMMIT


def fetch(hub, tmp_path, path="sub/weights #1.safetensors", before=b""):
    snapshot = hub.snapshot(REPOSITORY, COMMIT)
    part = tmp_path / "x.part"
    if before:
        part.write_bytes(before)
    hub.download(snapshot, by_path(snapshot)[path], str(part))
    return part.read_bytes()


@pytest.mark.parametrize("path, content", [("config.json", CONFIG), ("sub/weights #1.safetensors", WEIGHTS)])
def test_download(hub, tmp_path, path, content):
    assert fetch(hub, tmp_path, path) == content


def test_token_is_sent_to_the_hub_only(hub, behaviour, tmp_path):
    fetch(hub, tmp_path)
    sent = {asked.role: asked.authorization for asked in behaviour.requests}
    assert sent["hub"].startswith("Bearer hf_")
    assert sent["storage"] is None


def test_token_comes_along_to_the_same_host(hub, behaviour, tmp_path):
    behaviour.redirect = f"{hub.endpoint}/{REPOSITORY}/resolve/{COMMIT}/config.json"
    behaviour.small["config.json"] = WEIGHTS
    fetch(hub, tmp_path)
    assert all(asked.authorization for asked in behaviour.requests)


@pytest.mark.parametrize(
    "address, message", [("file:///etc/passwd", "answers 302"), ("ftp://127.0.0.1/", "not HTTP")]
)
def test_redirects_lead_to_http_only(hub, behaviour, tmp_path, address, message):
    behaviour.redirect = address
    with pytest.raises(_hub_rules.HubError, match=message):
        fetch(hub, tmp_path)


def test_dropped_connections_go_on_where_they_stopped(hub, behaviour, tmp_path):
    behaviour.drop_after, behaviour.drops = 100_000, 2
    assert fetch(hub, tmp_path) == WEIGHTS
    ranges = [asked.range for asked in behaviour.requests if asked.role == "storage"]
    assert ranges == [None, "bytes=100000-", "bytes=200000-"]


def test_an_earlier_part_is_continued(hub, behaviour, tmp_path):
    assert fetch(hub, tmp_path, before=WEIGHTS[:123_456]) == WEIGHTS
    assert behaviour.requests[-1].range == "bytes=123456-"


def test_a_server_without_ranges_starts_again(hub, behaviour, tmp_path):
    behaviour.ranges = False
    assert fetch(hub, tmp_path, before=WEIGHTS[:123_456]) == WEIGHTS


def test_a_wrong_part_is_fetched_again_from_the_start(hub, tmp_path):
    assert fetch(hub, tmp_path, before=b"x" * 1000) == WEIGHTS
    assert fetch(hub, tmp_path, before=b"x" * (len(WEIGHTS) + 1)) == WEIGHTS


def test_a_part_is_kept_when_the_hub_gives_up(hub, behaviour, tmp_path):
    behaviour.drop_after, behaviour.drops, behaviour.ranges = 100_000, 99, False
    with pytest.raises(_hub_rules.HubError, match=r"stopped at 100000 of 256000 bytes .* run again"):
        fetch(hub, tmp_path)
    assert (tmp_path / "x.part").read_bytes() == WEIGHTS[:100_000]


@pytest.mark.parametrize("path", ["config.json", "sub/weights #1.safetensors"])
def test_one_flipped_byte_is_refused(hub, behaviour, tmp_path, path):
    content = bytearray(behaviour.content(path))
    content[7] ^= 1
    behaviour.served[path] = bytes(content)
    with pytest.raises(_hub_rules.HubError, match="does not have the hash"):
        fetch(hub, tmp_path, path)
    assert not os.path.exists(tmp_path / "x.part")


def test_a_shorter_file_than_the_part_is_refused(hub, behaviour, tmp_path):
    behaviour.served["sub/weights #1.safetensors"] = WEIGHTS[:1000]
    with pytest.raises(_hub_rules.HubError, match="stopped at"):
        fetch(hub, tmp_path, before=WEIGHTS[:2000])


def test_a_longer_file_is_refused(hub, behaviour, tmp_path):
    behaviour.served["sub/weights #1.safetensors"] = WEIGHTS * 20
    with pytest.raises(_hub_rules.HubError, match="stopped at 256001 of 256000"):
        fetch(hub, tmp_path)


def test_a_busy_hub_is_asked_again_when_it_says(hub, behaviour):
    behaviour.busy = 2
    assert hub.snapshot(REPOSITORY, COMMIT).commit == COMMIT
    assert hub.pauses == [7.0, 7.0]
    behaviour.busy = 3
    with pytest.raises(_hub_rules.HubError, match=r"could not be asked in 3 tries .*429"):
        hub.snapshot(REPOSITORY, COMMIT)


def test_a_hub_that_is_not_there(tmp_path):
    client = _hub.Hub("http://127.0.0.1:9", attempts=2, sleep=lambda seconds: None)
    with pytest.raises(
        _hub_rules.HubError, match=r"http://127.0.0.1:9 could not be asked in 2 tries .*refused"
    ):
        client.snapshot(REPOSITORY, COMMIT)


def test_what_does_not_exist_is_named(hub):
    with pytest.raises(_hub_rules.HubError, match=r"'someone/else at .*' .*does not exist or is private"):
        hub.snapshot("someone/else", COMMIT)
    with pytest.raises(_hub_rules.HubError, match="no such revision"):
        hub.snapshot(REPOSITORY, "f" * 40)


def test_a_gated_repository_needs_the_token(hub, behaviour, tmp_path):
    behaviour.gated = True
    assert fetch(hub, tmp_path) == WEIGHTS
    snapshot = hub.snapshot(REPOSITORY, COMMIT)
    with pytest.raises(_hub_rules.HubError, match="gated: accept its conditions"):
        _hub.Hub(hub.endpoint).download(snapshot, snapshot.files[0], str(tmp_path / "y.part"))


def test_errors_hold_no_token_and_no_signature(hub, behaviour, tmp_path):
    behaviour.served["sub/weights #1.safetensors"] = b"wrong"
    with pytest.raises(_hub_rules.HubError) as caught:
        fetch(hub, tmp_path)
    assert "hf_" not in str(caught.value) and "signature" not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint, token, message",
    [
        ("ftp://hub.example", None, "not valid"),
        ("hub.example", None, "not valid"),
        ("https://someone:hunter@hub.example", None, "not valid"),
        ("http://hub.example", "t", "not sent in clear to hub.example"),
        ("https://hub.example", "a\nb", "characters that a token cannot have"),
    ],
)
def test_settings_are_checked(endpoint, token, message):
    with pytest.raises(_hub_rules.HubError, match=message) as caught:
        _hub.Hub(endpoint, token)
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize("repository", ["a/b/c", "../x", "a b", "", "a/..", "-x/y"])
def test_repository_names(repository):
    with pytest.raises(_hub_rules.HubError, match="ORGANISATION/NAME"):
        _hub_rules.check_repository(repository)


def test_pauses_of_both_kinds_are_understood():
    assert _hub_rules.pause_of({"Retry-After": "12"}) == 12.0
    assert _hub_rules.pause_of({"RateLimit": '"api";r=0;t=55'}) == 55.0
    assert _hub_rules.pause_of({}) is None
