"""What a target is held against: the verifier's reading of the label where there is one, else its own prediction.

Landmarks move with the face, so that those of a target are held against what the verifier reads off each same image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sia_gen.attack.edit import edit
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.core.errors import RequestError, unknown
from sia_gen.core.executors import Batches, Precision, autocast
from sia_gen.core.files import shipped
from sia_gen.core.images import Images, quantise
from sia_gen.generators.generator import Codes, Generator
from sia_gen.targets.points import FACE_POINTS, Keypoints
from sia_gen.targets.target import Label, Target, ask, classify
from sia_gen.targets.task import Classification, Following, Regression, Task
from sia_gen.targets.verifier import Verifier, load_verifier

VERIFIER, NONE = "verifier", "none"  # who judges: the verifier that comes with the package, or nobody
FURTHEST = 4.0  # sd from the mean of a factor: no face lies beyond
STAYS = 0.5  # sd of a value over faces (the report says "half"): what moved further has another label
# What the settings of a run say that the reference was.
VERIFIED, OWN, MOVING = "verifier reading", "target's own prediction", "verifier reading of every image"


@dataclass(frozen=True)
class VerifiedLabel:
    """Reads the label of a face off its image, independently of the target: its class, or without thresholds a value.

    The value of a regression has a unit of its own, so that it is not held against the reading; but the reading tells
    whether an edit moved the truth.
    """

    verifier: Verifier
    factor: int
    thresholds: tuple[float, ...]

    def read(self, images: Images) -> Tensor:
        """Images ``[B, 3, H, W]`` → classes ``[B]``: how many thresholds lie at or below the verifier's reading."""
        return self.classify(self.verifier.read(images))

    def kept(self, before: Images, after: Tensor, reference: Tensor) -> Tensor:
        """Whether faces ``before`` an edit ``[B, 3, H, W]`` have their label still, by readings ``after`` ``[B, F]``.

        A class is that of the ``reference`` ``[B]``; a value has moved by half a standard deviation at most, as far as
        its reading, stretched by how far that follows the truth, tells.
        """
        if self.thresholds:
            return self.classify(after) == reference.to(after.device)
        return self.still(self.verifier.read(before), after)

    def still(self, before: Tensor, after: Tensor) -> Tensor:
        """The same by what was read ``before``, too ``[B, F]``, in place of a reference."""
        if self.thresholds:
            return self.classify(before) == self.classify(after)
        factor = self.verifier.factors[self.factor]
        return (after - before)[:, self.factor].abs() / factor.follows <= STAYS * factor.sd

    def drift(self, before: Images, after: Tensor) -> Tensor:
        """How far the reading of the label moved ``[B]``, in what the verifier is off by; arguments as for `kept`."""
        factor = self.verifier.factors[self.factor]
        return (after - self.verifier.read(before))[:, self.factor].abs() / factor.off

    def classify(self, values: Tensor) -> Tensor:
        """The verifier's readings ``[B, F]`` → classes ``[B]``."""
        return classify(values[:, self.factor].float(), self.thresholds)


@dataclass
class Followed:
    """A keypoint target; each prediction ``[B, 2, 68, 2]`` brings the verifier's reading of the same images along.

    No gradient flows through that reading: an attack must not make the verifier err.
    """

    target: Target
    verifier: Verifier
    name: str
    task: Task
    differentiable: bool
    label: Label | None = None

    def predict(self, images: Images) -> Tensor:
        points = ask(self.target, images)
        self.target.task.check(points.detach().nan_to_num(), len(images))
        with torch.no_grad():
            read = self.verifier.read_landmarks(images)
        return torch.stack([points.float(), read.to(points.device).float()], dim=1)


def shipped_verifier(device: torch.device) -> Verifier | None:
    """The verifier that comes with the package, where one does."""
    return load_verifier(VERIFIER, device) if VERIFIER in shipped("verifier") else None


def verifier_named(by: str, device: torch.device) -> Verifier | None:
    """The verifier called `VERIFIER`, where it comes with the package, one in a folder or of a hub id, or `NONE`.

    Raises what `load_verifier` does.
    """
    if by == NONE:
        return None
    return shipped_verifier(device) if by == VERIFIER else load_verifier(by, device)


