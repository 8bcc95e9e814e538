# Copyright: The Citadel authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import re
import stat
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest

from ansible_collections.citadel.llm.plugins.module_utils import _venv_plan, _venv_release
from ansible_collections.citadel.llm.plugins.module_utils._release import ReleaseError, ReleaseStore
from ansible_collections.citadel.llm.plugins.module_utils._venv_release import Outcome, Wanted, deploy

HASH = "a" * 64

# Stands in for uv: makes an environment that is a link to an interpreter, and "installs" what the lock names.
FAKE_UV = """#!/bin/sh
echo "$@ index=$UV_DEFAULT_INDEX extra=$UV_INDEX cache=${{UV_CACHE_DIR##*/}}" >> {base}/calls
case "$1 $2" in
"venv "*)
    for last; do :; done
    mkdir -p "$last/bin" "$last/lib/python3/site-packages"
    ln -s {python} "$last/bin/python" ;;
"pip sync")
    for last; do :; done
    root=$(dirname "$last")
    [ -e {base}/fail ] && {{ cat {base}/fail; exit 1; }}
    sed -n 's/^\\([a-z0-9.-]*\\)==\\([^ ]*\\) .*/\\1 \\2/p' "$last" | while read name version; do
        folder="$root/lib/python3/site-packages/$name-$version.dist-info"
        mkdir -p "$folder"
        printf 'Metadata-Version: 2.1\\nName: %s\\nVersion: %s\\n' "$name" "$version" > "$folder/METADATA"
    done ;;
esac
"""


class Host:
    """A host with a stand-in for uv, and what a run on it needs."""

    def __init__(self, base: Path) -> None:
        self.base = base
        uv = base / "uv"
        uv.write_text(FAKE_UV.format(base=base, python=sys.executable))
        uv.chmod(0o755)
        self.store = ReleaseStore(f"{base}/envs", f"{base}/env", f"{base}/proc")
        (base / "proc").mkdir()
        self.lock("1.0")
        self.spec = _venv_plan.Spec(lock=f"{base}/lock.txt", python=sys.executable, uv=str(uv))
        self.wanted = Wanted(
            "current", freeze_path=f"{base}/out/freeze.txt", activate_path=f"{base}/out/activate.sh"
        )

    def lock(self, version: str) -> None:
        (self.base / "lock.txt").write_text(f"demo=={version} --hash=sha256:{HASH}\n")

    def run(self, check: bool = False, state: str = "current", **changes: Any) -> Outcome:
        return deploy(replace(self.spec, **changes), self.store, replace(self.wanted, state=state), check)

    def calls(self) -> str:
        path = self.base / "calls"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_build_switch_and_rest(host: Host) -> None:
    predicted = host.run(check=True)
    assert (predicted.changed, predicted.built, predicted.switched) == (True, True, True)
    assert not (host.base / "envs").exists()
    done = host.run()
    assert (done.changed, done.id, done.manifest["packages"]) == (True, predicted.id, {"demo": "1.0"})
    assert os.readlink(host.store.link) == host.store.path(str(done.id))
    assert (host.base / "out/freeze.txt").read_text() == "demo==1.0\n"
    assert stat.S_IMODE(os.stat(host.base / "out/activate.sh").st_mode) == 0o755
    assert not host.run(check=True).changed
    before = host.calls()
    assert not host.run().changed
    assert host.calls() == before


def test_the_files_are_put_right_again(host: Host) -> None:
    host.run()
    (host.base / "out/freeze.txt").unlink()
    (host.base / "out/freeze.txt").write_text("something else\n")
    assert [change["path"] for change in host.run(check=True).files] == [f"{host.base}/out/freeze.txt"]
    assert host.run().changed
    assert not host.run().changed


def test_another_lock_is_another_release(host: Host) -> None:
    first = host.run()
    host.lock("2.0")
    predicted = host.run(check=True)
    assert predicted.packages_changed == ["-demo==1.0", "+demo==2.0"]
    second = host.run()
    assert (second.before, second.id, second.pruned) == (first.id, predicted.id, [])
    assert (host.base / "out/freeze.txt").read_text() == "demo==2.0\n"
    back = host.run(state="rolled_back")
    assert (host.base / "out/freeze.txt").read_text() == "demo==1.0\n"
    assert (back.id, back.packages_changed) == (first.id, ["-demo==2.0", "+demo==1.0"])
    assert not host.run(state="rolled_back").changed
    again = host.run()
    assert (again.id, again.built, again.switched) == (second.id, False, True)


def test_present_leaves_the_link_alone(host: Host) -> None:
    host.run()
    host.lock("2.0")
    done = host.run(state="present")
    assert done.built
    assert not done.switched
    assert host.store.current() == done.before
    assert not host.run(state="present").changed


