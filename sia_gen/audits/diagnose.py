"""The audit: one attack in all its arms over many faces, and the histogram that comes out."""

from __future__ import annotations

import logging
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.load import load_attributes
from sia_gen.audits.arms import SINGLE_STEPS, Arm, Job, arms
from sia_gen.audits.audit_report import HISTOGRAM, AuditReport
from sia_gen.audits.checks import LOOKED_AT, checks, few, in_training_mode
from sia_gen.audits.control import EACH, control_space, random_directions, reaches
from sia_gen.audits.examples import Examples
from sia_gen.audits.figure import draw_collateral, draw_curves, draw_histogram
from sia_gen.audits.finished import fingerprint, probe
from sia_gen.audits.histogram import histogram
from sia_gen.audits.pairs import Pair, arm_of, checked, pair_rows
from sia_gen.audits.reference import reference_of, require_told
from sia_gen.audits.rendered import Rendered, taught
from sia_gen.audits.report import write_report
from sia_gen.audits.results import ARMS, CONTROL, is_control, write_results
from sia_gen.audits.run_folder import MADE_OF, RunFolder
from sia_gen.audits.witness import Witness
from sia_gen.core.errors import Cancelled, RequestError, WorkError
from sia_gen.core.executors import Batches, Progress, resolve_device
from sia_gen.core.files import write_json
from sia_gen.core.images import quantise
from sia_gen.core.locate import lasting
from sia_gen.core.modules import eval_mode
from sia_gen.core.seeds import face_seeds
from sia_gen.generators.generator import Generator
from sia_gen.generators.load import load_generator
from sia_gen.studio.makehuman import installed
from sia_gen.targets.load import load_target
from sia_gen.targets.target import Target, configured

DIRECTIONS = "control.safetensors"
PICTURED = 6  # attributes whose best face is shown


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
    confirm: bool | Literal["auto"] = "auto",
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
    besides.

    Every arm spends all of its steps: what is reported of a face is its worst point, beside it the least change that
    made it fail. Where the generator was taught on the studio's factors and the head mesh is installed, the failing
    people are rendered with the same attributes, and a failure that shows there too is confirmed; ``confirm`` asks for
    that (True), or does without (False).

    ``out`` is the run folder. Each (chunk of faces, arm) is kept there as it finishes: after an error, a `Cancelled`
    from ``progress`` or a kill, the same call does what is missing and gives the same bytes. A chunk is
    ``attack.batch`` faces; ``progress`` counts (chunk, arm) pairs.

    Raises `RequestError` for unknown names, settings other than those in ``out``, a place that cannot be written to, or
    where ``confirm`` is asked for and no studio can; `WorkError` when the target or the generator fails, naming the arm
    and the faces.
    """
    attack = attack or SemanticImageAttack()
    made_of = {
        "generator": None if isinstance(generator, Generator) else lasting("generator", generator),
        "target": None if isinstance(target, Target) else lasting("target", target),
    }
    seeds = face_seeds(seed, faces)
    where = resolve_device(device)
    known, audited = _spaces(generator, attributes, where)
    generator = generator if isinstance(generator, Generator) else load_generator(generator, device)
    target = configured(target if isinstance(target, Target) else load_target(target, device), label, towards)
    if label is not None:
        require_told(target, known.names, where)
    attack = attack.suited(target)
    left_out = [name for name in audited.names if target.label is not None and name == target.label.attribute]
    audited = audited.select([name for name in audited.names if name not in left_out])
    _require_work(attack, audited, left_out)
    pairs = checked(pairs, audited)
    modules, said = [part for part in (generator, target) if isinstance(part, nn.Module)], in_training_mode(target)
    witness = Witness.of(target, audited.names, where)
    target = witness.target
    rendered = _rendered(confirm, generator, target, where)
    settings = {
        "generator": generator.name,
        "target": target.name,
        "attributes": audited.names,
        "left_out": left_out,
        "faces": faces,
        "seed": seed,
        "device": where.type,
        "attack": asdict(attack),
        "single": {"step": "sweep", "steps": SINGLE_STEPS, "directions": EACH},
        "towards": towards,
        "label": label,
        "confirmed_by": None if rendered is None else f"studio, mesh {rendered.mesh}",
        "pairs": [arm_of(pair) for pair in pairs],
        **witness.settings(),
        "edits": fingerprint(known, audited),
    }
    with _folder(out) as path, eval_mode(*modules):
        with _blame("the first face"):
            folder = RunFolder(path, {**settings, MADE_OF: made_of}, probe(generator, target, seeds[0]))
        first = seeds[: min(LOOKED_AT, attack.batch)]
        with _blame(f"the first {len(first)} faces"):
            said += next(Batches(len(first))(len(first), lambda part: _look(generator, witness, first[part])))
        for what in said:  # at once, not only in the report
            logging.getLogger(__name__).warning("'%s': %s", target.name, what)
        plan = arms(attack, audited, _control(folder, generator, known, audited, seed), pairs)
        with _blame("unedited faces"):
            gate = witness.gate(folder, generator, seed, where)
        job = Job(generator, witness, audited, gate, rendered, attack.precision)
        chunks = _attack(folder, job, plan, seeds, attack.batch, progress or (lambda done, total, what: None))
        _conclude(folder, audited, plan, chunks, settings, said, witness, pairs)
        report = AuditReport.load(folder.path)
    if out is None:
        weakref.finalize(report, shutil.rmtree, folder.path, ignore_errors=True)
    return report


def _spaces(
    generator: str | Path | Generator, attributes: Sequence[str] | AttributeSpace | None, device: torch.device
) -> tuple[AttributeSpace, AttributeSpace]:
    """All attributes that are known of the generator, and those that are asked for."""
    if isinstance(attributes, AttributeSpace):
        return attributes.to(device), attributes.to(device)
    name = generator.name if isinstance(generator, Generator) else generator
    known = load_attributes(name, str(device))
    return known, known if attributes is None else known.select(attributes)


def _rendered(
    confirm: bool | Literal["auto"], generator: Generator, target: Target, device: torch.device
) -> Rendered | None:
    """Who confirms failures, where that is asked for or can be done anyway."""
    if confirm is False or (confirm == "auto" and (not taught(generator) or installed() is None)):
        return None
    return Rendered.of(target, generator, device)


def _require_work(attack: SemanticImageAttack, audited: AttributeSpace, left_out: Sequence[str]) -> None:
    if attack.box == 0:
        raise RequestError("box=0 leaves no attribute to move; give an attack with a box above 0")
    if attack.step == "sweep":
        raise RequestError(
            "step='sweep' follows no loss, which an audit's first arms do; choose 'sign' or 'normalised'"
        )
    if not audited.attributes:
        reason = f"'{left_out[0]}' is what the target predicts" if left_out else "none was named"
        raise RequestError(f"no attribute is left to audit: {reason}; name others")
    for name in audited.names:
        if name in ARMS or is_control(name):
            raise RequestError(f"attribute '{name}' has the name of an arm ({', '.join((*ARMS, CONTROL))}); rename it")


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


@contextmanager
def _blame(where: str) -> Iterator[None]:
    """Says where the work failed, whatever a foreign model raises."""
    try:
        yield
    except (RequestError, Cancelled, torch.OutOfMemoryError):
        raise
    except WorkError as error:
        raise WorkError(f"{where}: {error}") from error
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise WorkError(
            f"{where}: {type(error).__name__}: {reason}; mend the target or the generator and run the same again"
        ) from error


def _look(generator: Generator, witness: Witness, seeds: Sequence[int]) -> list[str]:
    """What is to be said of the target before it is audited, from the first faces."""
    with torch.no_grad():
        images = quantise(generator.render(generator.sample(seeds)).float())
    return checks(witness.target, images, reference_of(witness.verified, images))


def _control(
    folder: RunFolder, generator: Generator, known: AttributeSpace, audited: AttributeSpace, seed: int
) -> AttributeSpace:
    """The run's random directions, drawn once and kept, so that all of its faces meet the same ones."""

    def draw() -> dict[str, Tensor]:
        directions = random_directions(generator, known, seed)
        return {"directions": directions, "reach": reaches(generator, known, audited, directions, seed)}

    with _blame("the control"):
        kept = folder.once(DIRECTIONS, draw)
    return control_space(known, kept["directions"], kept["reach"])


