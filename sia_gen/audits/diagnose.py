"""The audit: one attack in all its arms over many faces, and the histogram that comes out."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.audits.finished.audit_report import AuditReport
from sia_gen.audits.pages.tell import tell
from sia_gen.audits.run.pairs import Pair
from sia_gen.audits.run.plan import plan, run
from sia_gen.audits.run.resolve import resolve
from sia_gen.audits.run.run_folder import begun
from sia_gen.audits.verdict.judge import judge
from sia_gen.core.executors import Progress
from sia_gen.core.modules import eval_mode
from sia_gen.generators.generator import Generator
from sia_gen.targets.target import Target


def audit(
    generator: str | Path | Generator = "faces-stylegan2",
    target: str | Path | Target = "smile-classifier",
    attributes: Sequence[str] | AttributeSpace | None = None,
    *,
    faces: int = 32,
    seed: int = 0,
    out: str | Path | None = None,
    attack: SemanticImageAttack | None = None,
    towards: str | None = None,
    label: str | None = None,
    pairs: Sequence[Pair] = (),
    quick: bool = False,
    confirm: bool | Literal["auto"] = "auto",
    verifier: str | Path | None = "verifier",
    device: str = "cpu",
    progress: Progress | None = None,
) -> AuditReport:
    """Attack ``faces`` faces in all arms and say which attributes the target is sensitive to.

    The arms are "joint", "semantic" (no pixel residual), "pixel" (no attributes), each attribute alone, and the
    control: random directions, three a face, up to where they change the picture as much as any attribute does. The
    last two kinds try eight values from end to end of a range, whatever ``attack.steps``.
    Generator and target are names (see `load_generator`, `load_target`) or objects;
    ``attributes`` are names among the generator's, by default all, or a space of one's own; the attribute that the
    target predicts is left out. ``device`` is where named models go and where objects lie. A classifier with a label
    that the shipped verifier reads is held against that reading, a target of 68 landmarks against those that the
    verifier reads off each image, any other against its own prediction on the unedited face. One that is not
    differentiable is asked only: its attack's steps follow estimates (step "evolve"). With ``towards``, the name of a
    class, a classifier fails where it says that class; faces that are of it are not attacked. ``label`` says what a
    target predicts that does not say so itself, as "smile:0.5" (see `labelled`). Each of ``pairs`` is moved together
    besides. A ``quick`` look leaves out "joint", "semantic" and "pixel" (each attribute alone and the control remain)
    and renders nothing unless ``confirm`` asks for it.

    Every arm spends all of its steps: what is reported of a face is its worst point, beside it the least change that
    made it fail. Where the generator was taught on the studio's factors and the head mesh is installed, the failing
    people are rendered with the same attributes, and a failure that shows there too is confirmed; ``confirm`` asks for
    that (True), or does without (False).

    ``verifier`` is who reads labels and attributes off edited faces: a folder or hub id of another one, for faces of
    another kind, or None: then nothing is called valid. The shipped one is asked of faces like its renders alone.

    ``out`` is the run folder. Each (chunk of faces, arm) is kept there as it finishes: after an error, a `Cancelled`
    from ``progress`` or a kill, the same call does what is missing and gives the same bytes. A chunk is
    ``attack.batch`` faces; ``progress`` counts (chunk, arm) pairs, after a call for the control.

    Raises `RequestError` for unknown names, settings other than those in ``out``, a place that cannot be written to, or
    where ``confirm`` is asked for and no studio can; `WorkError` when the target or the generator fails, naming the arm
    and the faces.
    """
    if out is not None:
        begun(Path(out))  # refuses a place that will not do before anything is loaded
    request = resolve(
        generator, target, attributes, faces=faces, seed=seed, attack=attack, towards=towards, label=label,
        pairs=pairs, quick=quick, confirm=confirm, verifier=verifier, device=device,
    )  # fmt: skip
    with _folder(out) as path, eval_mode(*request.modules):
        say = progress or (lambda done, total, what: None)
        done = run(plan(request, path, say), say)
        report = AuditReport.load(done.folder.path if done.folder.told else tell(judge(done)))
    if out is None:
        weakref.finalize(report, shutil.rmtree, report.folder, ignore_errors=True)
    return report


@contextmanager
def _folder(out: str | Path | None) -> Iterator[Path]:
    """The run folder; without ``out`` a temporary one, which outlives the block only if it ends well."""
    if out is not None:
        yield Path(out)
        return
    path = Path(tempfile.mkdtemp(prefix="sia-gen-"))
    try:
        yield path
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
