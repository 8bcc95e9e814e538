"""Keys as an inventory wants them, and what bringing them about changes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pydantic import AwareDatetime, Field, SecretStr, TypeAdapter, ValidationError

from citadel_llm.keys.records import ApiKeyError, KeyId, reasons
from citadel_llm.schema.access import Access

_YEAR_S = 366 * 86_400


class DesiredKey(Access):
    """A key as an inventory wants it. Without `key`, one is made once and kept beside the key file."""

    id: KeyId
    key: SecretStr | None = None
    state: Literal["present", "disabled", "absent"] = "present"
    expires: AwareDatetime | None = None
    note: str = Field(default="", max_length=500)
    overlap_s: int = Field(default=0, ge=0, le=_YEAR_S)
    """How long the text before a new `key` stays valid."""

    def fields(self) -> dict[str, Any]:
        """What the record takes over as it is."""
        return {
            "disabled": self.state == "disabled",
            "expires": self.expires,
            "note": self.note,
            **{name: getattr(self, name) for name in Access.model_fields},
        }


@dataclass(slots=True)
class Changes:
    """What was, or in check mode would be, changed. It contains no secret."""

    changed: bool = False
    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    key_files: dict[str, str] = field(default_factory=dict)
    """Where the text of keys that were made here lies, by id."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def parse_desired(text: str) -> list[DesiredKey]:
    """A JSON list of desired keys. Raises ApiKeyError, without any value in it."""
    try:
        wanted = TypeAdapter(list[DesiredKey]).validate_python(json.loads(text))
    except ValidationError as error:
        raise ApiKeyError(f"desired keys: {reasons(error)}") from None
    except ValueError as error:
        raise ApiKeyError(f"desired keys: not JSON: {error}") from None
    ids = [key.id for key in wanted]
    for id_ in ids:
        if ids.count(id_) > 1:
            raise ApiKeyError(f"desired keys: id {id_!r} appears twice")
    return wanted
