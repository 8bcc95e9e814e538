"""Settings of monitoring: the section ``monitoring``, empty where nothing is watched."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_Path = Annotated[str, Field(pattern=r"^/[^\x00]*$", max_length=4096)]
_Label = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
_Port = Annotated[int, Field(ge=1, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ExporterSettings(_Section):
    """What the project's own exporter looks at."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address that it listens on")
    port: _Port = Field(description="Port that it listens on")
    units: tuple[str, ...] = Field(
        default=("citadel-*.service",), min_length=1, description="Patterns of the units that it tells of"
    )
    gpu_command: tuple[str, ...] = Field(
        default=(), description="Prints the state of the GPUs as JSON; empty where there is no GPU"
    )
    certificates: dict[_Label, _Path] = Field(
        default_factory=dict, max_length=32, description="Certificates by name, as PEM files"
    )
    preflight_report: _Path | None = Field(default=None, description="The report of the last preflight")


class MonitoringSection(_Section):
    """Where the parts of monitoring are."""

    exporter: ExporterSettings | None = Field(default=None, description="The exporter on this server")
    alertmanager: str | None = Field(
        default=None,
        pattern=r"^https?://[^/\s]+$",
        description="The Alertmanager that `citadel silence` speaks to",
    )
