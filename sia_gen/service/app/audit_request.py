"""An audit that a visitor asks for, within what a shared machine can give."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from pydantic import Field

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.audits.diagnose import audit
from sia_gen.audits.finished.audit_report import AuditReport
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.executors import Progress
from sia_gen.core.files import writable_folder
from sia_gen.core.seeds import MAX_SEED
from sia_gen.core.settings import settings
from sia_gen.service.offer import Find, as_named
from sia_gen.service.runs import RunStore, slug

MAX_FACES = 256
FACES = 32  # as the command line audits by default
MAX_STEPS = 50
MAX_EPSILON = 8


@settings
class AuditRequest:
    """``epsilon`` is in 8-bit steps; a value out of range raises a `RequestError` that names it.

    ``target`` is named as the visitor named it. A ``quick`` look is each attribute alone and the control, see `audit`.
    """

    generator: str
    target: str
    attributes: tuple[str, ...]
    faces: int = Field(FACES, ge=1, le=MAX_FACES)
    seed: int = Field(0, ge=0, le=MAX_SEED)
    steps: int = Field(10, ge=1, le=MAX_STEPS)
    box: float = Field(1.0, gt=0, le=1)
    epsilon: float = Field(1.0, ge=0, le=MAX_EPSILON)
    quick: bool = False

    def __post_init__(self) -> None:
        if not self.attributes:
            raise ValueError("no attribute is chosen; choose one or more")

    @property
    def name(self) -> str:
        """The run's name: the same request finds the same run."""
        digest = hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:8]
        return f"{slug(self.target)}-{self.faces}-{digest}"

    def run(self, store: RunStore, device: str, progress: Progress, find: Find = as_named) -> AuditReport:
        """Do the audit in the store, or what is missing of it; what is raised fits who has no command line."""
        target = find(self.target, progress)
        with fitting(target):
            writable_folder(store.folder)
            store.tidy(store.path(self.name).name)
            return self._run(store, target, device, progress)

    def _run(self, store: RunStore, target: str, device: str, progress: Progress) -> AuditReport:
        return audit(
            self.generator,
            target,
            self.attributes,
            faces=self.faces,
            seed=self.seed,
            out=store.path(self.name),
            attack=SemanticImageAttack(steps=self.steps, box=self.box, epsilon=self.epsilon / 255),
            quick=self.quick,
            device=device,
            progress=progress,
        )


@contextmanager
def fitting(*models: str | Path) -> Iterator[None]:
    """Errors without where the ``models`` lie, which is nobody's business.

    A remedy that is an option of the command line, which a visitor does not have, becomes another.
    """
    try:
        yield
    except (RequestError, WorkError) as error:
        text = str(error)
        for model in map(Path, models):
            text = text.replace(str(model), model.name) if model.is_absolute() else text
        what, _, remedy = text.rpartition("; ")
        if isinstance(error, RequestError) and "--" in remedy:
            place = "tell who runs this service" if what.startswith("cannot write") else "change one of the settings"
            text = f"{what}; {place}"
        if text == str(error):
            raise
        raise type(error)(text) from None
