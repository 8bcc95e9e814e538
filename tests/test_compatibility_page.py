"""docs/compatibility.md says what the modules decide by."""

from __future__ import annotations

import pytest

from tools import render_compatibility


def test_the_page_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert render_compatibility.main(["--check"]) == 0, capsys.readouterr().err


def test_a_page_that_is_not_current_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(render_compatibility, "render", lambda: "another page\n")
    assert render_compatibility.main(["--check"]) == 1
    assert "not current" in capsys.readouterr().err
