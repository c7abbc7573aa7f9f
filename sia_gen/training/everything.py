"""Makes all shipped weights, one recipe after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Progress
from sia_gen.core.files import writable_folder
from sia_gen.core.seeds import MAX_FACES
from sia_gen.studio.renders import write_renders
from sia_gen.training.attributes import fit_attributes
from sia_gen.training.generator import train_generator
from sia_gen.training.groups import SUBGROUPS
from sia_gen.training.identity import train_identity
from sia_gen.training.landmarks import train_landmarks
from sia_gen.training.pack import pack_renders
from sia_gen.training.target import train_target
from sia_gen.training.verifier import train_verifier

RESOLUTION = 128
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
    precision: Literal["no", "bf16"] = "no",
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Render ``faces`` faces of 128 px and train on them; each weight in its folder below ``out``, with its card.

    ``adversarial`` steps sharpen the generator and ``precision`` is its own, see `train_generator`. Further faces, a
    quarter as many and at most 5000, are rendered and packed to ``faces-renders``; others show people several times,
    for the identity model. The classifiers in which no cause is planted learn from a set of their own, three times as
    large and at most 100 000.

    Interrupted, the same call goes on within the recipe that it was in. Returns the figures of each. Raises as the
    recipes do.
    """
    if faces < FEWEST or adversarial < 0:  # every fault of the request shows before hours of work
        raise RequestError(f"faces={faces}, adversarial={adversarial}; give at least {FEWEST} faces and 0 steps")
    out = writable_folder(out)
    renders, generator, verifier = out / "renders", out / "faces-stylegan2", out / "verifier"
    common: dict[str, Any] = {"device": device, "progress": progress}
    learning = common | {"seed": seed, "precision": precision}
    # Not the faces that an audit of this seed meets, and others again to ship.
    write_renders(makehuman, renders, faces, seed=seed + 1, resolution=RESOLUTION, **common)
    fresh, shipped = out / "fresh", min(PACKED, max(1, faces // 4))
    write_renders(makehuman, fresh, shipped, seed=seed + 2, resolution=RESOLUTION, **common)
    pack_renders(fresh, out / "faces-renders", shipped, progress)
    figures: dict[str, Any] = {
        "faces-stylegan2": train_generator(renders, generator, adversarial=adversarial, **learning)
    }
    errors = train_verifier(renders, verifier, **learning)
    figures["verifier"] = {name: found["r2"] for name, found in errors.items() if "r2" in found}
    figures["verifier"]["landmarks (nme)"] = errors["landmarks"]["nme"]
    shown = min(PEOPLE * PICTURES, faces)
    several = {"seed": seed + 3, "resolution": RESOLUTION, "pictures": PICTURES}
    write_renders(makehuman, out / "people", shown, **several, **common)
    figures["identity"] = train_identity(out / "people", out / "identity", **learning)
    space = fit_attributes(generator, verifier, generator, identity=out / "identity", seed=seed + 1, **common)
    figures["attributes"] = {attribute.name: attribute.slope for attribute in space.attributes}
    figures["landmarks-68"] = train_landmarks(renders, out / "landmarks-68", **learning)
    further, most = out / "further", min(MAX_FACES, FURTHER * faces)
    write_renders(makehuman, further, most, seed=seed + FURTHER_SEED, resolution=RESOLUTION, **common)
    for name, options in TARGETS.items():
        learnt = renders if "planted" in options else further
        figures[name] = train_target(learnt, out / name, **options, **learning)
    return figures
