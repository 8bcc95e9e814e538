"""What is known of who asks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from citadel_llm.gateway.errors import ApiError
from citadel_llm.schema.access import Access, Limits

_Match = re.Pattern[str]


class Rules:
    """Access in the form that requests are checked against."""

    __slots__ = ("_endpoints", "_model_limits", "_models", "limits", "priority", "user_limits")

    def __init__(self, access: Access) -> None:
        self.limits = access.limits
        self.priority = access.priority
        self.user_limits = access.user_limits
        self._models = _any_of(access.models) if access.models is not None else None
        self._endpoints = frozenset(access.endpoints) if access.endpoints is not None else None
        self._model_limits = [(_any_of((glob,)), limits) for glob, limits in access.model_limits.items()]

    @property
    def all_models(self) -> bool:
        return self._models is None

    def allows_model(self, *names: str) -> bool:
        """Whether a model may be used that goes by these names."""
        if self._models is None:
            return True
        return any(self._models.fullmatch(name) for name in names)

    def allows_endpoint(self, name: str) -> bool:
        return self._endpoints is None or name in self._endpoints

    def limits_for_model(self, name: str) -> Limits | None:
        """The limits on this owner's requests to one model; the first glob that matches counts."""
        for glob, limits in self._model_limits:
            if glob.fullmatch(name):
                return limits
        return None


@dataclass(frozen=True, slots=True)
class Principal:
    """The owner of a key or of a token. `id` is its name in logs; `user` is known of tokens alone."""

    id: str
    rules: Rules
    user: str | None = None

    def require_endpoint(self, name: str) -> None:
        """Raises ApiError (403)."""
        if not self.rules.allows_endpoint(name):
            raise forbidden(f"This key may not use the endpoint {name!r}.", "endpoint_not_allowed")

    def require_model(self, asked: str, canonical: str) -> None:
        """Raises ApiError (403)."""
        if not self.rules.allows_model(asked, canonical):
            raise forbidden(f"This key may not use the model {asked!r}.", "model_not_allowed", param="model")


def looks_like_token(secret: bytes) -> bool:
    """Whether a credential has the form of a signed token: three parts, the first a JSON object."""
    return secret.startswith(b"eyJ") and secret.count(b".") == 2


def forbidden(message: str, code: str, *, param: str | None = None) -> ApiError:
    return ApiError(403, message, cause="forbidden", type_="permission_error", code=code, param=param)


def _any_of(globs: tuple[str, ...]) -> _Match:
    """One expression for all globs. fnmatch would give [ a meaning, which names do not have."""
    parts = (re.escape(glob).replace(r"\*", ".*").replace(r"\?", ".") for glob in globs)
    return re.compile("|".join(parts) if globs else r"(?!)", re.DOTALL)
