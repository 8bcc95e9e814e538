"""The gateway's settings."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from citadel_llm.schema.gateway import GatewaySettings

GIVEN: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 8080,
    "internal_host": "127.0.0.1",
    "internal_port": 8081,
    "snapshot_path": "/var/lib/citadel/routing.json",
}


def test_only_addresses_ports_and_paths_have_to_be_given() -> None:
    settings = GatewaySettings.model_validate(GIVEN)
    assert settings.timeouts.connect_s < settings.timeouts.first_byte_s
    required = {name for name, field in GatewaySettings.model_fields.items() if field.is_required()}
    assert required == set(GIVEN)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"port": 0}, "port"),
        ({"port": 65536}, "port"),
        ({"internal_port": 8080}, "choose two ports"),
        ({"snapshot_path": "routing.json"}, "must be an absolute path"),
        ({"timeouts": {"connect_s": 0}}, "timeouts.connect_s"),
        ({"unknown": 1}, "unknown"),
        ({"max_body_bytes": 1}, "max_body_bytes"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        GatewaySettings.model_validate(GIVEN | change)
    assert place in str(caught.value)


def test_every_setting_is_described() -> None:
    def undescribed(schema: dict[str, Any]) -> list[str]:
        parts = [schema, *schema.get("$defs", {}).values()]
        return [
            name
            for part in parts
            for name, field in part["properties"].items()
            if not field.get("description")
        ]

    assert undescribed(GatewaySettings.model_json_schema()) == []
