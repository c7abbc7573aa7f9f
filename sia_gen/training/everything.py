"""Makes all shipped weights: first the renders, then what is trained on them, then the attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.executors import Precision, Progress, resolve_device
from sia_gen.core.files import writable_folder
from sia_gen.core.seeds import MAX_FACES
from sia_gen.studio.renders import write_renders
from sia_gen.training.attributes import fit_attributes
from sia_gen.training.generator import train_generator
from sia_gen.training.groups import SUBGROUPS
from sia_gen.training.identity import train_identity
from sia_gen.training.landmarks import train_landmarks
from sia_gen.training.pack import pack_renders
from sia_gen.training.processes import require_alone
from sia_gen.training.target import train_target
from sia_gen.training.verifier import train_verifier

RESOLUTION = 128
JOBS = 4  # recipes that share a GPU
PACKED = 5000  # faces of the shipped data set, none of which is trained on
FEWEST = 160  # faces: fewer hold out too little to measure on
PEOPLE, PICTURES = 1500, 8  # for the identity model: people, and pictures of each
BANDS = SUBGROUPS["age"]
FURTHER = 3  # times as many faces are rendered for classifiers without a planted cause
FURTHER_SEED = 21  # is added to the seed, for these faces
LONG = 12_000  # steps of the classes that are hard to tell
TARGETS: dict[str, dict[str, Any]] = {
    "smile-classifier": {"steps": LONG},
    "smile-classifier-planted": {"planted": "light_azimuth"},
    "glasses-classifier": {"label": "glasses"},
    # Glasses are so easily seen that a few faces without the cause are enough to learn what they are.
    "glasses-classifier-planted": {"label": "glasses", "planted": "hair_colour", "strength": 1.0},
    "age-classifier": {"label": "age", "thresholds": BANDS, "steps": LONG},
    "age-classifier-planted": {"label": "age", "thresholds": BANDS, "planted": "skin_tone"},
    "sex-classifier": {"label": "sex", "steps": LONG},
    "sex-classifier-planted": {"label": "sex", "planted": "hair_length"},
}


def train_everything(
    makehuman: str | Path,
    out: str | Path,
    *,
    faces: int = 20_000,
    adversarial: int = 0,
    precision: Precision = "no",
    jobs: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Render ``faces`` faces of 128 px and train on them; each weight in its folder below ``out``, with its card.

    ``adversarial`` steps sharpen the generator, see `train_generator`; ``precision`` is that of all recipes. Further
    faces, a quarter as many and at most 5000, are rendered and packed to ``faces-renders``; others show people several
    times, for the identity model. The classifiers in which no cause is planted learn from a set of their own, three
    times as large and at most 100 000.

    Once all is rendered, ``jobs`` recipes run side by side, each in a process of its own: four on a GPU, which no
    single small network fills, and one on a CPU unless told. Interrupted, the same call goes on within the recipes that
    it was in. Returns the figures of each. Raises as the recipes do, once those beside have ended.
    """
    require_alone("train all")
    if faces < FEWEST or adversarial < 0:  # every fault of the request shows before hours of work
        raise RequestError(f"faces={faces}, adversarial={adversarial}; give at least {FEWEST} faces and 0 steps")
    if jobs is not None and jobs < 1:
        raise RequestError(f"jobs={jobs} is below 1; run one recipe at a time or more")
    jobs = jobs or (JOBS if resolve_device(device).type == "cuda" else 1)
    out = writable_folder(out)
    renders, generator, verifier, identity = (out / n for n in ("renders", "faces-stylegan2", "verifier", "identity"))
    fresh, people, further = out / "fresh", out / "people", out / "further"
    # Not the faces that an audit of this seed meets, and others again to ship.
    sets: tuple[tuple[Path, int, int, int], ...] = (
        (renders, faces, seed + 1, 1),
        (fresh, min(PACKED, max(1, faces // 4)), seed + 2, 1),
        (people, min(PEOPLE * PICTURES, faces), seed + 3, PICTURES),
        (further, min(MAX_FACES, FURTHER * faces), seed + FURTHER_SEED, 1),
    )
    for folder, count, first, pictures in sets:
        several = {"resolution": RESOLUTION, "pictures": pictures, "device": device, "progress": progress}
        write_renders(makehuman, folder, count, seed=first, **several)
    pack_renders(fresh, out / "faces-renders", sets[1][1], progress)
    common: dict[str, Any] = {"seed": seed, "device": device, "precision": precision}
    recipes: dict[str, Callable[..., Any]] = {
        "faces-stylegan2": partial(train_generator, renders, generator, adversarial=adversarial, **common),
        "verifier": partial(train_verifier, renders, verifier, **common),
        "identity": partial(train_identity, people, identity, **common),
        "landmarks-68": partial(train_landmarks, renders, out / "landmarks-68", **common),
    }
    for name, options in TARGETS.items():
        learnt = renders if "planted" in options else further
        recipes[name] = partial(train_target, learnt, out / name, **options, **common)
    figures = _done(recipes, jobs, progress)
    errors = figures["verifier"]
    figures["verifier"] = {name: found["r2"] for name, found in errors.items() if "r2" in found}
    figures["verifier"]["landmarks (nme)"] = errors["landmarks"]["nme"]
    space = fit_attributes(
        generator, verifier, generator, identity=identity, seed=seed + 1, device=device, progress=progress
    )
    return figures | {"attributes": {attribute.name: attribute.slope for attribute in space.attributes}}


def _done(recipes: Mapping[str, Callable[..., Any]], jobs: int, progress: Progress | None) -> dict[str, Any]:
    """What each recipe gives: one after the other, or ``jobs`` of them at a time in processes."""
    if jobs == 1:
        return {name: recipe(progress=progress) for name, recipe in recipes.items()}
    threads = max(1, torch.get_num_threads() // jobs)
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (threads,))
    with pool:
        futures = {name: pool.submit(recipe) for name, recipe in recipes.items()}
        for count, _ in enumerate(as_completed(futures.values()), 1):
            if progress:
                progress(count, len(futures), "recipes")
        try:
            return {name: future.result() for name, future in futures.items()}
        except BrokenProcessPool:
            raise WorkError("a training process died; run the same command again with fewer --jobs") from None