def test_the_id_follows_from_the_inputs(host: Host) -> None:
    wheel = host.base / "local-0.1-py3-none-any.whl"
    wheel.write_bytes(b"one")
    plain = _venv_plan.make_plan(host.spec)
    with_wheel = _venv_plan.make_plan(replace(host.spec, wheels=[str(wheel)]))
    wheel.write_bytes(b"two")
    with_other = _venv_plan.make_plan(replace(host.spec, wheels=[str(wheel)]))
    assert len({plain.id, with_wheel.id, with_other.id}) == 3
    assert with_wheel.locked == {"demo": "1.0", "local": "0.1"}
    (host.base / "lock.txt").write_text(f"# comment\nDemo==1.0 \\\n  --hash=sha256:{HASH}\n")
    assert _venv_plan.make_plan(host.spec).id == plain.id


def test_a_finished_release_needs_no_files_of_the_controller(host: Host, tmp_path: Path) -> None:
    """What the controller's lock and wheels mean makes the same id, and a host that has it needs nothing."""
    wheel = tmp_path / "own-1.0-py3-none-any.whl"
    wheel.write_bytes(b"one")
    spec = replace(host.spec, wheels=[str(wheel)])
    expected = _venv_plan.read_inputs(str(spec.lock), spec.wheels)
    assert host.run(wheels=spec.wheels, expected=expected).built
    os.unlink(str(spec.lock))
    wheel.unlink()
    rest = host.run(wheels=spec.wheels, expected=expected)
    assert not rest.changed
    assert rest.id == host.store.current()


def test_another_lock_of_the_controller(host: Host, tmp_path: Path) -> None:
    host.run()
    other = tmp_path / "other.txt"
    other.write_text(f"demo==9.0 --hash=sha256:{'a' * 64}\n")
    expected = _venv_plan.read_inputs(str(other), [])
    predicted = host.run(check=True, expected=expected, lock=f"{tmp_path}/not-there")
    assert predicted.packages_changed[-1] == "+demo==9.0"
    assert "not-there is not on this host" in str(predicted.note)
    assert "lock.txt; copy it again" in str(host.run(check=True, expected=expected).note)
    with pytest.raises(ReleaseError, match=r"another on this host than on the controller: .*lock\.txt"):
        host.run(expected=expected)


def test_a_failed_install_leaves_everything_as_it_was(host: Host) -> None:
    first = host.run()
    host.lock("2.0")
    (host.base / "fail").write_text("  cause: No space left on device (os error 28)\n")
    with pytest.raises(ReleaseError, match="disk is full") as caught:
        host.run()
    assert caught.value.reason == "disk_full"
    assert host.store.current() == first.id
    assert host.store.releases() == [first.id]
    assert "os error 28" in Path(str(caught.value.log)).read_text()
    (host.base / "fail").unlink()
    assert host.run().switched
    assert not Path(str(caught.value.log)).exists()


def test_a_failed_trial_names_the_import(host: Host) -> None:
    with pytest.raises(ReleaseError, match=r"importing no_such_module ended with 1") as caught:
        host.run(imports=["json", "no_such_module"])
    assert caught.value.reason == "trial_failed"
    assert host.store.current() is None
    assert host.store.releases() == []


def test_a_failed_trial_names_the_command(host: Host) -> None:
    with pytest.raises(ReleaseError, match="ended with 7:\nno luck"):
        host.run(commands=[["/bin/sh", "-c", "echo no luck; exit 7"]])
    with pytest.raises(ReleaseError, match="did not end within 1 s"):
        host.run(commands=[["/bin/sleep", "30"]], trial_timeout=1)
    with pytest.raises(ReleaseError, match="/not/there cannot be run"):
        host.run(commands=[["/not/there"]])


def test_the_trial_sees_its_environment(host: Host) -> None:
    check = 'test "$WHERE" = "$0" && test "$HOME" != "{home}"'.format(home=os.environ.get("HOME", ""))
    command = ["/bin/sh", "-c", check, "{env}"]
    assert host.run(commands=[command], trial_environment={"WHERE": "{env}"}).built


def test_a_finished_release_is_tried_before_it_becomes_current(host: Host) -> None:
    host.run()
    host.lock("2.0")
    waiting = host.run(state="present")
    with pytest.raises(ReleaseError, match="ended with 1"):
        host.run(commands=[["/bin/false"]])
    assert host.store.current() == waiting.before
    assert host.store.manifest(waiting.id) is not None


def test_remains_of_an_interrupted_build_are_built_anew(host: Host) -> None:
    release = str(host.run(check=True).id)
    os.makedirs(f"{host.store.path(release)}/lib/python3/site-packages/old-1.dist-info")
    done = host.run()
    assert (done.id, done.manifest["packages"]) == (release, {"demo": "1.0"})


def test_an_environment_whose_interpreter_is_gone_is_built_anew(host: Host) -> None:
    done = host.run()
    os.unlink(f"{host.store.path(str(done.id))}/bin/python")
    again = host.run()
    assert (again.built, again.switched) == (True, False)


