"""Frozen, validated, keyword-only settings whose repr is their configuration."""

from __future__ import annotations

from functools import wraps
from typing import Any, TypeVar, dataclass_transform

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from sia_gen.core.errors import RequestError

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: type[T]) -> type[T]:
    """Make a class a frozen pydantic dataclass; a bad value raises a `RequestError` of one line."""
    made: Any = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))(cls)
    validate = made.__init__

    @wraps(validate)
    def init(self: T, **values: Any) -> None:
        try:
            validate(self, **values)
        except ValidationError as error:
            first = error.errors()[0]
            if not first["loc"]:  # from the class's own __post_init__, which names the value itself
                reason = str(first.get("ctx", {}).get("error", first["msg"]))
            else:
                name, value = first["loc"][0], first["input"]
                message = first["msg"][:1].lower() + first["msg"][1:]
                if message.startswith("input "):
                    subject = f"{name} is empty: it" if value is None else f"{name}={value!r}"
                    reason = f"{subject} {message.removeprefix('input ')}; change it"
                else:
                    reason = f"{name}={value!r}: {message}; change it"
            raise RequestError(reason) from None

    made.__init__ = init
    return made
