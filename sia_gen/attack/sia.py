"""Semantic Image Attack (SIA; Luo, Wang, Wu, Huang, De la Torre, arXiv 2303.13010).

Letters: N faces, K attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TypeAlias

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sia_gen.attack.active_set import Rows
from sia_gen.attack.ascent import Ascent
from sia_gen.attack.result import AttackResult
from sia_gen.attack.settings import AttackSettings
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Progress
from sia_gen.core.modules import eval_mode
from sia_gen.core.settings import settings
from sia_gen.generators.generator import Codes, Generator
from sia_gen.targets.target import Target

Watch: TypeAlias = Callable[[NDArray, Rows], None]
SINGLE_STEPS = 8  # values of one attribute that are tried: every quarter of the way to both ends of its range


@settings
class SemanticImageAttack(AttackSettings):
    """Ascend the target's loss in the attributes and in a pixel residual at once, from the face as sampled."""

    def suited(self, target: Target) -> SemanticImageAttack:
        """This attack, or for a target that gives no gradient the one that steps by estimates instead of uphill."""
        if target.differentiable or not self.by_gradient:
            return self
        return replace(self, step="evolve")

    def alone(self) -> SemanticImageAttack:
        """The attack of a single attribute, which needs no gradient: its range is searched from end to end."""
        return replace(self, epsilon=0.0, stop="never", step="sweep", steps=SINGLE_STEPS, restarts=1, momentum=0.0)

    def gentle(self) -> SemanticImageAttack:
        """This attack in half as long steps of attributes, which leaves each face at its first failure.

        It starts at the face, so that it ends nearer to it, and what it finds is more often valid. With the usual step,
        fewer than 10 steps do not use the whole budget.
        """
        return replace(self, semantic_step=self.semantic_step / 2, stop="success")

    def within(self, queries: int) -> SemanticImageAttack:
        """The same attack with as many ``pairs`` as a budget of images a face allows, should its step be "evolve".

        Raises `RequestError` for a budget that does not reach for one pair a step.
        """
        pairs = ((queries // self.restarts - 1) // self.steps - 1) // 2
        if pairs < 1:
            least = self.restarts * (1 + 3 * self.steps)
            raise RequestError(f"queries={queries} is below {least}, one pair a step; raise it or ask for fewer steps")
        return replace(self, pairs=pairs)

    def __call__(
        self,
        generator: Generator,
        space: AttributeSpace,
        target: Target,
        codes: Codes,
        reference: Tensor | None = None,
        *,
        seeds: Sequence[int] | None = None,
        allowed: Tensor | None = None,
        rendered: Tensor | None = None,
        start: Tensor | None = None,
        progress: Progress | None = None,
        watch: Watch | None = None,
    ) -> AttackResult:
        """Attack N faces of ``codes`` ``[N, ...]``, each as if it were alone.

        ``reference`` ``[N, ...]`` is what the target should say, by default what it says about the unedited 8-bit face.
        ``seeds`` ``[N]`` name the faces in errors and give their random starts (default 0 … N − 1). ``allowed`` bool
        ``[N, K]`` says which attributes each face may move (default all). ``rendered`` ``[N, 3, R, R]`` are the
        unedited faces as `edit` gives them, for callers who have them: a batch that begins need not render them where
        no gradient is asked. ``start`` ``[N, K]`` is an ω known to be good, to which the first step leads. ``watch``
        is told after each step which faces ``[B]`` showed which point: "images", "semantic" where a residual moves
        them too, "prediction", "reference", "loss", "omega", "delta". Raises
        `RequestError` when these do not fit together or the target has no gradients, `WorkError` when one is NaN or
        Inf.
        """
        faces, attributes = len(codes), len(space.attributes)
        seeds = range(faces) if seeds is None else seeds
        allowed = torch.ones(faces, attributes, dtype=torch.bool) if allowed is None else allowed
        _require_fit(self, generator, space, target, faces, reference, seeds, allowed, rendered, start)
        run = Ascent(self, generator, space, target, codes, reference, seeds, allowed, rendered, start)
        with eval_mode(generator) if isinstance(generator, nn.Module) else nullcontext():
            while run.faces.unfinished:
                try:
                    shown = run.step()
                except torch.OutOfMemoryError:
                    shown = None
                if shown is None:
                    run.faces.shrink()
                elif watch is not None:
                    watch(*shown)
                if progress is not None:
                    progress(run.faces.done, run.faces.total, "attack")
        return AttackResult.of(run.faces, target.task, attributes, run.trace if self.step == "sweep" else None)


def _require_fit(
    attack: SemanticImageAttack,
    generator: Generator,
    space: AttributeSpace,
    target: Target,
    faces: int,
    reference: Tensor | None,
    seeds: Sequence[int],
    allowed: Tensor,
    rendered: Tensor | None,
    start: Tensor | None,
) -> None:
    if not target.differentiable and attack.by_gradient:
        raise RequestError(f"target '{target.name}' gives no gradients, which this attack ascends; use step='evolve'")
    if faces == 0:
        raise RequestError("faces=0 leaves nothing to attack; give the codes of 1 face or more")
    shape = generator.edit_shapes.get(space.space)
    if shape is None or tuple(shape) != tuple(space.directions.shape[1:]):
        raise RequestError(
            f"attributes of '{space.generator}' edit '{space.space}' with shape {list(space.directions.shape[1:])}, "
            f"which generator '{generator.name}' does not have; load the attributes of '{generator.name}'"
        )
    if reference is not None and len(reference) != faces:
        raise RequestError(f"{len(reference)} references for {faces} faces; give one each")
    if len(seeds) != faces:
        raise RequestError(f"{len(seeds)} seeds for {faces} faces; give one each")
    if rendered is not None and list(rendered.shape) != [faces, 3, generator.resolution, generator.resolution]:
        size = generator.resolution
        raise RequestError(f"rendered has shape {list(rendered.shape)}, not {[faces, 3, size, size]}; reshape it")
    wanted = [faces, len(space.attributes)]
    if start is not None and (list(start.shape) != wanted or attack.step == "sweep"):
        raise RequestError(f"start has shape {list(start.shape)}, not [faces, attributes] = {wanted}; reshape it")
    if list(allowed.shape) != wanted:
        raise RequestError(f"allowed has shape {list(allowed.shape)}, not [faces, attributes] = {wanted}; reshape it")
