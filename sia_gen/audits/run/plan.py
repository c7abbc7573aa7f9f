"""From a request to its parts: the run folder and the arms that are planned, and each chunk of faces in each arm."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import torch
from torch import Tensor

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.audits.evidence.checks import LOOKED_AT, checks, of_values, outread
from sia_gen.audits.evidence.control import control_space, random_directions, reaches
from sia_gen.audits.evidence.reference import reference_of
from sia_gen.audits.evidence.rendered import taught
from sia_gen.audits.run.arms import Arm, arms
from sia_gen.audits.run.blame import blame
from sia_gen.audits.run.job import Job
from sia_gen.audits.run.resolve import Request
from sia_gen.audits.run.run_folder import MADE_OF, RunFolder, probe
from sia_gen.core.executors import Batches, Progress
from sia_gen.core.images import quantise
from sia_gen.studio.renders import read_renders, shipped_renders

DIRECTIONS = "control.safetensors"
JUDGED = 96  # shipped renders that say who reads a label better, the target or the verifier


@dataclass(frozen=True)
class Plan:
    """Every arm over every chunk of a request's faces, of which ``starts`` are the numbers of the first ones.

    ``missing`` are the (chunk, arm) that are to do, ``said`` is what the target's checks say.
    """

    request: Request
    folder: RunFolder
    arms: Sequence[Arm]
    job: Job
    said: Sequence[str]
    starts: range
    missing: Sequence[tuple[int, int]]


def plan(request: Request, path: Path, progress: Progress) -> Plan:
    """Open the run folder at ``path``, draw the control, and look at the target's first answers.

    Raises `RequestError` where another run lies there, `WorkError` where the target or the generator fails.
    """
    generator, witness, audited = request.generator, request.witness, request.audited
    with blame("the first face"):
        told = probe(generator, witness.target, request.seeds[0])
    folder = RunFolder(path, {**request.settings, MADE_OF: request.made_of}, told)
    planned = arms(request.attack, audited, _control(folder, request, progress), request.pairs, request.quick)
    starts = range(0, len(request.seeds), request.attack.batch)
    missing = [
        (chunk, arm) for chunk in range(len(starts)) for arm in range(len(planned)) if not folder.has(chunk, arm)
    ]
    if missing:
        folder.go_on()
    said = [] if folder.told else _look(request)
    with blame("unedited faces"):
        gate = witness.gate(folder.once, generator, request.seed, request.device)
    job = Job(generator, witness, audited, gate, request.rendered, request.attack.precision)
    return Plan(request, folder, planned, job, said, starts, missing)


def run(plan: Plan, progress: Progress) -> Plan:
    """Do every (chunk, arm) that has no part in the run folder yet; gives the plan, whose parts are all there then."""
    folder, starts, seeds = plan.folder, plan.starts, plan.request.seeds
    total = len(starts) * len(plan.arms)
    done = total - len(plan.missing)
    for number, jobs in groupby(plan.missing, key=itemgetter(0)):
        first = starts[number]
        last = min(first + starts.step, len(seeds))
        with blame(f"faces {first}…{last - 1}"):
            chunk = plan.job.chunk(first, seeds[first:last])
        for _, index in jobs:
            arm = plan.arms[index]
            report = partial(progress, done, total, f"{arm.name}, faces {first}…{last - 1}")
            report()
            alone = [folder.read(number, other) for other in _alone(plan.arms, arm)]
            with blame(f"arm '{arm.name}', faces {first}…{last - 1}"):
                part = plan.job.run(arm, chunk, lambda *steps, report=report: report(), alone)
            folder.write(number, index, part)
            done += 1
    progress(total, total, "done")
    return plan


def _look(request: Request) -> list[str]:
    """What is to be said of the target before it is audited, from the first faces; at once, not only in the report."""
    witness, seeds = request.witness, request.seeds[: min(LOOKED_AT, request.attack.batch)]

    def look(part: slice) -> list[str]:
        with torch.no_grad():
            images = quantise(request.generator.render(request.generator.sample(seeds[part])).float())
        said = checks(witness.target, images, reference_of(witness.verified, images))
        said += of_values(witness.target, witness.verified, images)
        if taught(request.generator) and (folder := shipped_renders()) is not None:
            said += outread(witness.target, witness.verified, read_renders(folder, JUDGED))
        return said

    with blame(f"the first {len(seeds)} faces"):
        said = [*request.said, *next(Batches(len(seeds))(len(seeds), look))]
    for what in said:
        logging.getLogger(__name__).warning("'%s': %s", witness.target.name, what)
    return said


def _control(folder: RunFolder, request: Request, progress: Progress) -> AttributeSpace:
    """The run's random directions, drawn once and kept, so that all of its faces meet the same ones."""
    generator, known, seed = request.generator, request.known, request.seed

    def draw() -> dict[str, Tensor]:
        progress(0, 1, "the control: how far random directions change a picture")
        directions = random_directions(generator, known, seed)
        return {"directions": directions, "reach": reaches(generator, known, request.audited, directions, seed)}

    with blame("the control"):
        kept = folder.once(DIRECTIONS, draw)
    return control_space(known, kept["directions"], kept["reach"])


def _alone(plan: Sequence[Arm], arm: Arm) -> list[int]:
    """The places of those arms that move alone an attribute that ``arm`` ascends in; they come before it."""
    if arm.attack.step == "sweep":
        return []
    searched = [place for place, other in enumerate(plan) if other.attack.step == "sweep"]
    return [place for place in searched if {*plan[place].columns} <= {*arm.columns}]
