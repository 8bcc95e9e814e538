"""The settings of one server: what the layered configuration must contain, and which values it may have.

Paths and ports have no defaults: they are facts of the server, rendered from the inventory. Every model
refuses unknown keys, so a misspelt setting is an error and never silently ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from citadel_llm.schema.gateway import GatewaySettings
from citadel_llm.schema.model_routing import ModelRouting, routing_problems
from citadel_llm.schema.monitoring import MonitoringSection
from citadel_llm.schema.snapshot import Name as ModelName
from citadel_llm.schema.snapshot import Task

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")

Location = tuple[str | int, ...]


def problems_error(problems: list[tuple[Location, str]]) -> PydanticCustomError:
    """One error that carries several problems, each with the location of the value it speaks of."""
    text = "; ".join(message for _location, message in problems)
    return PydanticCustomError("problems", "{text}", {"text": text, "problems": problems})


def _absolute(value: str) -> str:
    path = PurePosixPath(value)
    if not path.is_absolute() or ".." in path.parts:
        raise PydanticCustomError("path", "must be an absolute path without '..'. Write it from the root: /…")
    return str(path)


def _name(value: str) -> str:
    if not _NAME.fullmatch(value) or len(value) > 64:
        raise PydanticCustomError(
            "name",
            "must be at most 64 lower-case letters, digits, '.', '_' or '-', a letter or digit at both ends",
        )
    return value


def _not_a_truth(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("port", "is a truth value. Write a number from 1 to 65535")
    return value


AbsolutePath = Annotated[str, AfterValidator(_absolute)]
Name = Annotated[str, AfterValidator(_name)]
Port = Annotated[int, BeforeValidator(_not_a_truth), Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
Percent = Annotated[float, Field(ge=0, le=100)]
UnitName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9:_.@\\-]+\.(service|timer|socket|target|path|slice|mount)$")
]


class Section(BaseModel):
    """A part of the settings: immutable, and nothing that it does not know is accepted."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Paths(Section):
    """Where things are on this server."""

    home: AbsolutePath = Field(description="Root of everything that is installed")
    config: AbsolutePath = Field(description="Directory of the layered configuration")
    state: AbsolutePath = Field(description="What services write: the routing snapshot, records")
    secrets: AbsolutePath = Field(description="Directory of secrets, mode 700")
    models: AbsolutePath = Field(description="Model store: <models>/<name>/<version>/ and the link current")
    logs: AbsolutePath = Field(description="Root of log directories")
    backups: AbsolutePath = Field(description="Where backups of the configuration are kept")


class Edge(Section):
    """The TLS end point in front of the gateway. A foreign unit (not citadel-*) is watched only."""

    host: str = Field(description="Address on which its port is checked", min_length=1)
    port: Port = Field(description="TCP port that clients reach")
    unit: UnitName = Field(default="citadel-edge.service", description="Its systemd unit")


class CitadelSection(Section):
    """What every part shares."""

    node: str = Field(
        description="Name of this server", pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
    )
    environment: Name = Field(
        description="The active environment; set by `citadel config use`, never in a file"
    )
    paths: Paths
    edge: Edge | None = Field(default=None, description="The edge on this server, or null when it has none")


class LoggingSection(Section):
    """How services log."""

    level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        default="info", description="Least severe level that is written"
    )
    format: Literal["json", "console"] = Field(
        default="json", description="json for machines, console for people"
    )
    directories: dict[Name, AbsolutePath] = Field(
        default_factory=dict, description="Log directories by purpose, for what is not in the journal"
    )


class MetricsSection(Section):
    """Prometheus metrics."""

    enabled: bool = Field(default=True, description="Serve /metrics on the gateway's internal port")


class DiskThresholds(Section):
    """Free space of a file system. The more severe of percentage and bytes counts."""

    warning_free_percent: Percent = Field(default=15, description="Below this share of free space: warning")
    critical_free_percent: Percent = Field(default=5, description="Below this share of free space: critical")
    warning_free_bytes: int = Field(default=0, ge=0, description="Below this many free bytes: warning")
    critical_free_bytes: int = Field(default=0, ge=0, description="Below this many free bytes: critical")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _refuse_unless(
            self.critical_free_percent <= self.warning_free_percent, "critical_free_percent", "warning"
        )
        _refuse_unless(self.critical_free_bytes <= self.warning_free_bytes, "critical_free_bytes", "warning")
        return self


