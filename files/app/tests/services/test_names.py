"""Names of services and units."""

from __future__ import annotations

import pytest

from citadel_llm.services.names import UnknownServiceError, service_of, start_order, unit_of

DEPLOYMENTS = [("smollm2", "citadel-engine@smollm2.service"), ("other", "vllm-other.service")]


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("gateway", "citadel-gateway.service"),
        ("edge", "citadel-edge.service"),
        ("citadel-gateway", "citadel-gateway.service"),
        ("citadel-gateway.service", "citadel-gateway.service"),
        ("smollm2", "citadel-engine@smollm2.service"),
        ("engine@smollm2", "citadel-engine@smollm2.service"),
        ("engine@retired", "citadel-engine@retired.service"),
        ("other", "vllm-other.service"),
        ("engine@other", "vllm-other.service"),
        ("vllm-other.service", "vllm-other.service"),
        ("citadel-backup.timer", "citadel-backup.timer"),
    ],
)
def test_a_name_stands_for_one_unit(name: str, unit: str) -> None:
    assert unit_of(name, DEPLOYMENTS) == unit


@pytest.mark.parametrize(
    "name",
    [
        "nginx",
        "nginx.service",
        "ssh",
        "citadel-",
        "engine",
        "engine@",
        "gateway/../ssh",
        "citadel-a b",
        "",
        "@x",
    ],
)
def test_what_is_not_ours_is_refused(name: str) -> None:
    with pytest.raises(UnknownServiceError, match="Services: edge, gateway, other, smollm2"):
        unit_of(name, DEPLOYMENTS)


def test_units_have_short_names() -> None:
    assert service_of("citadel-gateway.service") == "gateway"
    assert service_of("citadel-engine@smollm2.service") == "engine@smollm2"
    assert service_of("vllm-other.service", DEPLOYMENTS) == "engine@other"
    assert service_of("citadel-backup.timer") == "backup.timer"


def test_engines_start_before_the_gateway() -> None:
    units = [
        "citadel-control.service",
        "citadel-gateway.service",
        "vllm-other.service",
        "citadel-engine@a.service",
    ]
    assert start_order(units, ["vllm-other.service"]) == [
        "citadel-engine@a.service",
        "vllm-other.service",
        "citadel-gateway.service",
        "citadel-control.service",
    ]
