# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.citadel.llm.plugins.module_utils import _model_artifact_arguments as spec
from ansible_collections.citadel.llm.plugins.modules import model_artifact


@pytest.fixture
def run(tmp_path, capsys):
    """The module's result with these parameters; the owner is who runs the test."""

    def call(**parameters):
        arguments = {
            "store": str(tmp_path / "store"),
            "name": "tiny",
            "owner": str(os.getuid()),
            "group": str(os.getgid()),
            "reserve": "1M",
            **parameters,
        }
        with patch_module_args(arguments), pytest.raises(SystemExit):
            model_artifact.main()
        return json.loads(capsys.readouterr().out)

    return call


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.mkdir()
    (path / "config.json").write_text("{}")
    return {"directory": str(path)}


def test_install_and_again(run, source, tmp_path):
    predicted = run(source=source, remote_src=True, _ansible_check_mode=True, _ansible_diff=True)
    assert predicted["changed"] and "config.json 2 sha256:" in predicted["diff"]["after"]
    done = run(source=source, remote_src=True)
    assert done["changed"] and done["files"] == 1 and done["bytes"] == 2
    assert done["path"] == f"{tmp_path}/store/tiny/{done['version']}"
    assert os.path.realpath(done["link"]) == done["path"]
    again = run(source=source, remote_src=True, _ansible_diff=True)
    assert not again["changed"] and again["diff"]["before"] == again["diff"]["after"] == ""
    assert run(state="verified")["version"] == done["version"]
    gone = run(state="absent", _ansible_diff=True)
    assert gone["changed"] and gone["diff"]["after"] == "" and done["version"] in gone["diff"]["before"]


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({}, "needs a source, or the version"),
        ({"store": "models", "version": "0" * 16}, "'models' is not an absolute path"),
        ({"version": "0" * 16, "keep": 0}, "keep: 0 is less than 1"),
        ({"version": "0" * 16, "reserve": "much"}, "reserve: 'much' is not a size"),
        ({"version": "0" * 16, "owner": "no-such-user"}, "tiny: the user 'no-such-user' does not exist"),
        ({"version": "0" * 16}, "tiny: version 0000000000000000 of tiny is not in"),
        ({"version": "0" * 16, "manifest": "/m.json"}, "manifest: the action plugin"),
        ({"source": {"directory": "/x"}}, "source: the action plugin"),
        ({"source": {}}, "one of the following is required: directory, archive, hub"),
        ({"source": {"directory": "/x", "archive": "/y"}}, "mutually exclusive"),
        ({"name": "../x", "version": "0" * 16}, "the name '../x' of a model is not valid"),
    ],
)
def test_bad_parameters_are_refused(run, parameters, message):
    result = run(**parameters)
    assert result["failed"] and message in result["msg"]


def test_the_token_is_not_shown(run):
    token = "hf_" + os.urandom(8).hex()
    hub = {"repository": "a/b", "revision": "main", "token": token, "endpoint": "http://127.0.0.1:9"}
    result = run(source={"hub": hub})
    assert result["failed"] and "allow_moving_revision" in result["msg"]
    assert token not in json.dumps(result)


def test_a_state_without_a_source_ignores_it(run, source):
    assert not run(state="absent", source=source)["changed"]


def test_the_endpoint_comes_from_the_environment(monkeypatch):
    options = {
        "repository": "a/b", "revision": "c", "endpoint": None, "token": None, "allow_patterns": [],
        "ignore_patterns": [], "allow_moving_revision": False, "parallel": 1, "timeout": 5,
    }  # fmt: skip
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert spec.hub_source(options).endpoint == "https://huggingface.co"
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    assert spec.hub_source(options).endpoint == "https://hub.example"
    assert spec.hub_source({**options, "endpoint": "https://own.example"}).endpoint == "https://own.example"
