"""What directions are worth: how far readings follow them, in which unit, over which range, and what they drag along.

Letters: N faces, F labels, K attributes, P points of a curve.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sia_gen.attributes.attribute_space import Attribute, AttributeSpace
from sia_gen.core.executors import Progress
from sia_gen.core.images import Images, quantise
from sia_gen.core.seeds import face_seeds
from sia_gen.generators.generator import Codes, Generator
from sia_gen.generators.weights import weights_digest

READABLE = 0.3  # sd per sd: what answers less is not corrected, for it would go much too far
POINTS = (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0)  # of a response curve, in shares of the reach
SHARES, STEADY = (1.0, 0.75, 0.5), 0.15  # of the reach, the first in which the slope is 1 but for so much is safe
SIGNIFICANT = "{:.2g}"  # a safe range is known no better


@dataclass(frozen=True)
class Labels:
    """What is known of faces, F things by name, each with its spread ``sd [F]`` over faces in its unit.

    ``of`` gives the values ``[B, F]`` of the faces with these seeds; ``read`` reads them off images, ``[B, F]``.
    ``draw`` gives these faces' codes, where they are others than the generator's own samples: what goes together in
    those can't be told apart by them.
    """

    names: Sequence[str]
    sd: Tensor
    of: Callable[[Sequence[int]], Tensor]
    read: Callable[[Images], Tensor]
    draw: Callable[[Sequence[int]], Codes] | None = None


@dataclass(frozen=True)
class Wanted:
    """An attribute to find: its name, its words, how far may be safe, in sd of the faces, and the label that reads it.

    That is the one of its name unless told.
    """

    name: str
    unit: str
    negative: str
    positive: str
    reach: float = 2.0
    reads: str | None = None


def calibrated(
    generator: Generator,
    labels: Labels,
    wanted: Sequence[Wanted],
    directions: Tensor,
    space: str,
    *,
    among: Sequence[int] | None = None,
    trials: int = 64,
    seed: int = 1,
    progress: Progress | None = None,
) -> AttributeSpace:
    """The attributes of ``directions`` ``[K, ...]``, each about one sd of the label that it is ``wanted`` to move.

    They are scaled so that one unit asked is one unit moved, on average over what of the reach is safe. Slope, leakage
    (over the labels ``among``, by default all) and response curves are read off other faces.
    """
    columns = [list(labels.names).index(want.reads or want.name) for want in wanted]
    among = range(len(labels.names)) if among is None else among
    scaling, fresh = (generator.sample(face_seeds(seed + step, trials)) for step in (2, 1))
    reach = [want.reach for want in wanted]
    # One unit asked is to be one unit moved, on average over what of the reach is safe.
    followed = follow(generator, labels, scaling, directions, space, columns, reach)
    slopes = torch.tensor([_steady(rows, most)[1] for rows, most in zip(followed, reach, strict=True)])
    slopes = torch.where(slopes >= READABLE, slopes, 1.0)
    directions = directions / slopes.view(-1, *[1] * (directions.ndim - 1))
    moved = measure(generator, labels, fresh, directions, space, progress).abs().mean(1)  # [K, F]
    dragged = [[other for other in among if other != column] for column in columns]
    others = [float(row[each].sum()) / max(1, len(each)) for row, each in zip(moved, dragged, strict=True)]
    readings = follow(generator, labels, fresh, directions, space, columns, reach)
    attributes = []
    for row, (want, column) in enumerate(zip(wanted, columns, strict=True)):
        sd = labels.sd[column].item()
        share, slope, curve, monotony = _steady(readings[row], want.reach)
        safe = share * want.reach * sd
        low, high, spread_of_faces = (float(SIGNIFICANT.format(x)) for x in (-safe, safe, sd))
        attributes.append(
            Attribute(
                want.name,
                want.unit,
                low,
                high,
                spread_of_faces,
                round(slope, 3),
                round(others[row], 3),
                want.negative,
                want.positive,
                tuple(round(value, 4) for value in (curve * sd).tolist()),
                round(monotony, 3),
            )
        )
    per_unit = directions / labels.sd[columns].view(-1, *[1] * (directions.ndim - 1))
    return AttributeSpace(generator.name, space, tuple(attributes), per_unit, weights_digest(generator))


@torch.inference_mode()
def follow(
    generator: Generator,
    labels: Labels,
    codes: Codes,
    directions: Tensor,
    space: str,
    columns: Sequence[int],
    reach: Sequence[float],
) -> Tensor:
    """Each attribute's own reading ``[K, N, P]`` at points of its ``reach``, all in sd."""
    curves = []
    for direction, column, most in zip(directions.to(codes.device), columns, reach, strict=True):
        read = []
        for point in POINTS:
            edits = (point * most * direction).expand(len(codes), *direction.shape)
            read.append(labels.read(quantise(generator.render(codes, edits, space)))[:, column] / labels.sd[column])
        curves.append(torch.stack(read, dim=1))
    return torch.stack(curves)


def _steady(readings: Tensor, reach: float) -> tuple[float, float, Tensor, float]:
    """The largest share of the reach that readings ``[N, P]`` follow evenly, else the least that is tried.

    With it, over that share: the least-squares slope of the mean reading over what was asked, the mean change of
    reading at its points, and Spearman's correlation of reading and edit, mean over faces.
    """
    from scipy.stats import spearmanr

    points = torch.tensor(POINTS)
    for share in SHARES:
        inside = points.abs() <= share + 1e-6
        asked, rows = points[inside] * reach, readings[:, inside]
        curve = (rows - rows[:, len(asked) // 2, None]).mean(0)
        slope = ((asked * curve).sum() / asked.square().sum()).item()
        if abs(slope - 1) <= STEADY:
            break
    monotony = sum(float(spearmanr(asked, row).statistic) for row in rows.tolist()) / len(rows)
    return share, slope, curve, monotony


@torch.inference_mode()
def measure(
    generator: Generator,
    labels: Labels,
    codes: Codes,
    directions: Tensor,
    space: str = "w",
    progress: Progress | None = None,
) -> Tensor:
    """Response ``[K, N, F]`` of the readings, in sd per sd, to one sd down and up along ``directions [K, ...]``."""
    rows = []
    for index, direction in enumerate(directions.to(codes.device)):
        edit = direction.expand(len(codes), *direction.shape)
        up, down = (labels.read(quantise(generator.render(codes, sign * edit, space))) for sign in (1, -1))
        rows.append((up - down) / (2 * labels.sd))
        if progress:
            progress(index + 1, len(directions), "measuring attributes")
    return torch.stack(rows)
