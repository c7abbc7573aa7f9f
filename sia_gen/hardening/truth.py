"""What is right of generated faces, known without the model that learns from them where that can be.

Letters: N faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sia_gen.audits.evidence.reference import VERIFIER, VerifiedLabel, verified_label, verifier_named
from sia_gen.audits.evidence.rendered import taught
from sia_gen.audits.evidence.witness import unfamiliar
from sia_gen.core.errors import RequestError
from sia_gen.core.images import Images
from sia_gen.generators.generator import Generator
from sia_gen.studio.factors import NAMES
from sia_gen.studio.sampling import sample
from sia_gen.targets.points import FACE_POINTS, Keypoints
from sia_gen.targets.target import Target, ask, classify
from sia_gen.targets.task import Classification, MultiLabel, Regression
from sia_gen.targets.verifier import Verifier


class Truth(Protocol):
    """Says what a model should say of faces."""

    @property
    def words(self) -> str:
        """Where that comes from."""
        ...

    def of(self, seeds: Sequence[int], images: Images) -> tuple[Tensor, Tensor, Tensor]:
        """Of unedited faces: as the model's task expects it ``[N, ...]``; what is to be learnt of them, which is the
        same, or of classes their probabilities; and what was read off them, which `after` asks for."""
        ...

    def after(
        self, seeds: Sequence[int], images: Images, truth: Tensor, before: Tensor
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """What is to be learnt of edited faces, of which ``truth`` was right and ``before`` was read unedited; and of
        which that is known ``[N]``."""
        ...


@dataclass(frozen=True)
class LabelTruth:
    """The attribute that a model predicts, as the generator was ``told`` it, or as the verifier reads it.

    An edited face has the label that it had where the verifier reads the same as before. Next to a cut a label is a
    matter of chance, and a generator does not draw all that it is told: classes are learnt as probabilities, by how far
    the reading of the very picture, or its mean with what was told, lies from the cut, in what the verifier is off by.
    """

    target: Target
    verified: VerifiedLabel
    told: bool

    @property
    def words(self) -> str:
        return "what the generator was told of them and what the verifier reads" if self.told else "the verifier"

    def of(self, seeds: Sequence[int], images: Images) -> tuple[Tensor, Tensor, Tensor]:
        assert self.target.label is not None
        read = self.verified.verifier.read(images)
        values = self._told(seeds, read) if self.told else self._own(read)
        if not isinstance(self.target.task, Classification):
            return values[:, None], values[:, None], read
        return classify(values, self.target.label.thresholds), self._chances(seeds, read), read

    def after(
        self, seeds: Sequence[int], images: Images, truth: Tensor, before: Tensor
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        read = self.verified.verifier.read(images)
        known = self.verified.still(before, read)
        return (self._chances(seeds, read) if isinstance(self.target.task, Classification) else truth), known

    def _chances(self, seeds: Sequence[int], read: Tensor) -> Tensor:
        """The probabilities of the classes ``[N, C]``, of what was ``read`` of all factors ``[N, F]``."""
        assert self.target.label is not None
        values = self._own(read)
        if self.told:
            values = (values + self._told(seeds, read)) / 2
        off = self.verified.verifier.factors[self.verified.factor].off
        cuts = values.new_tensor(self.target.label.thresholds)
        above = ((values[:, None] - cuts) / off).sigmoid()  # [N, C − 1], falling
        ends = above.new_ones(len(above), 1), above.new_zeros(len(above), 1)
        return torch.cat([ends[0], above], 1) - torch.cat([above, ends[1]], 1)

    def _told(self, seeds: Sequence[int], read: Tensor) -> Tensor:
        assert self.target.label is not None
        return sample(seeds).values[:, NAMES.index(self.target.label.attribute)].to(read.device)

    def _own(self, read: Tensor) -> Tensor:
        return read[:, self.verified.factor].float()


@dataclass(frozen=True)
class PointTruth:
    """Landmarks, as the verifier reads them off every image: an edit moves them."""

    verifier: Verifier
    words: str = "the verifier's landmarks"

    def of(self, seeds: Sequence[int], images: Images) -> tuple[Tensor, Tensor, Tensor]:
        points = self.verifier.read_landmarks(images)
        return points, points, points

    def after(
        self, seeds: Sequence[int], images: Images, truth: Tensor, before: Tensor
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        return self.verifier.read_landmarks(images), torch.ones(len(images), dtype=torch.bool, device=images.device)


@dataclass(frozen=True)
class OwnTruth:
    """What the model, as it was, said of the unedited face: it learns to say the same of the edited one."""

    target: Target
    words: str = "what the model said of them unedited"

    def of(self, seeds: Sequence[int], images: Images) -> tuple[Tensor, Tensor, Tensor]:
        said = self.target.task.decide(ask(self.target, images))
        return said, said, said

    def after(
        self, seeds: Sequence[int], images: Images, truth: Tensor, before: Tensor
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        return truth, torch.ones(len(images), dtype=torch.bool, device=images.device)


def truth_of(target: Target, generator: Generator, device: torch.device, by: str = VERIFIER) -> Truth:
    """How to know what ``target`` should say of the generator's faces, which the verifier called ``by`` reads.

    Raises `RequestError` for a task that is not hardened, where nothing reads what a model predicts, and where the
    shipped verifier does not know such faces.
    """
    task = target.task
    if isinstance(task, MultiLabel):
        return OwnTruth(target)
    if isinstance(task, Keypoints):
        verifier = verifier_named(by, device)
        if verifier is None or not len(verifier.point_mean) or task.points != FACE_POINTS.points:
            raise RequestError(
                f"'{target.name}' gives {task.points} points, which no verifier reads off a face; only "
                f"detectors of {FACE_POINTS.points} landmarks are hardened"
            )
        return PointTruth(verifier)
    if not isinstance(task, Classification | Regression):
        raise RequestError(
            f"'{target.name}' is a {type(task).__name__}; hardened are classifiers, multi-label ones, regressions and "
            "detectors of landmarks"
        )
    verified = verified_label(target, device, by)
    several = isinstance(task, Regression) and len(task.values) > 1
    if verified is None or several or (isinstance(task, Classification) and not verified.thresholds):
        what = "classes" if isinstance(task, Classification) else "values"
        example = "smile:0.5" if isinstance(task, Classification) else "age"
        read = f"the {what} of '{target.name}'"
        if target.label is not None and verified is None:
            read = f"'{target.label.attribute}', which '{target.name}' is told to predict,"
        raise RequestError(f"nothing reads {read} off a face; say what it predicts, as label='{example}'")
    assert target.label is not None
    if by == VERIFIER and unfamiliar(generator, verified.verifier):
        raise RequestError(
            f"the shipped verifier does not know such faces as '{generator.name}' draws; audit with one that does "
            "(--verifier), and give that run"
        )
    return LabelTruth(target, verified, taught(generator) and target.label.attribute in NAMES)
