"""Inputs: what one client sends on one connection, and what an engine answers to it."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from citadel_llm.gateway.api.endpoints import ENDPOINTS
from tools.fuzz import answers, heads
from tools.fuzz.documents import PATHS, document, encoded, spoilt
from tools.fuzz.heads import Draft

Listener = Literal["api", "internal"]
_SERVED = tuple(endpoint.name for endpoint in ENDPOINTS if "generate" in endpoint.tasks)
_METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH", b"CONNECT", b"get")
_TARGETS = (
    b"/v1/models", b"/v1/models/org/plain", b"/v1/models/%6frg/plain", b"/v1/models/%ff%00",
    b"/v1/models/", b"/health", b"/docs", b"/openapi.json", b"/v1/chat/completions/",
    b"/v1//chat/completions", b"/v1/chat/completions?a=b#c", b"/", b"*", b"http://gateway/v1/models",
    b"http://other/v1/models", b"//gateway/v1/models", b"/v1/messages/none", b"/" + b"a" * 3000,
    b"/v1/chat/completions%00", b"/../../etc/passwd", b"gateway:443",
)  # fmt: skip
_INTERNAL = (
    b"/live", b"/ready", b"/health", b"/metrics", b"/models", b"/pause?model=none", b"/resume?model=%ff",
    b"/pause", b"/x",
)  # fmt: skip


@dataclass(frozen=True)
class Names:
    """Models of a lane: on an engine that works, the same by another name, on one that does as told."""

    lane: int

    @property
    def plain(self) -> str:
        return f"{self.lane}/plain"

    @property
    def renamed(self) -> str:
        return f"{self.lane}/renamed"

    @property
    def wild(self) -> str:
        return f"{self.lane}/wild"


@dataclass(frozen=True)
class Case:
    """One input. `data` has marks in the places of keys (`heads.KEYS`); `cuts` are where its pieces end."""

    lane: int
    kind: str
    data: bytes
    cuts: tuple[int, ...] = ()
    scripts: tuple[answers.Script, ...] = ()
    leaves: bool = False
    """The client leaves without waiting for answers."""
    clean: bool = False
    """Nothing is wrong with it: each request must be answered with 200."""
    listener: Listener = "api"

    def dump(self, found: list[str]) -> str:
        """As a JSON document, with what was wrong."""
        text = base64.b64encode
        fields = {"lane": self.lane, "kind": self.kind, "data": text(self.data).decode(), "cuts": self.cuts}
        scripts = [
            [[text(piece).decode() for piece in script.pieces], script.ending] for script in self.scripts
        ]
        rest = {
            "found": found,
            "scripts": scripts,
            "leaves": self.leaves,
            "clean": self.clean,
            "listener": self.listener,
        }
        return json.dumps(fields | rest, indent=1)

    @classmethod
    def load(cls, document: str) -> Case:
        """From what `dump` made."""
        fields = json.loads(document)
        del fields["found"]
        fields["data"] = base64.b64decode(fields["data"])
        fields["cuts"] = tuple(fields["cuts"])
        fields["scripts"] = tuple(
            answers.Script(tuple(base64.b64decode(piece) for piece in pieces), ending)
            for pieces, ending in fields["scripts"]
        )
        return cls(**fields)


def make(chance: random.Random, lane: int) -> Case:
    """Any input, for the models of a lane."""
    kinds, weights = zip(*_KINDS.items(), strict=True)
    kind = chance.choices(kinds, [weight for _, weight in weights])[0]
    return _KINDS[kind][0](chance, Names(lane))


def _proper(chance: random.Random, model: str, *, good: bool = False) -> Draft:
    """A request with which nothing is wrong; with `good`, not even its key's limits."""
    name = chance.choice(_SERVED) if chance.random() < 0.4 else "chat_completions"
    body = encoded(document(name, model, chance, stream=chance.random() < 0.3), chance)
    return heads.draft(PATHS[name].encode(), body, chance, good=good)


def _pieces(data: bytes, chance: random.Random) -> tuple[int, ...]:
    """Where the input is cut: mostly nowhere, sometimes at a few places, sometimes at each byte."""
    how = chance.random()
    if how < 0.5 or len(data) < 2:
        return ()
    if how < 0.55 and len(data) < 1500:
        return tuple(range(1, len(data)))
    if how < 0.65 and len(data) < 1500:
        first = chance.randrange(1, len(data))
        return tuple(range(first, min(len(data), first + 60)))
    return tuple(sorted(chance.sample(range(1, len(data)), min(len(data) - 1, chance.randrange(1, 6)))))


