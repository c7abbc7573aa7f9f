"""What programs may ask of the service: named arguments in, plain data out, pictures and reports as files.

Gradio reads the types of these functions, and takes their docstrings for documentation: so annotations are no strings.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial, wraps
from pathlib import Path
from typing import Any
from uuid import uuid4

import gradio as gr

from sia_gen.audits.finished.comparison import compare
from sia_gen.audits.run.run_folder import REPORT, RESULTS
from sia_gen.core.errors import Cancelled, RequestError, WorkError
from sia_gen.core.images import to_pil
from sia_gen.core.seeds import MAX_FACES, face_seeds, whole
from sia_gen.service import catalogue
from sia_gen.service.app.attack_request import AttackRequest
from sia_gen.service.app.audit_jobs import AuditJobs
from sia_gen.service.app.audit_request import FACES, AuditRequest
from sia_gen.service.app.jobs import Jobs
from sia_gen.service.models import Models
from sia_gen.service.offer import Offer
from sia_gen.service.runs import pack

try:  # gradio's own name for an argument of an endpoint, which it does not promise to keep
    from gradio.components.api_component import Api as Argument
except ImportError:
    Argument = ()

MOST = 1e9  # of a change; nan and infinity are not below it
KEPT_SECONDS = 600  # of files, which gradio copies as soon as they are given
GENERATOR, TARGET = "faces-stylegan2", "smile-classifier-planted"


class App(gr.Blocks):
    """Blocks whose endpoints take fewer arguments over plain HTTP, too: those left out are as by default.

    Where gradio has no such name any more, all are to be given.
    """

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *more: Any, **named: Any) -> Any:
        left = block_fn.inputs[len(inputs) :]
        if all(isinstance(block, Argument) for block in left):
            inputs = [*inputs, *(block.value for block in left)]
        return await super().preprocess_data(block_fn, inputs, *more, **named)


class Api:
    """The endpoints, one a method."""

    def __init__(
        self,
        models: Models,
        offer: Offer,
        audits: AuditJobs,
        jobs: Jobs,
        seed: int,
    ) -> None:
        self.models, self.audits, self.jobs, self.seed = models, audits, jobs, seed
        self.offered = offer
        self._files = tempfile.TemporaryDirectory(prefix="sia-gen-")

    def make(self) -> None:
        """Make the endpoints, inside of a `gr.Blocks`."""
        heavy = {"attack": "attack", "edit": "edit"}
        for work in (
            self.attack, self.edit, self.audit, self.status, self.result, self.stop, self.compare, self.targets,
            self.generators, self.attributes,
        ):  # fmt: skip
            name = work.__name__
            gr.api(_in_one_line(work), api_name=name, concurrency_limit=1, concurrency_id=heavy.get(name, "light"))

    def attack(
        self,
        face: int = 0,
        target: str = TARGET,
        generator: str = GENERATOR,
        attributes: list[str] | None = None,
        budget: float = 1.0,
        epsilon: float = 1.0,
        steps: int = 10,
        gentle: bool = False,
    ) -> dict:
        """Attack one synthetic face: move its attributes, and add a pixel residual, so that the target model fails.

        face is its number from 0; attributes are names (see /attributes), all by default; budget is how far they may go
        together (1: one at an end of its range); epsilon is the residual in 8-bit steps; a gentle attack takes small
        steps to the first failure, which is more often valid, instead of seeking the worst one. Gives whether the
        target failed, whether the picture is valid and whether an independent render confirms it, every step's
        probabilities, loss and changes in units, and four pictures: before, semantic, adversarial, residual.
        """
        asked = AttackRequest(
            generator=self.offered.generator(generator), target=self.offered.known(target), face=face,
            attributes=_names(attributes), budget=budget, epsilon=epsilon, steps=steps, gentle=gentle,
            seed=self.seed,
        )  # fmt: skip
        work = partial(asked.run, self.models, None, find=self.offered.target)
        shown = self.jobs.start(uuid4().hex, work, "attack").result()
        files = self._pictures(shown.pictures(), f"face-{face}")
        return shown.content() | {"pictures": files}

    def edit(self, face: int = 0, attributes: dict[str, float] | None = None, generator: str = GENERATOR) -> dict:
        """Change attributes of one synthetic face, and read back what changed.

        attributes are changes in units, as {"age": 20, "yaw": -15}, see /attributes for names, units and safe ranges.
        Gives the pictures before and after, and what the verifier reads off both.
        """
        generator = self.offered.generator(generator)
        number = whole("face", face, 0, MAX_FACES - 1)
        changes = _changes(attributes)
        edits = self.models.edit(generator, face_seeds(self.seed, number + 1)[-1:], changes)
        pictures = {"before": to_pil(edits.before[0]), "after": to_pil(edits.after[0])}
        readings = [asdict(reading) for reading in (edits.readings[0] if edits.readings else ())]
        return {"face": number, "changes": changes, "readings": readings, "pictures": self._pictures(pictures, "edit")}

    def audit(
        self,
        target: str = TARGET,
        generator: str = GENERATOR,
        faces: int = FACES,
        attributes: list[str] | None = None,
        epsilon: float = 1.0,
        steps: int = 10,
        quick: bool = False,
    ) -> dict:
        """Begin an audit: many faces attacked in all ways, to find out which attributes the target is sensitive to.

        Answers at once with a job, whose name is valid as long as its run is kept; /status tells how far it is, /result
        gives what it found, /stop ends it. It takes minutes; a quick one leaves out what several attributes do at once.
        The same request goes on where it was stopped.
        """
        generator = self.offered.generator(generator)
        self.offered.known(target)  # refuses any other at once
        known = self.models.attributes(generator)
        names = tuple(known.names if attributes is None else known.select(_names(attributes) or ()).names)
        asked = AuditRequest(
            generator=generator, target=target, attributes=names, faces=faces, seed=self.seed, steps=steps,
            epsilon=epsilon, quick=quick,
        )  # fmt: skip
        return self.audits.status(self.audits.start(asked))

    def status(self, job: str) -> dict:
        """How far an audit is: its state (running, finished, stopped or failed), and how much is done of what."""
        return self.audits.status(_text("job", job))

    def stop(self, job: str) -> dict:
        """Stop an audit; what is finished is kept, and the same request goes on from there."""
        return self.audits.stop(_text("job", job))

    def result(self, job: str) -> dict:
        """What a finished audit found: its finding in one sentence, a row for each attribute, and its files."""
        report = self.audits.store.report(_text("job", job))
        folder = self._folder()
        pack(report, folder / f"{report.folder.name}.zip")
        for name in (REPORT, RESULTS):
            shutil.copyfile(report.folder / name, folder / name)
        files = {path.suffix[1:]: _file(path) for path in folder.iterdir()}
        return report.histogram | {"job": report.folder.name, "files": files}

    def compare(self, first: str, second: str) -> dict:
        """What the second of two finished audits of the same faces found more or less often than the first."""
        store = self.audits.store
        return compare(*(store.report(_text("job", job)).folder for job in (first, second)))

    def targets(self) -> dict:
        """The models that can be attacked and audited, and what each predicts."""
        return {"targets": _entries(catalogue.targets(), self.offered.targets)}

    def generators(self) -> dict:
        """Where faces come from."""
        return {"generators": _entries(catalogue.generators(), self.offered.generators)}

    def attributes(self, generator: str = GENERATOR) -> dict:
        """The attributes of a generator: names, units, safe ranges, and what going down and up means."""
        generator = self.offered.generator(generator)
        return {"attributes": catalogue.described(self.models.attributes(generator))}

    def _folder(self) -> Path:
        """A new folder; those whose files were given are removed."""
        there = Path(self._files.name)
        for old in there.iterdir():
            with suppress(FileNotFoundError):  # another thread was faster
                if time.time() - old.stat().st_mtime > KEPT_SECONDS:
                    shutil.rmtree(old, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=there))

    def _pictures(self, pictures: dict[str, Any], name: str) -> dict[str, dict]:
        folder, files = self._folder(), {}
        for kind, picture in pictures.items():
            path = folder / f"{name}-{kind}.png"
            picture.save(path)
            files[kind] = _file(path)
        return files


def _in_one_line(work: Callable[..., dict]) -> Callable[..., dict]:
    """The same with errors as one line, for the one who asks and not for the log."""

    @wraps(work)
    def answer(*arguments: Any) -> dict:
        try:
            return work(*arguments)
        except Cancelled:
            raise gr.Error("stopped", print_exception=False) from None
        except (RequestError, WorkError) as error:
            raise gr.Error(str(error), print_exception=False) from None

    return answer


def _file(path: Path) -> dict:
    return {"path": str(path), "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}


def _names(attributes: Any) -> tuple[str, ...] | None:
    if attributes is None:
        return None
    if not isinstance(attributes, list | tuple) or not all(isinstance(name, str) for name in attributes):
        raise RequestError(f"attributes={attributes!r:.80} are no names; give a list, as ['age', 'yaw']")
    return tuple(attributes)


def _changes(attributes: Any) -> dict[str, float]:
    if attributes is None:
        return {}
    fine = isinstance(attributes, dict) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST
        for value in attributes.values()
    )
    if not fine:
        raise RequestError(f"attributes={attributes!r:.80} are no changes; give them by name, as {{'age': 20}}")
    return {str(name): float(value) for name, value in attributes.items()}


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise RequestError(f"{name}={value!r:.80} is no text; give a job's name, as /audit does")
    return value


def _entries(known: list[dict[str, Any]], offered: Sequence[str]) -> list[dict[str, Any]]:
    """What is known of each model that is offered."""
    told = {entry["name"]: entry for entry in known}
    return [told.get(name, {"name": name}) for name in offered]