def followed(target: Target, device: torch.device, by: str = VERIFIER) -> Target:
    """A keypoint target beside the reading of its landmarks ``by`` a verifier, any other as it is.

    Raises `RequestError` for points that the verifier does not read: an edit moves them, and nothing would say where
    to.
    """
    if not isinstance(target.task, Keypoints):
        return target
    verifier = verifier_named(by, device)
    if target.task.points != FACE_POINTS.points or verifier is None or not len(verifier.point_mean):
        who = {VERIFIER: "no shipped verifier reads", NONE: "nobody is to read"}.get(by, f"'{by}' does not read")
        raise RequestError(
            f"'{target.name}' gives {target.task.points} points, which {who} off an edited face; "
            f"audit a target of the {FACE_POINTS.points} landmarks of a face"
        )
    return Followed(target, verifier, target.name, Following(target.task), target.differentiable)


def unfollowed(target: Target) -> Target:
    """The target itself, of one that a verifier follows."""
    return target.target if isinstance(target, Followed) else target


def verified_label(target: Target, device: torch.device, by: str = VERIFIER) -> VerifiedLabel | None:
    """How to read this target's label ``by`` a verifier, or None where that cannot."""
    classes = isinstance(target.task, Classification)
    if target.label is None or not (classes or isinstance(target.task, Regression)):
        return None
    verifier = verifier_named(by, device)
    if verifier is None:
        return None
    names = [factor.name for factor in verifier.factors]
    if target.label.attribute not in names:
        return None
    return VerifiedLabel(verifier, names.index(target.label.attribute), target.label.thresholds if classes else ())


def require_told(target: Target, known: Sequence[str], device: torch.device, by: str = VERIFIER) -> None:
    """Raise `RequestError` where what a target is said to predict is neither an attribute nor read by the verifier.

    Nothing would then be left out or judged by it; nor by a cut that no face reaches.
    """
    verifier = verifier_named(by, device)
    factors = {} if verifier is None else {factor.name: factor for factor in verifier.factors}
    said = target.label
    if said is None:
        return
    if said.attribute not in {*known, *factors}:
        raise unknown("label", said.attribute, sorted({*known, *factors}))
    factor = factors.get(said.attribute)
    for cut in said.thresholds:
        if factor is not None and abs(cut - factor.mean) > FURTHEST * factor.sd:
            raise RequestError(
                f"label {said.attribute} is cut at {cut:g} {factor.unit}, which no face reaches (their mean is "
                f"{factor.mean:.3g}, sd {factor.sd:.3g}); give it in that unit"
            )


def reference_name(target: Target, verified: VerifiedLabel | None) -> str:
    if isinstance(target, Followed):
        return MOVING
    return VERIFIED if verified is not None and verified.thresholds else OWN


@torch.no_grad()
def as_sampled(
    generator: Generator, space: AttributeSpace, codes: Codes, verified: VerifiedLabel | None, precision: Precision
) -> tuple[Tensor, Tensor | None]:
    """The unedited faces of ``codes`` as `edit` gives them, ``[N, 3, R, R]`` on the CPU, and what `reference_of` does.

    They are edited by nothing, not left unedited: in half precision a generator may round the two differently.
    """
    nothing = torch.zeros(len(codes), len(space.attributes), device=codes.device)

    def render(part: slice) -> tuple[Tensor, Tensor | None]:
        with autocast(codes.device, precision):
            faces = edit(generator, space, codes[part], nothing[part])
        return faces.cpu(), reference_of(verified, quantise(faces))

    rendered, read = zip(*Batches(len(codes))(len(codes), render), strict=True)
    return torch.cat(rendered), None if read[0] is None else torch.cat(read)


@torch.no_grad()
def reference_of(verified: VerifiedLabel | None, images: Images) -> Tensor | None:
    """The class ``[B]`` read off unedited 8-bit faces ``[B, 3, R, R]``, or None where nothing reads it."""
    return None if verified is None or not verified.thresholds else verified.read(images)