class MemoryThresholds(Section):
    """Used memory in percent of the total; what the kernel can reclaim counts as free."""

    warning_used_percent: Percent = Field(default=90, description="Above: warning")
    critical_used_percent: Percent = Field(default=97, description="Above: critical")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _refuse_unless(
            self.critical_used_percent >= self.warning_used_percent,
            "critical_used_percent",
            "warning",
            above=True,
        )
        return self


class CpuThresholds(Section):
    """Five-minute load average per core."""

    warning_load_per_core: float = Field(default=2.0, gt=0, description="Above: warning")
    critical_load_per_core: float = Field(default=8.0, gt=0, description="Above: critical")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _refuse_unless(
            self.critical_load_per_core >= self.warning_load_per_core,
            "critical_load_per_core",
            "warning",
            above=True,
        )
        return self


def _refuse_unless(holds: bool, key: str, other: str, *, above: bool = False) -> None:
    if not holds:
        side = "below" if above else "above"
        counterpart = key.replace("critical", other)
        message = f"is {side} {counterpart}: critical would come before {other}. Swap the two values"
        raise problems_error([((key,), message)])


class _Check(Section):
    name: Name = Field(description="Name of the check, unique")
    critical: bool = Field(default=True, description="Whether a failure is critical, or only a warning")
    timeout_s: Seconds | None = Field(default=None, description="Deadline; default health.timeout_s")
    unit: UnitName | None = Field(
        default=None, description="Unit that recovery restarts when this check is critical"
    )


class HttpCheck(_Check):
    """An HTTP GET that must be answered with one of the given statuses."""

    kind: Literal["http"]
    url: str = Field(pattern=r"^https?://", description="What is asked for")
    expect_status: tuple[int, ...] = Field(default=(200,), min_length=1, description="Accepted statuses")


class TcpCheck(_Check):
    """A TCP connection that must be accepted."""

    kind: Literal["tcp"]
    host: str = Field(min_length=1)
    port: Port


class ProcessCheck(_Check):
    """A systemd unit that must be active; the unit is named by `unit`."""

    kind: Literal["process"]
    unit: UnitName


class DiskCheck(_Check):
    """Free space of the file system that holds a path."""

    kind: Literal["disk"]
    path: AbsolutePath
    thresholds: DiskThresholds | None = Field(default=None, description="Default: health.disk")


class CommandCheck(_Check):
    """A command, run without a shell: exit status 0 is ok, 1 a warning, anything else critical."""

    kind: Literal["command"]
    argv: tuple[str, ...] = Field(min_length=1, description="Program and arguments")


Check = Annotated[HttpCheck | TcpCheck | ProcessCheck | DiskCheck | CommandCheck, Field(discriminator="kind")]


class Recovery(Section):
    """How often `citadel health --recover` may restart a unit."""

    max_restarts: int = Field(default=3, ge=1, le=100, description="Restarts of one unit within the window")
    window_s: Seconds = Field(default=3600, description="Length of the window")


class HealthSection(Section):
    """Thresholds of `citadel health` and checks beyond the ones that follow from the other sections."""

    timeout_s: Seconds = Field(default=5, description="Deadline of one check")
    engine_timeout_s: Seconds = Field(default=30, description="Deadline of an engine's one-token request")
    disk: DiskThresholds = Field(default_factory=DiskThresholds)
    memory: MemoryThresholds = Field(default_factory=MemoryThresholds)
    cpu: CpuThresholds = Field(default_factory=CpuThresholds)
    recovery: Recovery = Field(default_factory=Recovery)
    checks: tuple[Check, ...] = Field(default=(), description="Further checks")

    @model_validator(mode="after")
    def _unique(self) -> Self:
        named = [((("checks", index, "name")), check.name) for index, check in enumerate(self.checks)]
        _raise_if(_duplicates(named, "is the name of another check too. Give each check its own name"))
        return self


class Readiness(Section):
    """How long an engine may take from its start to the first answered request: base + bytes / rate."""

    base_timeout_s: Seconds = Field(default=180, description="Allowance for start-up without the weights")
    load_mb_per_s: float = Field(
        default=100, gt=0, description="Slowest accepted rate of loading weights, MB/s"
    )


