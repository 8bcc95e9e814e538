"""The routing that an operator sets is checked before anything uses it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from citadel_llm.configuration import loader
from citadel_llm.configuration.problems import ConfigurationError

Rewrite = Callable[[str, str, str], None]
MODELS = "services/ai_models.yaml"


def routing(rewrite: Rewrite, text: str) -> None:
    rewrite(MODELS, "  deployments:", f"  routing:\n    phi-3-mini-4k-instruct: {text}\n  deployments:")


def test_what_is_set_is_read(config_dir: Path, rewrite: Rewrite) -> None:
    routing(rewrite, "{policy: prefix, queue: {size: 5}, backends: {phi-3-mini: {weight: 2}}}")
    found = loader.load().ai_models.routing["phi-3-mini-4k-instruct"]
    assert (found.policy, found.queue.size, found.backends["phi-3-mini"].weight) == ("prefix", 5, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{policy: best}", "policy"),
        ("{backends: {minilm: {}}}", "backends.minilm: is no deployment of this model. There is: phi-3-mini"),
        ("{fallback: [gone]}", "gone is no other model"),
        ("{arms: [{name: x, backends: [y]}]}", "arms name the back end 'y'; there is phi-3-mini"),
        ("{size: 5}", "size"),
    ],
)
def test_what_does_not_fit_is_named(config_dir: Path, rewrite: Rewrite, text: str, message: str) -> None:
    routing(rewrite, text)
    with pytest.raises(ConfigurationError) as caught:
        loader.load()
    assert message in str(caught.value)


def test_a_model_that_nobody_serves_is_named(config_dir: Path, rewrite: Rewrite) -> None:
    rewrite(MODELS, "  deployments:", "  routing:\n    gone: {}\n  deployments:")
    with pytest.raises(ConfigurationError, match="no deployment serves a model of this name"):
        loader.load()
