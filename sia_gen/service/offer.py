"""What visitors may name: the models that are offered, what they brought themselves, and on one's own machine any."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from sia_gen.core.errors import RequestError, unknown
from sia_gen.core.executors import Progress
from sia_gen.service.trial import LOCAL, try_out
from sia_gen.service.uploads import Uploads

WAIT_SECONDS = 0.2  # for another's trial, between two looks whether one is stopped
Find = Callable[[str, Progress], str]
"""What turns a target's name into what `load_target` finds it by, see `Offer.target`; it is told when to stop."""


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
    _trying: Lock = field(default_factory=Lock)

    def generator(self, name: Any) -> str:
        """The same name, if it is offered; raises `RequestError` for any other."""
        if name in self.generators or (self.local and isinstance(name, str) and name):
            return name
        raise unknown("generator", str(name), list(self.generators))

    def known(self, name: Any) -> str:
        """The same name of a target, if it is offered, which is seen at once; raises `RequestError` for any other."""
        if name in self.targets or self._place(name) is not None or (self.local and isinstance(name, str) and name):
            return name
        if self.uploads is not None and re.fullmatch(r"[a-z0-9-]+-[0-9a-f]{8}", str(name)):
            raise RequestError(f"the model '{name:.80}' is no longer here; bring it again")
        raise unknown("target", str(name), list(self.targets))

    def target(self, name: Any, progress: Progress | None = None) -> str:
        """What `load_target` finds a `known` model by, once it was tried, which may take minutes.

        What ``progress`` raises ends that. Raises `RequestError` and `WorkError` for one that cannot be used.
        """
        if name in self.targets:
            return name
        if (place := self._place(name)) is not None:
            return str(place)
        self.known(name)
        if self.local and not name.startswith("hf:"):
            self._try(name, progress)
        return name

    def _place(self, name: Any) -> Path | None:
        return self.uploads.place(name) if isinstance(name, str) and self.uploads is not None else None

    def _try(self, name: str, progress: Progress | None) -> None:
        """Two who ask for the same wait for one trial; a stopped one waits no longer."""
        while not self._trying.acquire(timeout=WAIT_SECONDS):
            if progress:
                progress(0, 1, "waiting until another model was tried")
        try:
            if name not in self._tried:
                try_out(name, self.device, LOCAL, progress)
                self._tried.add(name)
        finally:
            self._trying.release()


def as_named(name: str, progress: Progress) -> str:
    """The same name: what finds targets where there is no offer, as `Offer.target` does."""
    return name
