"""A transformers ViTPose-type network as a target: images → heat maps → points.

What a network sees and where its points lie follow transformers' image processor of these networks, for a box that
fills the picture, but differentiable.

Letters: B images, K points, H height and W width of a picture, h and w of a heat map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.images import Images, from_pil, to_pil
from sia_gen.targets.formats.pretrained import (
    PROCESSOR,
    checked_config,
    load_network,
    load_processor,
    not_reproduced,
    probe,
    require_files,
)
from sia_gen.targets.points import FACE_POINTS, Keypoints

FLOOR = 1e-3  # of a heat map, before its logarithm
TOLERANCE = 3 / 255  # of what the network sees: processors round to 8 bit
BLUR = (0.239, 0.522, 0.239)  # a Gaussian of 0.8 pixels, the processor's at kernel_size=3: it calms a heat map's peak


@dataclass(frozen=True)
class KeypointNetwork:
    """Points ``[B, K, 2]`` in shares of width and height, x right and y down, of a network that resizes for itself."""

    name: str
    network: nn.Module
    size: tuple[int, int]  # height and width of what the network sees
    mean: Tensor
    std: Tensor
    task: Keypoints
    folder: Path  # that it comes from
    label: None = None
    differentiable: bool = True

    def predict(self, images: Images) -> Tensor:
        pixels = prepared(images, self.size, self.mean, self.std)
        return decoded(self.network(pixel_values=pixels).heatmaps) + 0.5 / images.shape[-1]


def load_keypoints(folder: Path, name: str, device: torch.device) -> KeypointNetwork:
    """The network in a folder that ``VitPoseForPoseEstimation.save_pretrained`` wrote, its processor beside it.

    Which two points its error is measured by stands in the config under ``sia_gen``, and is known for 68 landmarks of
    a face. Raises `RequestError` for a network of other points, `WorkError` for damaged files.
    """
    from transformers import VitPoseForPoseEstimation

    config = checked_config(folder)
    require_files(folder)
    settings = load_processor(folder).to_dict()
    network = load_network(folder, VitPoseForPoseEstimation, "a keypoint network")
    try:
        size = (int(settings["size"]["height"]), int(settings["size"]["width"]))
        if settings.get("do_normalize", True):
            mean, std = (
                torch.tensor(settings[key], device=device).view(3, 1, 1) for key in ("image_mean", "image_std")
            )
        else:
            mean, std = torch.zeros(3, 1, 1, device=device), torch.ones(3, 1, 1, device=device)
        expected = tuple(network.config.backbone_config.image_size)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WorkError(f"'{folder / PROCESSOR}' is damaged ({error!r}); fetch the file again") from None
    experts, scaled = getattr(network.config.backbone_config, "num_experts", 1), settings.get("do_rescale", True)
    if experts > 1 or not scaled or not math.isclose(settings.get("rescale_factor", 1 / 255), 1 / 255):
        raise RequestError(
            f"'{name}' has {experts} experts and do_rescale={scaled}, which is not reproduced; wrap it as "
            "module:callable"
        )
    if size != expected:
        raise WorkError(f"'{folder}' resizes to {size}, but its network was built for {expected}; fetch it again")
    _require_same_input(folder, size, mean.cpu(), std.cpu())
    network = network.eval().requires_grad_(False).to(device)
    return KeypointNetwork(name, network, size, mean, std, _task(config, name, network.config.num_labels), folder)


def _require_same_input(folder: Path, size: tuple[int, int], mean: Tensor, std: Tensor) -> None:
    """Raise `WorkError` where the image processor makes something else of a picture than `warped`."""
    processor, (height, width) = load_processor(folder), (2 * side for side in size)
    image = to_pil(probe(height, width))
    box = [[[0.1 * width, 0.1 * height, 0.8 * width, 0.8 * height]]]  # it adds a quarter
    try:
        theirs = processor(image, boxes=box, return_tensors="pt")["pixel_values"] * std + mean
    except Exception:  # of another kind, whose call takes no boxes
        raise not_reproduced(folder, processor) from None
    ours = warped(from_pil(image)[None], *size)
    inside = (..., slice(1, -1), slice(1, -1))  # what lies a hair beyond the picture they cut off, we fade
    if ours.shape != theirs.shape or (ours - theirs)[inside].abs().max() > TOLERANCE:
        raise not_reproduced(folder, processor)


def _task(config: dict[str, Any], name: str, points: int) -> Keypoints:
    known = config["sia_gen"].get("keypoints")
    if known is None and points == FACE_POINTS.points:
        return FACE_POINTS
    try:
        return Keypoints(points, tuple(known["ends"]), float(known["tolerance"]))
    except (KeyError, TypeError, ValueError):
        raise RequestError(
            f"'{name}' gives {points} points, and not between which two distances are measured; write "
            '"sia_gen": {"keypoints": {"ends": [i, j], "tolerance": 0.08}} into its config.json'
        ) from None


def prepared(images: Images, size: tuple[int, int], mean: Tensor, std: Tensor) -> Tensor:
    """What the network sees of images ``[B, 3, H, W]``."""
    return (warped(images, *size) - mean) / std


def warped(images: Images, height: int, width: int) -> Images:
    """The whole picture at ``[B, 3, height, width]``: pixel i of n is read at i · side / (n − 1), black beyond.

    That is the unbiased warp of Huang et al., "The Devil is in the Details" (CVPR 2020).
    """
    down, across = images.shape[-2:]

    def places(count: int, side: int) -> Tensor:
        at = torch.arange(count, device=images.device, dtype=images.dtype) * side / (count - 1)
        return 2 * at / (side - 1) - 1

    y, x = torch.meshgrid(places(height, down), places(width, across), indexing="ij")
    grid = torch.stack([x, y], dim=-1).expand(len(images), -1, -1, -1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def decoded(heat: Tensor) -> Tensor:
    """Heat maps ``[B, K, h, w]`` → the places ``[B, K, 2]`` of their peaks, as shares 0…1 of width and height.

    From the highest pixel, one Newton step on the logarithm, exact for a Gaussian (Zhang et al., "Distribution-Aware
    Coordinate Representation", CVPR 2020), of at most a pixel; gradients flow through the step.
    """
    with torch.autocast(heat.device.type, enabled=False):  # second differences of a logarithm want all digits
        return _peaks(heat.float())


def _peaks(heat: Tensor) -> Tensor:
    height, width = heat.shape[-2:]
    flat = F.pad(heat.flatten(0, 1)[:, None], (1, 1, 1, 1), mode="replicate")
    kernel = heat.new_tensor(BLUR)
    flat = F.conv2d(F.conv2d(flat, kernel.view(1, 1, 3, 1)), kernel.view(1, 1, 1, 3)).squeeze(1)  # [B·K, h, w]
    peak = heat.detach().flatten(0, 1).flatten(1).argmax(dim=1)
    row, column = (peak // width).clamp(1, height - 2), (peak % width).clamp(1, width - 2)
    every = torch.arange(len(flat), device=heat.device)

    def at(down: int, right: int) -> Tensor:
        return flat[every, row + down, column + right].clamp(min=FLOOR).log()

    middle = at(0, 0)
    slope_x, slope_y = (at(0, 1) - at(0, -1)) / 2, (at(1, 0) - at(-1, 0)) / 2
    bend_x, bend_y = at(0, 1) - 2 * middle + at(0, -1), at(1, 0) - 2 * middle + at(-1, 0)
    twist = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    whole = bend_x * bend_y - twist.square()
    peaked = (whole > 1e-9) & (bend_x < 0)
    whole = torch.where(peaked, whole, torch.ones_like(whole))
    step = torch.stack([twist * slope_y - bend_y * slope_x, twist * slope_x - bend_x * slope_y], dim=1)
    step = torch.where(peaked[:, None], step / whole[:, None], torch.zeros_like(step)).clamp(-1, 1)
    points = torch.stack([column, row], dim=1) + step
    return (points / points.new_tensor([width - 1, height - 1])).view(*heat.shape[:2], 2)
