"""What visitors may name: the models that are offered, what they brought themselves, and on one's own machine any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sia_gen.core.errors import unknown
from sia_gen.service.uploads import Uploads


@dataclass(frozen=True)
class Offer:
    """``uploads`` is None where visitors may bring no models; ``local``: folders and ``module:callable``, too.

    Whoever names a callable runs code, so that a service for others is never ``local``.
    """

    generators: Sequence[str]
    targets: Sequence[str]
    uploads: Uploads | None = None
    local: bool = False

    def generator(self, name: Any) -> str:
        """The same name, if it is offered; raises `RequestError` for any other."""
        if name in self.generators or (self.local and isinstance(name, str) and name):
            return name
        raise unknown("generator", str(name), list(self.generators))

    def target(self, name: Any) -> str:
        """What `load_target` finds the model by; raises `RequestError` for what is not offered."""
        if name in self.targets:
            return name
        if isinstance(name, str) and self.uploads is not None and (place := self.uploads.place(name)) is not None:
            return str(place)
        if self.local and isinstance(name, str) and name:
            return name
        raise unknown("target", str(name), list(self.targets))
