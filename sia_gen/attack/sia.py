"""Semantic Image Attack (SIA; Luo, Wang, Wu, Huang, De la Torre, arXiv 2303.13010).

Letters: N faces, B faces in the batch, K attributes, R resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from sia_gen.attack.active_set import ActiveSet, Rows
from sia_gen.attack.balls import Norm, Step, ascent, per_face, project_ball, project_box
from sia_gen.attack.edit import edit
from sia_gen.attack.result import AttackResult
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.executors import Precision, Progress, autocast
from sia_gen.core.images import quantise, to_bytes
from sia_gen.core.modules import eval_mode
from sia_gen.core.seeds import normals, uniforms
from sia_gen.core.settings import settings
from sia_gen.generators.generator import Codes, Generator
from sia_gen.targets.target import Target

# Keeps half-precision gradients above their smallest number; steps do not depend on the scale.
FP16_SCALE = 1024.0


@settings
class SemanticImageAttack:
    """Ascend the target's loss in the attributes and in a pixel residual at once, from the face as sampled.

    steps           ascent steps a restart, at least 1
    box             fraction 0…1 of each attribute's safe range; 0 leaves ω = 0 (the pixel-only arm, PGD)
    epsilon         radius of the pixel residual, images being in [0, 1]; 0 leaves δ = 0 (the semantic-only arm)
    norm            "linf" (epsilon ≤ 1) or "l2" over the whole image
    semantic_step   step of ω, as a fraction of half of its range: box · (high − low) / 2
    pixel_step      step of δ, as a fraction of epsilon
    step            "sign", or "normalised" in proportion to the gradient; the l2 ball always takes the latter
    momentum        decay of the accumulated, L1-normalised gradient (MI-FGSM; Dong et al., arXiv 1710.06081)
    restarts        the first starts at the face, later ones anywhere in box × ball, for faces not yet successful
    stop            "success" drops a face at its first success, "never" spends all steps on each
    batch           faces at a time; halved when memory runs out
    precision       of the models, "no", "bf16" or "fp16"; ω, δ and the loss are float32
    """

    steps: int = Field(10, ge=1)
    box: float = Field(1.0, ge=0, le=1)
    epsilon: float = Field(1 / 255, ge=0, allow_inf_nan=False)
    norm: Norm = "linf"
    semantic_step: float = Field(0.2, gt=0, le=2)
    pixel_step: float = Field(0.25, gt=0, le=2)
    step: Step = "sign"
    momentum: float = Field(0.0, ge=0, allow_inf_nan=False)
    restarts: int = Field(1, ge=1)
    stop: Literal["success", "never"] = "success"
    batch: int = Field(32, ge=1)
    precision: Precision = "no"

    def __post_init__(self) -> None:
        if self.norm == "linf" and self.epsilon > 1:
            raise ValueError(f"epsilon={self.epsilon:g} is more than 1, the whole range of a pixel; lower it")

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
        progress: Progress | None = None,
    ) -> AttackResult:
        """Attack N faces of ``codes`` ``[N, ...]``, each as if it were alone.

        ``reference`` ``[N, ...]`` is what the target should say, by default what it says about the unedited 8-bit face.
        ``seeds`` ``[N]`` name the faces in errors and give their random starts (default 0 … N − 1). ``allowed`` bool
        ``[N, K]`` says which attributes each face may move (default all). Raises `RequestError` when these do not
        fit together or the target has no gradients, `WorkError` when one is NaN or Inf.
        """
        run = _Run(self, generator, space, target, codes, reference, seeds, allowed)
        with eval_mode(*(part for part in (generator, target) if isinstance(part, nn.Module))):
            while run.faces.unfinished:
                try:
                    run.step()
                    fitted = True
                except torch.OutOfMemoryError:
                    fitted = False
                if not fitted:
                    run.faces.shrink()
                if progress is not None:
                    progress(run.faces.done, run.faces.total, "attack")
        return run.result()


class _Run:
    """One call of an attack. Everything that can run out of memory comes before what a step changes."""

    def __init__(
        self,
        attack: SemanticImageAttack,
        generator: Generator,
        space: AttributeSpace,
        target: Target,
        codes: Codes,
        reference: Tensor | None,
        seeds: Sequence[int] | None,
        allowed: Tensor | None,
    ) -> None:
        faces, attributes = len(codes), len(space.attributes)
        seeds = range(faces) if seeds is None else seeds
        allowed = torch.ones(faces, attributes, dtype=torch.bool) if allowed is None else allowed
        _require_fit(attack, generator, space, target, codes, reference, seeds, allowed)
        self.attack, self.generator, self.target = attack, generator, target
        self.space = space.to(codes.device)
        self.codes, self.seeds = codes, seeds
        self.reference = None if reference is None else reference.to(codes.device)
        allowed = allowed.to(codes.device)
        self.low = attack.box * self.space.low * allowed  # [N, K]
        self.high = attack.box * self.space.high * allowed  # [N, K]
        self.shapes: dict[str, tuple[int, ...]] = {}  # of one face's variables
        if attack.box > 0 and attributes > 0:
            self.shapes["omega"] = (attributes,)
        if attack.epsilon > 0:
            self.shapes["delta"] = (3, generator.resolution, generator.resolution)
        self.faces = ActiveSet(
            faces,
            attack.batch,
            steps=attack.steps if self.shapes else 0,
            restarts=attack.restarts if self.shapes else 1,
            stop_at_success=attack.stop == "success",
        )

    def step(self) -> None:
        faces = self.faces
        faces.fill(self.sample)
        leaves = {name: faces.rows[name].detach().requires_grad_() for name in self.shapes}
        point = self.evaluate(leaves)
        failed = self.judge(point)
        done, again, succeeds = faces.judge(failed)
        # Known before the backward pass, so that nobody's is spared: the last of a batch that runs in step.
        gradients = {} if (done | again).all() else self.gradients(leaves, point["loss"])

        self.keep_best(point, failed, succeeds)
        self.ascend(gradients)
        faces.count(failed, done, again, succeeds)
        self.start_over(again)
        faces.drop(done)

    def sample(self, new: NDArray) -> Rows:
        """The rows of faces that start now, at ω = 0 and δ = 0."""
        face = torch.from_numpy(new).to(self.codes.device)
        rows = {"low": self.low[face], "high": self.high[face]}
        if "omega" in self.shapes:
            rows["codes"] = self.codes[face]
        else:
            with torch.no_grad(), autocast(self.codes.device, self.attack.precision):
                rows["rendered"] = edit(self.generator, self.space, self.codes[face])
        if self.reference is not None:
            rows["reference"] = self.reference[face]
        for name, shape in self.shapes.items():
            rows[name] = torch.zeros(len(new), *shape, device=self.codes.device)
            if self.attack.momentum > 0:
                rows[f"{name}_momentum"] = torch.zeros_like(rows[name])
        rows["finite"] = torch.ones(len(new), dtype=torch.bool, device=self.codes.device)
        return rows

    def evaluate(self, leaves: Rows) -> Rows:
        """Edit and predict: what the target makes of the 8-bit images at ω and δ."""
        rows = self.faces.rows
        ascends = bool((self.faces.point < self.faces.steps).any())
        with torch.set_grad_enabled(ascends):
            with autocast(self.codes.device, self.attack.precision):
                if "omega" in leaves:
                    semantic = edit(self.generator, self.space, rows["codes"], leaves["omega"])  # [B, 3, R, R]
                else:
                    semantic = rows["rendered"]
                image = semantic  # already within [0, 1]: clipping it once more before δ changes nothing
                if "delta" in leaves:
                    image = edit(None, self.space, semantic, delta=leaves["delta"])
                prediction = self.target.predict(quantise(image))
            prediction = prediction.to(torch.promote_types(prediction.dtype, torch.float32))
            reference = self._reference(prediction.detach())
            loss = self.target.task.loss(prediction, reference)  # [B]
        point = {"adversarial": to_bytes(image), "prediction": prediction.detach(), "loss": loss}
        if len(leaves) == 2:
            point["semantic"] = to_bytes(semantic)
        return point | {name: leaf.detach() for name, leaf in leaves.items()}

    def _reference(self, prediction: Tensor) -> Tensor:
        """What the target should say: given, or what it says while a face is as sampled."""
        rows, task = self.faces.rows, self.target.task
        if not self.faces.best:
            task.check(prediction.nan_to_num(), len(self.faces.face))  # its shape; `judge` names the face of a NaN
        if self.reference is None:
            first = self.faces.first
            if not self.faces.best:
                rows["reference"] = task.decide(prediction)
            elif first.any():
                decided = task.decide(prediction)
                rows["reference"] = torch.where(per_face(self._mask(first), decided), decided, rows["reference"])
        return rows["reference"]

    def judge(self, point: Rows) -> NDArray:
        """Who fails ``[B]``: the one time a step waits for the device, as this decides who stays in the batch."""
        prediction, loss = point["prediction"], point["loss"].detach()
        finite = torch.isfinite(prediction).flatten(1).all(dim=1) & torch.isfinite(loss)
        point["failed"] = self.target.task.failed(prediction, self.faces.rows["reference"])
        failed, finite, steady = torch.stack([point["failed"], finite, self.faces.rows["finite"]]).cpu().numpy()
        for what, fine in (("gradient of the loss", steady), ("prediction or its loss", finite)):
            if not fine.all():
                seed = self.seeds[self.faces.face[fine.argmin()]]
                raise WorkError(
                    f"face with seed {seed}: the {what} of target '{self.target.name}' is NaN or Inf; "
                    "check its input range and weights, or use precision='no'"
                )
        return failed

    def gradients(self, leaves: Rows, loss: Tensor) -> Rows:
        """Of the loss in δ and in ω over its half-range: one backward pass, each face's loss touching only its own."""
        if not loss.requires_grad:
            raise WorkError(f"target '{self.target.name}' is called differentiable but gives no gradient; drop no_grad")
        scale = FP16_SCALE if self.attack.precision == "fp16" else 1.0
        found = torch.autograd.grad(loss.sum() * scale, list(leaves.values()), materialize_grads=True)
        gradients = dict(zip(leaves, found, strict=True))
        if self.faces.first.any():
            self._leave_minimum(gradients)
        if "omega" in gradients:
            gradients["omega"] = gradients["omega"] * self._half_range()
        flags = [torch.isfinite(gradient).flatten(1).all(dim=1) for gradient in found]
        self.faces.rows["finite"] = torch.stack(flags).all(dim=0)
        return gradients

    def _leave_minimum(self, gradients: Rows) -> None:
        """Go at random where the gradient is 0: a loss measured from the face's own prediction is least at the face."""
        flat = torch.stack([gradient.flatten(1).count_nonzero(dim=1) == 0 for gradient in gradients.values()])
        stuck = flat.all(dim=0).cpu().numpy() & self.faces.first
        if stuck.any():
            for name, gradient in gradients.items():
                gradient[self._mask(stuck)] = self._draw(self.faces.face[stuck], name, 0)

    def ascend(self, gradients: Rows) -> None:
        """Step uphill and project."""
        attack, rows = self.attack, self.faces.rows
        for name, gradient in gradients.items():
            if attack.momentum > 0:
                length = per_face(gradient.flatten(1).abs().sum(dim=1), gradient)
                gradient = gradient / length.clamp(min=torch.finfo(gradient.dtype).tiny)
                gradient = attack.momentum * rows[f"{name}_momentum"] + gradient
                rows[f"{name}_momentum"] = gradient
            if name == "omega":
                step = attack.semantic_step * self._half_range() * ascent(gradient, "linf", attack.step)
                rows[name] = project_box(rows[name] + step, rows["low"], rows["high"])
            else:
                step = attack.pixel_step * attack.epsilon * ascent(gradient, attack.norm, attack.step)
                rows[name] = project_ball(rows[name] + step, attack.epsilon, attack.norm)

    def _half_range(self) -> Tensor:
        return (self.faces.rows["high"] - self.faces.rows["low"]) / 2  # [B, K]

    def keep_best(self, point: Rows, failed: NDArray, succeeds: NDArray) -> None:
        first = self.faces.first
        if first.any():
            names = {"adversarial": "original", "prediction": "prediction_before", "loss": "loss_before"}
            before = {new: point[old] for old, new in names.items()}
            self.faces.store(before | {"reference": self.faces.rows["reference"]}, first)
        if "omega" in point:
            self.faces.store({"omega_needed": point["omega"]}, succeeds)
        fails, loss = point.pop("failed"), point["loss"].detach()
        better = self._mask(first)
        if self.faces.best:
            better = better | (loss > self.faces.best["loss"])
            if self.attack.stop == "success":
                better = better | fails
        self.faces.keep_best(point | {"loss": loss}, better)

    def start_over(self, again: NDArray) -> None:
        """Put the marked rows ``[B]`` anywhere in box × ball."""
        for restart in np.unique(self.faces.restart[again]):
            rows = again & (self.faces.restart == restart)
            index, face = self._mask(rows), self.faces.face[rows]
            for name in self.shapes:
                start = self._draw(face, name, int(restart))
                if name == "omega":
                    low, high = self.faces.rows["low"][index], self.faces.rows["high"][index]
                    start = low + (high - low) * (start + 1) / 2
                elif self.attack.norm == "linf":
                    start = self.attack.epsilon * start
                else:
                    start = self.attack.epsilon * self._in_unit_ball(face, int(restart))
                self.faces.rows[name][index] = start
                if self.attack.momentum > 0:
                    self.faces.rows[f"{name}_momentum"][index] = 0

    def _draw(self, face: NDArray, name: str, restart: int) -> Tensor:
        """Uniform in −1 … 1, one stream per face, variable and restart."""
        drawn = uniforms([self.seeds[i] for i in face], self.shapes[name], f"attack {name} {restart}")
        return drawn.to(self.codes.device) * 2 - 1

    def _in_unit_ball(self, face: NDArray, restart: int) -> Tensor:
        """Uniform in the l2 ball: a normal vector's direction, with the D-th root of a uniform number as its length."""
        seeds, shape = [self.seeds[i] for i in face], self.shapes["delta"]
        direction = normals(seeds, shape, f"attack direction {restart}").to(self.codes.device)
        length = uniforms(seeds, (), f"attack length {restart}").to(self.codes.device) ** (1 / math.prod(shape))
        return direction * per_face(length / direction.flatten(1).norm(dim=1), direction)

    def result(self) -> AttackResult:
        faces, found, task = self.faces, self.faces.results, self.target.task
        count, (height, width) = len(self.codes), found["original"].shape[-2:]
        success = torch.from_numpy(faces.success)
        omega = found.get("omega_after", torch.zeros(self.low.shape))
        needed = torch.where(success[:, None], found.get("omega_needed", torch.zeros(self.low.shape)), torch.nan)
        reference = found["reference"]
        return AttackResult(
            original=found["original"],
            adversarial=found["adversarial_after"],
            semantic=found.get("semantic_after", found["adversarial_after" if "omega" in self.shapes else "original"]),
            omega=omega,
            delta=found.get("delta_after", torch.zeros(count, 3, height, width)),
            omega_needed=needed,
            reference=reference,
            correct=torch.from_numpy(faces.correct),
            success=success,
            loss_before=found["loss_before"],
            loss_after=found["loss_after"],
            output_before=task.output(found["prediction_before"], reference),
            output_after=task.output(found["prediction_after"], reference),
            prediction_before=found["prediction_before"],
            prediction_after=found["prediction_after"],
            steps=torch.from_numpy(faces.taken),
            queries=torch.from_numpy(faces.queries),
        )

    def _mask(self, rows: NDArray) -> Tensor:
        return torch.from_numpy(rows).to(self.codes.device)


def _require_fit(
    attack: SemanticImageAttack,
    generator: Generator,
    space: AttributeSpace,
    target: Target,
    codes: Codes,
    reference: Tensor | None,
    seeds: Sequence[int],
    allowed: Tensor,
) -> None:
    faces, attributes = len(codes), len(space.attributes)
    if not target.differentiable:
        raise RequestError(
            f"target '{target.name}' gives no gradients, and {type(attack).__name__} ascends them; "
            "use a differentiable target"
        )
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
    if tuple(allowed.shape) != (faces, attributes):
        raise RequestError(
            f"allowed has shape {list(allowed.shape)}, not faces × attributes {[faces, attributes]}; give one each"
        )
