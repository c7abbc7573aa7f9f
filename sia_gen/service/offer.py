"""What visitors may name: the models that are offered, what they brought themselves, and on one's own machine any."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sia_gen.core.errors import RequestError, unknown
from sia_gen.service.trial import try_out
from sia_gen.service.uploads import Uploads


@dataclass(frozen=True)
class Offer:
    """``uploads`` is None where visitors may bring no models; ``local``: folders and ``module:callable``, too.

    Whoever names a callable runs code, so that a service for others is never ``local``. What is so named is tried once
    on ``device``, see `try_out`, unless it is on the hub, from where it may take its time.
    """

    generators: Sequence[str]
    targets: Sequence[str]
    uploads: Uploads | None = None
    local: bool = False
    device: str = "cpu"
    _tried: set[str] = field(default_factory=set)

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
            if not name.startswith("hf:") and name not in self._tried:
                try_out(name, self.device)
                self._tried.add(name)
            return name
        if self.uploads is not None and re.fullmatch(r"[a-z0-9-]+-[0-9a-f]{8}", str(name)):
            raise RequestError(f"the model '{name:.80}' is no longer here; bring it again")
        raise unknown("target", str(name), list(self.targets))
