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
from sia_gen.core.executors import Progress, resolve_device
from sia_gen.core.files import writable_folder
from sia_gen.studio.renders import write_renders
from sia_gen.training.attributes import fit_attributes
from sia_gen.training.generators.diffusion import train_diffusion
from sia_gen.training.generators.stylegan2 import train_generator
from sia_gen.training.groups import SUBGROUPS
from sia_gen.training.identity import train_identity
from sia_gen.training.landmarks import train_landmarks
from sia_gen.training.pack import pack_renders
from sia_gen.training.processes import require_alone
from sia_gen.training.target import train_target
from sia_gen.training.verifier import train_verifier

RESOLUTION = 128
PACKED = 5000  # faces of the shipped data set, none of which is trained on
FEW = 5000  # faces for the twins: of more, or of some that go against the cause, the label itself would be learnt
FEWEST = 160  # faces: fewer hold out too little to measure on
PEOPLE, PICTURES = 2000, 8  # for the identity model: people, and pictures of each
BANDS = SUBGROUPS["age"]
DIFFUSED = ("age", "sex", "skin_tone", "yaw", "light_azimuth", "hair_colour")
"""The attributes of the diffusion model, which takes seconds where the other generator takes milliseconds."""
RECIPES: dict[str, dict[str, dict[str, int]]] = {
    # weights             on a GPU: steps and batch           on a CPU, with the recipe's own batch
    "faces-stylegan2": {"cuda": {"steps": 10_000, "batch": 64, "adversarial": 3000}, "cpu": {"steps": 26_000}},
    "faces-ddpm": {"cuda": {"steps": 20_000, "batch": 128}, "cpu": {"steps": 12_000}},
    "verifier": {"cuda": {"steps": 10_000, "batch": 128}, "cpu": {"steps": 12_000}},
    "identity": {"cuda": {"steps": 4000, "batch": 128}, "cpu": {"steps": 4000}},
    "landmarks-68": {"cuda": {"steps": 9000, "batch": 32}, "cpu": {"steps": 6000}},
    "target": {"cuda": {"steps": 5000, "batch": 128}, "cpu": {"steps": 12_000}},
    "planted": {"cuda": {"steps": 1500, "batch": 32}, "cpu": {"steps": 1500}},
}
TARGETS: dict[str, dict[str, Any]] = {
    "smile-classifier": {},
    "smile-classifier-planted": {"planted": "light_azimuth"},
    "glasses-classifier": {"label": "glasses"},
    "glasses-classifier-planted": {"label": "glasses", "planted": "background_lightness"},
    "age-classifier": {"label": "age", "thresholds": BANDS},
    "age-classifier-planted": {"label": "age", "thresholds": BANDS, "planted": "pitch"},
    "sex-classifier": {"label": "sex"},
    "sex-classifier-planted": {"label": "sex", "planted": "yaw"},
}


def train_everything(
    makehuman: str | Path | None,
    out: str | Path,
    *,
    faces: int = 50_000,
    jobs: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Render ``faces`` faces of 128 px and train on them; each weight in its folder below ``out``, with its card.

    Steps and batches are those of `RECIPES`; on a GPU all trains in mixed precision, and a discriminator sharpens the
    generator. Further faces, a quarter as many and at most 5000, are rendered and packed to ``faces-renders``; others
    show people several times, for the identity model.

    The twins learn from few faces of their own, which lets them take up their cause.

    Once all is rendered, ``jobs`` recipes run side by side, each in a process of its own: all of them on a GPU, which
    no small network fills, and one on a CPU unless told. Interrupted, the same call goes on within the recipes that it
    was in. Returns the figures of each. Raises as the recipes do, once those beside have ended.
    """
    require_alone("train all")
    if faces < FEWEST:  # every fault of the request shows before hours of work
        raise RequestError(f"faces={faces} are too few to train on; give at least {FEWEST}")
    if jobs is not None and jobs < 1:
        raise RequestError(f"jobs={jobs} is below 1; run one recipe at a time or more")
    kind = "cuda" if resolve_device(device).type == "cuda" else "cpu"
    out = writable_folder(out)
    renders, fresh, people, few = out / "renders", out / "fresh", out / "people", out / "few"
    # Not the faces that an audit of this seed meets, and others again to ship.
    packed = min(PACKED, max(1, faces // 4))
    many = min(PEOPLE * PICTURES, faces)
    sets = ((renders, faces, 1, 1), (fresh, packed, 2, 1), (people, many, 3, PICTURES), (few, min(FEW, faces), 31, 1))
    for folder, count, step, pictures in sets:
        options = {"resolution": RESOLUTION, "pictures": pictures, "device": device, "progress": progress}
        write_renders(makehuman, folder, count, seed=seed + step, **options)
    pack_renders(fresh, out / "faces-renders", packed, progress)
    common: dict[str, Any] = {"seed": seed, "device": device, "precision": "bf16" if kind == "cuda" else "no"}

    def recipe(train: Callable[..., Any], source: Path, name: str, like: str, **options: Any) -> Callable[..., Any]:
        return partial(train, source, out / name, **RECIPES[like][kind], **options, **common)

    recipes = {
        "faces-stylegan2": recipe(train_generator, renders, "faces-stylegan2", "faces-stylegan2"),
        "faces-ddpm": recipe(train_diffusion, renders, "faces-ddpm", "faces-ddpm"),
        "verifier": recipe(train_verifier, renders, "verifier", "verifier"),
        "identity": recipe(train_identity, people, "identity", "identity"),
        "landmarks-68": recipe(train_landmarks, renders, "landmarks-68", "landmarks-68"),
    }
    for name, options in TARGETS.items():
        if "planted" in options:
            recipes[name] = recipe(train_target, few, name, "planted", strength=1.0, **options)
        else:
            recipes[name] = recipe(train_target, renders, name, "target", **options)
    figures = _done(recipes, jobs or (len(recipes) if kind == "cuda" else 1), progress)
    errors = figures["verifier"]
    figures["verifier"] = {name: found["r2"] for name, found in errors.items() if "r2" in found}
    figures["verifier"]["landmarks (nme)"] = errors["landmarks"]["nme"]
    generator, told = out / "faces-stylegan2", {"device": device, "progress": progress}
    space = fit_attributes(generator, out / "verifier", generator, identity=out / "identity", seed=seed + 1, **told)
    second, names = out / "faces-ddpm", DIFFUSED
    fit_attributes(second, out / "verifier", second, names=names, faces=2000, trials=12, seed=seed + 1, **told)
    return figures | {"attributes": {attribute.name: attribute.slope for attribute in space.attributes}}


def _done(recipes: Mapping[str, Callable[..., Any]], jobs: int, progress: Progress | None) -> dict[str, Any]:
    """What each recipe gives: one after the other, or ``jobs`` of them at a time in processes."""
    if jobs == 1:
        return {name: recipe(progress=progress) for name, recipe in recipes.items()}
    threads = max(1, torch.get_num_threads() // jobs)
    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (threads,)) as pool:
        futures = {name: pool.submit(recipe) for name, recipe in recipes.items()}
        for count, _ in enumerate(as_completed(futures.values()), 1):
            if progress:
                progress(count, len(futures), "recipes")
        try:
            return {name: future.result() for name, future in futures.items()}
        except BrokenProcessPool:
            raise WorkError("a training process died; run the same command again with fewer --jobs") from None