class Deployment(Section):
    """One engine: a model served on a port of this server."""

    name: Name = Field(description="Name of the deployment; its unit is citadel-engine@<name>.service")
    model: ModelName = Field(description="Name by which clients ask for the model")
    aliases: tuple[ModelName, ...] = Field(default=(), description="Further names for the model")
    path: AbsolutePath = Field(description="Directory of the weights")
    host: str = Field(default="127.0.0.1", min_length=1, description="Address on which the engine listens")
    port: Port = Field(description="Port on which the engine listens")
    unit: UnitName | None = Field(
        default=None, description="systemd unit, when it is not citadel-engine@<name>.service"
    )
    task: Task = Field(default="generate", description="What the model does")
    max_model_len: int | None = Field(default=None, ge=1, description="Longest context in tokens")
    max_num_seqs: int | None = Field(
        default=None, ge=1, description="Most requests that the engine computes at once, where that is known"
    )

    @property
    def service_unit(self) -> str:
        """The systemd unit that runs this deployment."""
        return self.unit or f"citadel-engine@{self.name}.service"

    @property
    def base_url(self) -> str:
        """http://host:port, without a trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


class ModelsSection(Section):
    """The engines of this server."""

    deployments: tuple[Deployment, ...] = Field(default=(), description="One entry per engine")
    readiness: Readiness = Field(default_factory=Readiness)
    routing: dict[ModelName, ModelRouting] = Field(
        default_factory=dict, description="How requests are spread over deployments, by model"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        entries = list(enumerate(self.deployments))
        names = [(("deployments", i, "name"), d.name) for i, d in entries]
        units = [(("deployments", i, "unit"), d.service_unit) for i, d in entries if d.unit]
        problems = list(_duplicates(names, "is the name of another deployment too. Names are unique"))
        problems += _duplicates(units, "runs another deployment too. One unit serves one deployment")
        problems += self._alias_problems()
        problems += self._routing_problems()
        _raise_if(problems)
        return self

    def _alias_problems(self) -> Iterator[tuple[Location, str]]:
        owner = {d.model: d.model for d in self.deployments}
        for index, deployment in enumerate(self.deployments):
            for position, alias in enumerate(deployment.aliases):
                if owner.setdefault(alias, deployment.model) != deployment.model:
                    message = f"already stands for the model {owner[alias]}. One name stands for one model"
                    yield ("deployments", index, "aliases", position), message

    def _routing_problems(self) -> Iterator[tuple[Location, str]]:
        by_model: dict[str, list[str]] = {}
        for deployment in self.deployments:
            by_model.setdefault(deployment.model, []).append(deployment.name)
        names = {name for d in self.deployments for name in (d.model, *d.aliases)}
        for location, message in routing_problems(self.routing, by_model, names):
            yield ("routing", *location), message

    def find(self, name: str) -> Deployment | None:
        """The deployment of that name, or None."""
        return next((d for d in self.deployments if d.name == name), None)


class Settings(Section):
    """All settings of one server, after every layer."""

    citadel: CitadelSection
    logging: LoggingSection
    metrics: MetricsSection
    health: HealthSection = Field(default_factory=HealthSection)
    monitoring: MonitoringSection = Field(default_factory=MonitoringSection)
    api_gateway: GatewaySettings
    ai_models: ModelsSection

    @model_validator(mode="after")
    def _ports(self) -> Self:
        used: list[tuple[Location, int]] = []
        if self.citadel.edge is not None:
            used.append((("citadel", "edge", "port"), self.citadel.edge.port))
        used.append((("api_gateway", "port"), self.api_gateway.port))
        used.append((("api_gateway", "internal_port"), self.api_gateway.internal_port))
        if self.monitoring.exporter is not None:
            used.append((("monitoring", "exporter", "port"), self.monitoring.exporter.port))
        for index, deployment in enumerate(self.ai_models.deployments):
            used.append((("ai_models", "deployments", index, "port"), deployment.port))
        _raise_if(_duplicates(used, "is taken by {first}. Give each service its own port"))
        return self


def _duplicates(values: Sequence[tuple[Location, str | int]], message: str) -> list[tuple[Location, str]]:
    """A problem for every value that occurred before; `{first}` in the message is where that was."""
    first: dict[str | int, Location] = {}
    problems: list[tuple[Location, str]] = []
    for location, value in values:
        if value in first:
            problems.append((location, message.format(first=dotted(first[value]))))
        first.setdefault(value, location)
    return problems


def _raise_if(problems: list[tuple[Location, str]]) -> None:
    if problems:
        raise problems_error(problems)


def dotted(location: Location) -> str:
    """A location as people write it: `ai_models.deployments[0].port`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
