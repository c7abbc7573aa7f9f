"""Trains the landmark target: a small ViTPose (Xu et al., NeurIPS 2022) that gives a heat map for each of 68 points.

Letters: B images, R resolution, K points, h side of a heat map.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from sia_gen.core.executors import Precision, Progress
from sia_gen.core.files import read_json, writable_folder, write_json
from sia_gen.core.images import from_bytes
from sia_gen.core.modules import one_seed
from sia_gen.studio.landmarks import in_a_mirror
from sia_gen.studio.renders import RenderSet, read_renders
from sia_gen.targets.formats.keypoints import warped
from sia_gen.targets.load import load_target
from sia_gen.targets.points import FACE_POINTS, PARTS, by_part, normalised_error
from sia_gen.training.card import SHEET, draw_sheet, table, with_points, write_card
from sia_gen.training.groups import groups
from sia_gen.training.loop import learn, scaled_rate
from sia_gen.training.network import augment, either, mirrored_at_random, save_with_processor
from sia_gen.training.processes import TRAINING, first_writes, training_device

BATCH, RATE, SIDE = 16, 1e-3, 64
PATCH, HIDDEN, BLOCKS, HEADS = 8, 128, 6, 4
COLUMNS = 12  # of the sheet, which has two rows
SCALE = 4  # pixels of a heat map to a patch
SPREAD = 2.0  # sd of a wanted heat map's peak, in its pixels
HEAT_WEIGHT = 1000.0  # of the loss, whose squares are small


def train_landmarks(
    renders: str | Path,
    out: str | Path,
    *,
    steps: int = 6000,
    batch: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    precision: Precision = "no",
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train on the folder ``renders``; write a transformers ViTPose folder to ``out``.

    Returns the normalised mean error on held-out renders, the share of faces above the tolerance ("failed"), and the
    error by part of the face and by subgroup. ``batch`` is 16 unless given, on a GPU 64; ``precision`` "bf16" trains
    in mixed precision. Interrupted, the same call goes on.
    """
    data = read_renders(renders)
    out, place = writable_folder(out), training_device(device)
    training = data.training
    with one_seed(seed):
        model = make_vitpose().to(place)

    def prepare(random: torch.Generator, images: Tensor, points: Tensor, turned: Tensor) -> tuple[Tensor, ...]:
        images, flip = mirrored_at_random(augment(images, random), random)
        return warped(images, SIDE, SIDE) * 2 - 1, either(flip, turned, points) - 0.5 / images.shape[-1]

    def loss(network: nn.Module, kind: object, pixels: Tensor, points: Tensor) -> Tensor:
        made = network(pixel_values=pixels).heatmaps.float()
        return HEAT_WEIGHT * (made - heat_maps(points, *made.shape[-2:])).square().mean()

    tables = (data.images, data.landmarks, in_a_mirror(data.landmarks))
    made, settings = learn(
        "landmarks",
        model,
        data,
        tables,
        prepare,
        loss,
        out,
        usual=BATCH,
        rate=RATE,
        steps=steps,
        batch=batch,
        seed=seed,
        precision=precision,
        progress=progress,
    )

    def finish() -> dict[str, float]:
        save_with_processor(
            made.cpu(), out, SIDE, image_processor_type="VitPoseImageProcessor", do_affine_transform=True
        )
        figures = evaluate(out, data, training, place)
        write_json(out / TRAINING, {"settings": settings, "figures": figures})
        shown = from_bytes(data.images[training : training + 2 * COLUMNS])
        draw_sheet(out / SHEET, with_points(shown, load_target(out).predict(shown)).split(COLUMNS))
        describe(out)
        return figures

    return first_writes(finish, out)


def describe(folder: Path) -> None:
    """Write the card of a trained landmark network."""
    training = read_json(folder / TRAINING)
    settings, figures = training["settings"], training["figures"]
    measured = [(name, f"{error:.1%}") for name, error in figures.items() if name not in ("held_out", "failed")]
    write_card(
        folder,
        "landmarks",
        settings["renders"],
        figures["held_out"],
        steps=settings["steps"],
        batch=settings["batch"],
        rate=scaled_rate(RATE, settings["batch"], BATCH),
        seed=settings["seed"],
        precision=settings["precision"],
        side=SIDE,
        tolerance=FACE_POINTS.tolerance,
        failed=figures["failed"],
        figures=table(["held-out renders", "normalised mean error"], measured),
    )


def make_vitpose() -> nn.Module:
    """A ViTPose for pictures of 64 pixels with the plain decoder, in random weights."""
    from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation

    backbone = VitPoseBackboneConfig(
        image_size=[SIDE, SIDE],
        patch_size=[PATCH, PATCH],
        hidden_size=HIDDEN,
        num_hidden_layers=BLOCKS,
        num_attention_heads=HEADS,
        mlp_ratio=3,
        out_indices=[BLOCKS],
    )
    ends = {"ends": list(FACE_POINTS.ends), "tolerance": FACE_POINTS.tolerance}
    extra = {"kind": "target", "keypoints": ends}
    return VitPoseForPoseEstimation(
        VitPoseConfig(backbone_config=backbone, scale_factor=SCALE, num_labels=FACE_POINTS.points, sia_gen=extra)
    )


def heat_maps(points: Tensor, height: int, width: int) -> Tensor:
    """Points ``[B, K, 2]`` in shares 0…1 of the picture → Gaussian peaks of height 1, ``[B, K, height, width]``."""
    x, y = (_bumps(points[..., axis, None], side) for axis, side in ((0, width), (1, height)))  # [B, K, side]
    return y[..., :, None] * x[..., None, :]


def _bumps(places: Tensor, side: int) -> Tensor:
    at = torch.arange(side, device=places.device)
    return (-0.5 * ((at - places * (side - 1)) / SPREAD).square()).exp()


def evaluate(folder: Path, data: RenderSet, start: int, device: torch.device | str = "cpu") -> dict[str, float]:
    """Normalised mean error of a saved network on the faces from ``start`` on."""
    target = load_target(folder, str(device))
    with torch.inference_mode():
        points = torch.cat(
            [target.predict(from_bytes(part.to(device))).cpu() for part in data.images[start:].split(64)]
        )
    error = normalised_error(points, data.landmarks[start:])  # [N, 68]
    faces = error.mean(dim=1)
    figures = {"all": faces.mean().item(), "failed": (faces > FACE_POINTS.tolerance).float().mean().item()}
    figures |= dict(zip(PARTS, by_part(error).mean(0).tolist(), strict=True))
    figures |= {name: faces[group].mean().item() for name, group in groups(data, start).items()}
    return {"held_out": len(faces)} | {name: round(value, 4) for name, value in figures.items()}
