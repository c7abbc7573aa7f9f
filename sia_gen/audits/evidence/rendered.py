"""The people of an audit rendered by the studio, where every value is exact, and what a target says of them.

Letters: B faces, K attributes, F factors of the studio.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.audits.evidence.reference import Followed
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Batches
from sia_gen.core.images import Images, from_bytes, quantise, to_bytes
from sia_gen.generators.foreign.diffusion import Diffusion
from sia_gen.generators.generator import Codes, Generator
from sia_gen.generators.stylegan2 import StyleGAN2
from sia_gen.studio.factors import FACTORS, NAMES, FaceSpec
from sia_gen.studio.sampling import sample
from sia_gen.studio.studio import Studio
from sia_gen.targets.target import Label, Target, ask, classify
from sia_gen.targets.task import Classification, Following, Task, eligible

SPACE, BATCH = "factors", 4


def taught(generator: Generator) -> bool:
    """Whether a generator's codes are the studio's factors, so that a seed is the same person in both."""
    return isinstance(generator, StyleGAN2 | Diffusion) and generator.latents == len(NAMES)


def require_taught(generator: Generator) -> None:
    """Raise `RequestError` where the studio cannot render the faces of a generator."""
    if not taught(generator):
        raise RequestError(
            f"'{generator.name}' was not trained on the studio's {len(NAMES)} factors; audit one that was"
        )


class StudioGenerator:
    """The studio as a generator that is not differentiable: codes are factor values ``[B, F]``, edits add to them.

    Values stay within the factors' ranges. A seed is the same person as in a generator that was taught on renders.
    """

    def __init__(self, studio: Studio, device: torch.device | str = "cpu") -> None:
        self.studio, self.device = studio, device
        self.name, self.resolution = "studio", studio.resolution
        self.edit_shapes: Mapping[str, torch.Size] = {SPACE: torch.Size([len(FACTORS)])}
        self.landmarks = torch.empty(0)

    def sample(self, seeds: Sequence[int]) -> Codes:
        return sample(seeds).values.to(self.device)

    def render(self, codes: Codes, edits: Tensor | None = None, space: str | None = None) -> Images:
        values = codes if edits is None else codes + edits
        low, high = (torch.tensor([getattr(f, end) for f in FACTORS], device=values.device) for end in ("low", "high"))
        made = self.studio.render(FaceSpec(values.clamp(low, high)))
        self.landmarks = made.landmarks / self.resolution  # [B, 68, 2] in picture widths, of the faces just rendered
        return made.images


class DrawnOnce(StudioGenerator):
    """The same; edited faces that are asked for while it is `keeping` are drawn once, and kept in 8 bits.

    It is for what several targets are shown alike: of attacks, which differ with the target, none comes twice.
    """

    def __init__(self, studio: Studio, device: torch.device | str = "cpu") -> None:
        super().__init__(studio, device)
        self._drawn: dict[bytes, tuple[Tensor, Tensor]] = {}
        self._keeps = False

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """While it lasts, faces are kept."""
        self._keeps = True
        try:
            yield
        finally:
            self._keeps = False

    def render(self, codes: Codes, edits: Tensor | None = None, space: str | None = None) -> Images:
        if edits is None or not self._keeps:
            return super().render(codes, edits, space)
        key = (codes + edits).cpu().numpy().tobytes()
        if key not in self._drawn:
            self._drawn[key] = to_bytes(super().render(codes, edits, space)).cpu(), self.landmarks
        images, self.landmarks = self._drawn[key]
        return from_bytes(images).to(self.device)


class TrueLandmarks:
    """A landmark target; each prediction ``[B, 2, 68, 2]`` brings along where they lie in the faces just rendered."""

    label: Label | None = None
    differentiable = False

    def __init__(self, target: Target, rendered: StudioGenerator) -> None:
        self.target, self.rendered = target, rendered
        self.name = target.name
        self.task: Task = Following(target.task)

    def predict(self, images: Images) -> Tensor:
        points = ask(self.target, images).float()
        return torch.stack([points, self.rendered.landmarks.to(points)], dim=1)


def studio_space(audited: AttributeSpace) -> AttributeSpace:
    """Those of the audited attributes that are factors of the studio, with the same ranges, each moving its factor."""
    known = audited.select([name for name in audited.names if name in NAMES])
    directions = torch.zeros(len(known.names), len(FACTORS))
    for row, name in enumerate(known.names):
        directions[row, NAMES.index(name)] = 1.0
    return AttributeSpace("studio", SPACE, known.attributes, directions)


def class_of(target: Target, codes: Codes) -> Tensor | None:
    """The true class ``[B]`` of faces by their factors ``[B, F]``; None where a target names no factor's classes."""
    if target.label is None or target.label.attribute not in NAMES or not isinstance(target.task, Classification):
        return None
    return classify(codes[:, NAMES.index(target.label.attribute)], target.label.thresholds)


class Rendered:
    """A target that is asked about renders; unedited ones are drawn once a person."""

    def __init__(self, target: Target, rendered: StudioGenerator) -> None:
        self.rendered = rendered
        self.target: Target = TrueLandmarks(target.target, rendered) if isinstance(target, Followed) else target
        self._before: dict[int, Tensor] = {}  # what the target says of each person

    @classmethod
    def of(
        cls, target: Target, generator: Generator, device: torch.device, makehuman: str | Path | None = None
    ) -> Rendered:
        """Raises `RequestError` without mesh data, or for a generator that was not taught on renders."""
        require_taught(generator)
        return cls(target, StudioGenerator(Studio(makehuman, generator.resolution, device), device))

    @property
    def mesh(self) -> str:
        """What tells the head mesh and its targets from others."""
        return self.rendered.studio.mesh

    @torch.no_grad()
    def failures(self, seeds: Sequence[int], changes: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Whether the target is right on these people as they are, and fails on them changed, bool ``[B]`` each.

        ``changes`` ``[B]`` are how far factors are moved, in their units.
        """
        new = [seed for seed in dict.fromkeys(seeds) if seed not in self._before]
        if new:
            self._before |= zip(new, self._predicted(self.rendered.sample(new), None), strict=True)
        codes = self.rendered.sample(seeds)
        edits = torch.zeros_like(codes)
        for name, change in changes.items():
            edits[:, NAMES.index(name)] = change.to(edits).nan_to_num()
        before = torch.stack([self._before[seed] for seed in seeds])
        after = self._predicted(codes, edits)
        task, known = self.target.task, class_of(self.target, codes)
        reference = task.decide(before) if known is None else known.to(before.device)
        told = before.isfinite().reshape(len(before), -1).all(dim=1)  # of what it says nothing it is not right
        return (eligible(task, before, reference) & told).cpu(), task.failed(after, reference).cpu()

    def _predicted(self, codes: Codes, edits: Tensor | None) -> Tensor:
        """What the target says of 8-bit renders ``[B, ...]``."""

        def predict(part: slice) -> Tensor:
            with one_thread(self.rendered.device):
                images = self.rendered.render(codes[part], None if edits is None else edits[part], SPACE)
            return ask(self.target, quantise(images.float()))

        return torch.cat(list(Batches(BATCH)(len(codes), predict)))


@contextmanager
def one_thread(device: torch.device | str) -> Iterator[None]:
    """Renders on a CPU's single thread.

    A render is many small steps, at each of which threads wait for one another. Beside another busy process two threads
    were ten times slower than one.
    """
    threads = torch.get_num_threads()
    if torch.device(device).type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