def test_a_damaged_release_in_use_is_not_touched(host: Host) -> None:
    done = host.run()
    os.unlink(f"{host.store.path(str(done.id))}/release.json")
    process = host.base / "proc/77"
    process.mkdir()
    (process / "cmdline").write_text(f"{host.store.path(str(done.id))}/bin/python\0")
    with pytest.raises(ReleaseError, match="a running process uses it"):
        host.run()


def test_indexes_are_in_the_environment_only(host: Host) -> None:
    secret = os.urandom(8).hex()
    (host.base / "fail").write_text(
        f"error: Failed to fetch: https://me:{secret}@index.example/simple/demo/\n"
    )
    with pytest.raises(ReleaseError) as caught:
        host.run(
            index_url=f"https://me:{secret}@index.example/simple", extra_index_urls=["https://more.example"]
        )
    assert caught.value.reason == "index_unreachable"
    assert "index.example" in str(caught.value)
    assert secret not in str(caught.value)
    assert secret not in Path(str(caught.value.log)).read_text()
    arguments, _separator, environment = host.calls().splitlines()[-1].partition(" index=")
    assert secret not in arguments
    assert environment.startswith(
        f"https://me:{secret}@index.example/simple extra=https://more.example cache=.cache-"
    )


def test_offline_uses_no_index(host: Host) -> None:
    (host.base / "wheels").mkdir()
    host.run(wheelhouse=f"{host.base}/wheels", offline=True, index_url="https://index.example/simple")
    assert "--no-index --offline --find-links" in host.calls()
    assert "index.example" not in host.calls()


def test_too_little_space(host: Host) -> None:
    with pytest.raises(ReleaseError, match="MiB free") as caught:
        host.run(free_space=1 << 40)
    assert caught.value.reason == "disk_full"


@pytest.mark.parametrize(
    "change",
    [{"lock": "/not/there"}, {"uv": "/not/there"}, {"python": "/not/there"}, {"wheelhouse": "/not/there"}],
)
def test_a_missing_input_is_predicted_and_refused(host: Host, change: dict[str, Any]) -> None:
    predicted = host.run(check=True, **change)
    assert predicted.changed
    assert "/not/there" in str(predicted.note)
    with pytest.raises(ReleaseError, match="/not/there") as caught:
        host.run(**change)
    assert caught.value.reason == "missing"


def test_a_finished_release_needs_no_tools(host: Host) -> None:
    host.run()
    assert not host.run(check=True, uv="/not/there", wheelhouse="/not/there").changed
    assert not host.run(uv="/not/there", wheelhouse="/not/there").changed


def test_a_program_that_is_no_python(host: Host) -> None:
    with pytest.raises(ReleaseError, match="/bin/true is not a usable Python 3"):
        host.run(python="/bin/true")


def test_nothing_to_go_back_to(host: Host) -> None:
    host.run()
    with pytest.raises(ReleaseError, match="no complete release") as caught:
        host.run(state="rolled_back", lock=None)
    assert caught.value.reason == "no_previous"


def test_keep(host: Host) -> None:
    ids = []
    for version in ("1.0", "2.0", "3.0", "4.0"):
        host.lock(version)
        ids.append(host.run().id)
    assert host.store.releases() == sorted(map(str, ids[1:]))


def test_version_changes() -> None:
    before, after = {"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"}
    assert _venv_release.version_changes(before, after) == ["-b==1", "+b==2", "-c==1", "+d==1"]


def test_the_activate_script_quotes_its_path() -> None:
    assert "CITADEL_ENV='/opt/my env'\n" in _venv_release.activate_text(
        "/opt/my env", "/opt/bin/activate_env.sh"
    )


@pytest.mark.parametrize(
    ("gpus", "available", "said"),
    [
        (2, True, None),
        (1, True, "finds 1 GPUs, expected 2"),
        (2, False, "(CUDA 12.6) finds no usable GPU"),
    ],
)
def test_gpus_are_counted(host: Host, gpus: int, available: bool, said: Optional[str]) -> None:
    stub = f"""
__version__ = "2.7.0+cu126"
class version: cuda = "12.6"
class cuda:
    is_available = staticmethod(lambda: {available})
    device_count = staticmethod(lambda: {gpus})
class ones:
    def __init__(self, size, device): assert device in ("cuda:0", "cuda:1")
    def sum(self): return self
    def item(self): return 8.0
"""
    (host.base / "stub").mkdir()
    (host.base / "stub/torch.py").write_text(stub)
    options: dict[str, Any] = {"gpu_count": 2, "trial_environment": {"PYTHONPATH": f"{host.base}/stub"}}
    if said is None:
        assert host.run(**options).switched
    else:
        with pytest.raises(ReleaseError, match=re.escape(said)) as caught:
            host.run(**options)
        assert "counting GPUs ended with 1" in str(caught.value)