def _attack(
    folder: RunFolder, job: Job, plan: Sequence[Arm], seeds: Sequence[int], size: int, progress: Progress
) -> int:
    """Do every (chunk, arm) that has no part yet; gives the number of chunks."""
    starts = range(0, len(seeds), size)
    total = len(starts) * len(plan)
    missing = [(chunk, arm) for chunk in range(len(starts)) for arm in range(len(plan)) if not folder.has(chunk, arm)]
    done = total - len(missing)
    for number, jobs in groupby(missing, key=itemgetter(0)):
        first = starts[number]
        last = min(first + size, len(seeds))
        with _blame(f"faces {first}…{last - 1}"):
            chunk = job.chunk(first, seeds[first:last])
        for _, index in jobs:
            what = f"{plan[index].name}, faces {first}…{last - 1}"
            report = partial(progress, done, total, what)
            report()
            alone = [folder.read(number, other) for other in _alone(plan, plan[index])]
            with _blame(f"arm '{plan[index].name}', faces {first}…{last - 1}"):
                part = job.run(plan[index], chunk, lambda *steps, report=report: report(), alone)
            folder.write(number, index, part)
            done += 1
    progress(total, total, "done")
    return len(starts)


def _alone(plan: Sequence[Arm], arm: Arm) -> list[int]:
    """The places of those arms that move one attribute of several that ``arm`` moves; they come before it."""
    if len(arm.columns) < 2:
        return []
    return [place for place, other in enumerate(plan) if len(other.columns) == 1 and {*other.columns} <= {*arm.columns}]


def _conclude(
    folder: RunFolder,
    audited: AttributeSpace,
    plan: Sequence[Arm],
    chunks: int,
    settings: dict[str, Any],
    said: Sequence[str],
    witness: Witness,
    pairs: Sequence[Pair],
) -> None:
    """From parts to results, histogram, pictures and report; each file is whole or absent."""
    names = [arm.name for arm in plan]
    columns = [*audited.names, CONTROL]
    write_results(folder, names, columns, chunks, witness.kept)
    factors = witness.verifier.factors if witness.verifier is not None else ()
    units = {factor.name: factor.unit for factor in factors if factor.name in witness.kept}
    measured = getattr(witness.target.task, "measured", "")  # a task from elsewhere may not say
    content = histogram(folder.path, audited.attributes, settings, units, measured)
    content["checks"] = [*said, *few(content["correct"], content["faces"])]
    content["pairs"] = pair_rows(folder.path, pairs)
    examples = Examples(folder, columns)
    content["examples"] = examples.joint(names.index("joint"), chunks)
    for row in content["attributes"][:PICTURED]:
        content["examples"] += examples.single(names.index(row["name"]), row["name"], chunks)
    draw_histogram(content, folder.path)
    draw_curves(content, folder.path)
    draw_collateral(content, folder.path)
    write_report(content, audited.attributes, folder.path)
    write_json(folder.path / HISTOGRAM, content)  # last: where it lies, the audit is finished