def _healthy(chance: random.Random, names: Names) -> str:
    return chance.choice((names.plain, names.plain, names.renamed))


def _several(chance: random.Random) -> int:
    return chance.choice((1, 1, 1, 1, 2, 2, 3, 5, 20))


def _clean(chance: random.Random, names: Names) -> Case:
    data = b"".join(
        _proper(chance, _healthy(chance, names), good=True).dump() for _ in range(_several(chance))
    )
    return Case(names.lane, "clean", data, _pieces(data, chance), clean=True)


def _documents(chance: random.Random, names: Names) -> Case:
    parts = []
    for _ in range(_several(chance)):
        name = chance.choice(tuple(PATHS))
        body = spoilt(name, _healthy(chance, names), chance)
        parts.append(heads.draft(PATHS[name].encode(), body, chance).dump())
    data = b"".join(parts)
    return Case(names.lane, "documents", data, _pieces(data, chance))


def _framing(chance: random.Random, names: Names) -> Case:
    drafts = [_proper(chance, _healthy(chance, names)) for _ in range(_several(chance))]
    for _ in range(chance.choice((1, 1, 2, 3))):
        heads.spoil(chance.choice(drafts), chance)
    data = b"".join(found.dump() for found in drafts)
    if chance.random() < 0.1:
        data = data[: chance.randrange(len(data))]
    return Case(names.lane, "framing", data, _pieces(data, chance))


def _targets(chance: random.Random, names: Names) -> Case:
    drafts = [_proper(chance, _healthy(chance, names)) for _ in range(_several(chance))]
    for found in drafts:
        if chance.random() < 0.7:
            found.method = chance.choice(_METHODS)
            found.target = chance.choice(_TARGETS)
            if chance.random() < 0.5:
                found.drop_body()
    data = b"".join(found.dump() for found in drafts)
    return Case(names.lane, "targets", data, _pieces(data, chance))


def _bytes(chance: random.Random, names: Names) -> Case:
    data = b"".join(_proper(chance, _healthy(chance, names)).dump() for _ in range(_several(chance)))
    for _ in range(chance.choice((1, 1, 2, 5))):
        data = heads.scratch(data, chance)
    return Case(names.lane, "bytes", data, _pieces(data, chance))


def _chunks(chance: random.Random, names: Names) -> Case:
    found = _proper(chance, _healthy(chance, names))
    found.chunk(chance, odd=chance.random() < 0.7)
    data = found.dump() + _proper(chance, _healthy(chance, names)).dump()
    cuts = tuple(range(1, len(data))) if chance.random() < 0.3 else _pieces(data, chance)
    return Case(names.lane, "chunks", data, cuts)


def _engines(chance: random.Random, names: Names) -> Case:
    data = b"".join(_proper(chance, names.wild).dump() for _ in range(chance.choice((1, 1, 2, 4))))
    scripts = tuple(answers.make(chance) for _ in range(chance.choice((1, 2, 3))))
    return Case(names.lane, "engines", data, _pieces(data, chance), scripts, leaves=chance.random() < 0.1)


def _leaving(chance: random.Random, names: Names) -> Case:
    data = b"".join(_proper(chance, _healthy(chance, names)).dump() for _ in range(_several(chance)))
    if chance.random() < 0.6:
        data = data[: chance.randrange(len(data))]
    return Case(names.lane, "leaving", data, _pieces(data, chance), leaves=True)


def _internal(chance: random.Random, names: Names) -> Case:
    drafts = [_proper(chance, _healthy(chance, names)) for _ in range(chance.choice((1, 2, 3)))]
    for found in drafts:
        found.method, found.target = chance.choice(_METHODS[:3]), chance.choice(_INTERNAL)
        if found.method != b"POST":
            found.drop_body()
        if chance.random() < 0.3:
            heads.spoil(found, chance)
    data = b"".join(found.dump() for found in drafts)
    return Case(names.lane, "internal", data, _pieces(data, chance), listener="internal")


_KINDS: dict[str, tuple[Callable[[random.Random, Names], Case], int]] = {
    "clean": (_clean, 8),
    "documents": (_documents, 22),
    "framing": (_framing, 22),
    "targets": (_targets, 6),
    "bytes": (_bytes, 14),
    "chunks": (_chunks, 6),
    "engines": (_engines, 24),
    "leaving": (_leaving, 4),
    "internal": (_internal, 2),
}
