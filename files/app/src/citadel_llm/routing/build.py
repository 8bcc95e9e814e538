"""From deployments and keys to the snapshot that the gateway reads."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from pydantic import ValidationError

from citadel_llm.configuration.files import write_atomic
from citadel_llm.keys.records import KeyRecord, reasons
from citadel_llm.schema import snapshot as schema
from citadel_llm.schema.model_routing import BackendRouting, ModelRouting
from citadel_llm.schema.routes import Routing

_MODE = 0o640
_HERE = ("127.0.0.1", "::1", "localhost")
_DEFAULT = ModelRouting()
_NO_CHANGE = BackendRouting()


class RoutingError(ValueError):
    """A configuration from which no snapshot can be built."""


class DeploymentLike(Protocol):
    """What routing needs to know of a deployment."""

    @property
    def name(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def aliases(self) -> Sequence[str]: ...
    @property
    def base_url(self) -> str: ...
    @property
    def task(self) -> schema.Task: ...
    @property
    def max_num_seqs(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply` did, or in check mode would do."""

    changed: bool
    version: str
    previous: str | None
    path: str
    models: list[str]
    keys: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def build(
    deployments: Iterable[DeploymentLike],
    keys: Iterable[KeyRecord],
    previous: schema.RoutingSnapshot | None,
    routing: Mapping[str, ModelRouting] | None = None,
    engine: str | None = None,
) -> tuple[schema.RoutingSnapshot, bytes]:
    """The snapshot and the bytes of its file. Deployments of one model become its back ends.

    `routing` says, by model, how requests are spread over them; `engine` is the version of the engine on this
    server, where it is known. The same input gives the same version: a
    model's `created` is taken from `previous`. Raises RoutingError.
    """
    since = {model.name: model.created for model in previous.models} if previous is not None else {}
    groups: dict[str, list[DeploymentLike]] = {}
    for deployment in deployments:
        groups.setdefault(deployment.model, []).append(deployment)
    try:
        models = [
            _model(name, group, since.get(name), (routing or {}).get(name, _DEFAULT), engine)
            for name, group in groups.items()
        ]
        entries = [_key(record) for record in sorted(keys, key=lambda record: record.id)]
        return schema.seal(sorted(models, key=lambda model: model.name), entries)
    except ValidationError as error:
        raise RoutingError(f"ai_models: {reasons(error)}") from None
    except schema.SnapshotError as error:
        raise RoutingError(f"ai_models: {error}") from None


def apply(
    path: Path,
    deployments: Iterable[DeploymentLike],
    keys: Iterable[KeyRecord],
    routing: Mapping[str, ModelRouting] | None = None,
    *,
    engine: str | None = None,
    check: bool = False,
) -> Applied:
    """Build the snapshot and put it in its place, unless the same one is there. Raises RoutingError."""
    current = _current(path)
    snapshot, data = build(deployments, keys, current, routing, engine)
    changed = current is None or current.version != snapshot.version
    if changed and not check:
        try:
            write_atomic(path, data, mode=_MODE)
        except OSError as error:
            raise RoutingError(f"{path}: cannot be written: {error.strerror or error}") from error
    return Applied(
        changed=changed,
        version=snapshot.version,
        previous=current.version if current is not None else None,
        path=str(path),
        models=[model.name for model in snapshot.models],
        keys=len(snapshot.keys),
    )


def _current(path: Path) -> schema.RoutingSnapshot | None:
    """What is in place; None when that is nothing or no good, so that it is replaced."""
    try:
        return schema.load(path)
    except schema.SnapshotError:
        return None


def _model(
    name: str, group: list[DeploymentLike], since: int | None, routing: ModelRouting, engine: str | None
) -> schema.Model:
    tasks = {deployment.task for deployment in group}
    if len(tasks) > 1:
        names = ", ".join(deployment.name for deployment in group)
        raise RoutingError(
            f"ai_models.deployments: {names} serve the model {name!r} with different tasks: {sorted(tasks)}"
        )
    aliases = sorted({alias for deployment in group for alias in deployment.aliases} - {name})
    return schema.Model(
        name=name,
        aliases=tuple(aliases),
        task=group[0].task,
        created=since if since is not None else int(time.time()),
        backends=tuple(
            _backend(deployment, routing.backends.get(deployment.name, _NO_CHANGE), engine)
            for deployment in sorted(group, key=lambda deployment: deployment.name)
        ),
        arms=routing.arms,
        **{name: getattr(routing, name) for name in Routing.model_fields},
    )


def _backend(deployment: DeploymentLike, routing: BackendRouting, engine: str | None) -> schema.Backend:
    # Of an engine on another host, this one's environment says nothing.
    here = urlsplit(deployment.base_url).hostname in _HERE
    return schema.Backend(
        name=deployment.name,
        url=deployment.base_url,
        model=deployment.model,
        engine=engine if here else None,
        weight=routing.weight,
        max_in_flight=routing.max_in_flight or _places(deployment.max_num_seqs),
    )


def _places(computed: int | None) -> int:
    """How many requests an engine gets at once that computes so many.

    A few wait in the engine, so that it never waits for the next one. The others wait in the gateway, where
    keys take turns and any engine that becomes free takes them.
    """
    if computed is None:
        return int(schema.Backend.model_fields["max_in_flight"].default)
    return math.ceil(computed * 1.25)


def _key(record: KeyRecord) -> schema.Key:
    return schema.Key(
        id=record.id,
        prefix=record.prefix,
        hash=record.hash,
        disabled=record.disabled,
        expires=record.expires,
        previous=record.previous,
        **record.access(),
    )
