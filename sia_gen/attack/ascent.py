"""One run of the Semantic Image Attack: the state of every face, and what a step, uphill or of a sweep, does to it.

Letters: N faces, B faces in the batch, K attributes, R resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sia_gen.attack.active_set import ActiveSet, Rows, Verdict
from sia_gen.attack.balls import (
    NOISE,
    Step,
    ascent,
    half_range,
    largest,
    length,
    per_face,
    project_ball,
    project_box,
    project_budget,
)
from sia_gen.attack.edit import edit
from sia_gen.attack.evolution import estimate, random_ways
from sia_gen.attack.settings import AttackSettings
from sia_gen.attack.starts import random_delta, random_omega, random_signed
from sia_gen.attack.trace import Trace, swept
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.core.errors import WorkError
from sia_gen.core.executors import autocast
from sia_gen.core.foreign import foreign
from sia_gen.core.images import quantise
from sia_gen.generators.generator import Codes, Generator
from sia_gen.targets.target import Target, ask, unanswered, without_answer
from sia_gen.targets.task import eligible

# Keeps half-precision gradients above their smallest number; steps do not depend on the scale.
FP16_SCALE = 1024.0


class Ascent:
    """One call of an attack."""

    def __init__(
        self,
        attack: AttackSettings,
        generator: Generator,
        space: AttributeSpace,
        target: Target,
        codes: Codes,
        reference: Tensor | None,
        seeds: Sequence[int],
        allowed: Tensor,
        rendered: Tensor | None = None,
        start: Tensor | None = None,
    ) -> None:
        faces, attributes = len(codes), len(space.attributes)
        self.attack, self.generator, self.target = attack, generator, target
        self.codes, self.seeds, self.device = codes, seeds, codes.device
        self.space = space.to(self.device)
        self.reference = None if reference is None else reference.to(self.device)
        self.rendered, self.start = rendered, None if start is None else start.to(self.device)
        allowed = allowed.to(self.device)
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
        self.trace = Trace(self.low, self.high, self.faces.steps)
        self.budget = attack.budget / max(attack.box, torch.finfo(torch.float32).tiny)  # in half ranges of the box
        # How far off the furthest corner of the box lies: a budget that reaches there limits nothing.
        corner = torch.maximum(self.space.low.abs(), self.space.high)[None]
        self.limited = bool(self.budget < length(corner, self.space.low[None], self.space.high[None]))
        self.way: Step = "sign" if attack.step == "sign" else "normalised"
        self.asked = 2 * attack.pairs if attack.step == "evolve" else 0  # images that an estimate takes

    @property
    def ascends(self) -> bool:
        """Whether any face takes a step uphill from the point it shows."""
        return self.attack.step != "sweep" and bool((self.faces.point < self.faces.steps).any())

    @property
    def differentiates(self) -> bool:
        """Whether that step needs a gradient of the target's."""
        return self.ascends and not self.asked

    def step(self) -> None:
        """Sample, edit, predict, ascend, project, keep the best, drop the finished.

        All that can run out of memory comes before anything is counted, so that the step can be repeated.
        """
        faces = self.faces
        faces.fill(self.sample)
        variables = {name: faces.rows[name].detach().requires_grad_() for name in self.shapes}
        point, loss = self.predict(variables)
        verdict = self.judge(point)
        gradients: Rows = {}
        if self.ascends and verdict.steps.any():
            gradients = (
                self.gradients(variables, loss) if self.differentiates else self.estimates(variables, verdict.steps)
            )
        self.keep_best(point, verdict)
        if self.attack.step == "sweep":
            self.sweep(point, verdict)
        else:
            self.ascend(gradients)
        self.start_over(verdict)
        faces.advance(verdict, self.asked)

    def sample(self, new: NDArray) -> Rows:
        """The rows of faces that start now, at ω = 0 and δ = 0."""
        face = torch.from_numpy(new).to(self.device)
        rows = {"low": self.low[face], "high": self.high[face]}
        still = "omega" not in self.shapes  # the face does not change: it is rendered once
        if not still:
            rows["codes"] = self.codes[face]
        if self.rendered is not None and (still or not self.attack.by_gradient):
            rows["rendered"] = self.rendered[torch.from_numpy(new)].to(self.device)  # [B, 3, R, R]
        elif still:
            with torch.no_grad(), autocast(self.device, self.attack.precision):
                rows["rendered"] = edit(self.generator, self.space, self.codes[face])
        if self.reference is not None:
            rows["reference"] = self.reference[face]
        for name, shape in self.shapes.items():
            rows[name] = torch.zeros(len(new), *shape, device=self.device)
            if self.attack.momentum > 0:
                rows[f"{name}_momentum"] = rows[name]
        rows["unanswered"] = torch.zeros(len(new), dtype=torch.int64, device=self.device)
        rows["least"] = torch.full((len(new),), torch.inf, device=self.device)  # change that failed
        rows["steady"] = torch.ones(len(new), dtype=torch.bool, device=self.device)
        return rows

    def predict(self, variables: Rows) -> tuple[Rows, Tensor]:
        """The point at ω and δ, and its loss ``[B]`` with a graph: what the target makes of the 8-bit images."""
        with torch.set_grad_enabled(self.differentiates):
            known = "rendered" in self.faces.rows and self.faces.first.all()
            moved = "omega" in variables and not known
            semantic, images, prediction = self._show(variables, self.faces.rows, moved)
            self._settle_reference(prediction.detach())
            if not self.target.differentiable:
                self.faces.rows["unanswered"] = self.faces.rows["unanswered"] + without_answer(prediction)
            prediction = self._answered(prediction, self.faces.rows)
            loss = self.target.task.loss(prediction, self.faces.rows["reference"])  # [B]
        point = {"images": images, "prediction": prediction, "loss": loss} | variables
        if len(variables) == 2:
            point["semantic"] = semantic
        return {name: values.detach() for name, values in point.items()}, loss

    def _show(self, variables: Rows, rows: Rows, moved: bool) -> tuple[Tensor, Tensor, Tensor]:
        """The faces at ω and at ω and δ, ``[B, 3, R, R]``, the latter in 8 bit, and what the target says of these.

        Faces that are not ``moved`` have been rendered.
        """
        with autocast(self.device, self.attack.precision):
            if moved:
                semantic = edit(self.generator, self.space, rows["codes"], variables["omega"])
            else:
                semantic = rows["rendered"]
            images = semantic
            if "delta" in variables:  # `semantic` is within [0, 1], so that being clipped before δ too changes nothing
                images = edit(None, self.space, semantic, delta=variables["delta"])
            images = quantise(images)
            prediction = ask(self.target, images)
        return semantic, images, prediction.to(torch.promote_types(prediction.dtype, torch.float32))

    def _answered(self, prediction: Tensor, rows: Rows) -> Tensor:
        """What the target says, where a black box says nothing of an edited face what it said of the unedited one.

        So such a point counts as no change. A face that it says nothing of unedited is not attacked.
        """
        if self.target.differentiable:
            return prediction
        return torch.where(per_face(without_answer(prediction), prediction), rows["own"], prediction)

    @torch.no_grad()
    def estimates(self, variables: Rows, steps: NDArray) -> Rows:
        """What `gradients` gives, for a target that can only be asked: 2 · pairs times for each face that ``steps``."""
        faces, index = self.faces, np.flatnonzero(steps)
        where = faces.on_device(index)
        rows = {name: values[where] for name, values in faces.rows.items()}
        seeds = self._seeds(steps)
        points = [
            f"attack {restart} {point}" for restart, point in zip(faces.restart[steps], faces.point[steps], strict=True)
        ]

        def ways(pair: int) -> Rows:
            drawn = random_ways(seeds, [f"{point} {pair}" for point in points], self.shapes)
            return {name: way.to(self.device) for name, way in drawn.items()}

        found = estimate(
            lambda tried: self.target.task.loss(
                self._answered(self._show(tried, rows, "omega" in tried)[2], rows), rows["reference"]
            ),
            {name: values[where] for name, values in variables.items()},
            {"omega": self._reach(rows), "delta": self.attack.epsilon / self._blocks_long()},
            lambda name, values: self._project(name, values, rows),
            ways,
            self.attack.pairs,
        )
        steady = torch.stack([torch.isfinite(largest(values)) for values in found.values()]).all(dim=0)
        faces.put(index, {"steady": steady})
        zero = {name: torch.zeros_like(values) for name, values in variables.items()}
        return {name: zero[name].index_put((where,), values) for name, values in found.items()}

    def _blocks_long(self) -> float:
        """The length of a way of ±1 in the norm of δ."""
        return 1.0 if self.attack.norm == "linf" else math.prod(self.shapes.get("delta", ())) ** 0.5

    def _step(self, rows: Rows) -> Tensor:
        """What a way of size one stands for in ω ``[B, K]``: half ranges, or where it limits anything the budget."""
        return half_range(rows["low"], rows["high"]) * (self.budget if self.limited else 1.0)

    def _reach(self, rows: Rows) -> Tensor:
        """The same for a way whose numbers are each about one, as long as K of them together are."""
        return self._step(rows) / (rows["low"].shape[1] ** 0.5 if self.limited else 1.0)

    def _project(self, name: str, values: Tensor, rows: Rows) -> Tensor:
        if name == "omega":
            low, high = rows["low"], rows["high"]
            return project_budget(values, low, high, self.budget) if self.limited else project_box(values, low, high)
        return project_ball(values, self.attack.epsilon, self.attack.norm)

    def _settle_reference(self, prediction: Tensor) -> None:
        """Where no reference is given, it is what the target says while a face is as sampled."""
        task, first = self.target.task, self.faces.first
        if first.all():
            task.check(prediction.nan_to_num(), len(first))  # its shape; `judge` names the face of a NaN
        if first.any() and not self.target.differentiable:
            rows = torch.from_numpy(first).to(self.device)
            silent = torch.zeros_like(rows)
            silent[rows] = unanswered(self.target, prediction[rows])
            prediction = torch.where(per_face(silent, prediction), 0, prediction)
            self.faces.begin({"own": prediction, "silent": silent})
        if self.reference is None and first.any():
            self.faces.begin({"reference": task.decide(prediction)})

    def judge(self, point: Rows) -> Verdict:
        """The one time that a step waits for the device: what it learns here decides who stays in the batch.

        It comes before the backward pass, which a batch that ends together is then spared.
        """
        rows, loss = self.faces.rows, point["loss"]
        task, prediction, reference = self.target.task, point["prediction"], rows["reference"]
        failed = task.failed(prediction, reference)
        if self.faces.first.any():
            first = torch.from_numpy(self.faces.first).to(self.device)
            failed = torch.where(first, ~eligible(task, prediction, reference) | self._silent(), failed)
        finite = torch.isfinite(prediction).reshape(len(loss), -1).all(dim=1) & torch.isfinite(loss)
        best = self.faces.best.get("loss", loss)
        higher = loss > best + NOISE * best.abs()
        rows["size"] = self._size(point)
        nearer = failed & (rows["size"] < (1 - NOISE) * rows["least"])
        told = torch.stack([failed, finite, rows["steady"], higher, nearer]).cpu().numpy()
        failed, finite, steady, higher, nearer = told
        for what, fine in (("loss's gradient", steady), ("prediction or loss", finite)):
            if not fine.all():
                seed = self.seeds[self.faces.face[fine.argmin()]]
                raise WorkError(
                    f"the {what} of target '{self.target.name}' is NaN or Inf on the face with seed {seed}; "
                    "check its weights and input range, or use precision='no'"
                )
        return self.faces.judge(failed, higher, nearer)

    def _silent(self) -> Tensor:
        """Of which faces as sampled the target said nothing, ``[B]`` bool."""
        return self.faces.rows.get("silent", torch.zeros(len(self.faces.first), dtype=torch.bool, device=self.device))

    def _size(self, point: Rows) -> Tensor:
        """How far a point lies from the face ``[B]``: ω in half ranges, without attributes δ in ε."""
        if "omega" in point:
            return length(point["omega"], self.faces.rows["low"], self.faces.rows["high"]) * self.attack.box
        if "delta" in point:
            delta = point["delta"].flatten(1)
            return (largest(delta) if self.attack.norm == "linf" else delta.norm(dim=1)) / self.attack.epsilon
        return torch.zeros_like(point["loss"])

    def gradients(self, variables: Rows, loss: Tensor) -> Rows:
        """One backward pass: the gradient in δ, and in ω as a fraction of its half-range."""
        if not loss.requires_grad:
            raise WorkError(
                f"target '{self.target.name}' is called differentiable but its loss has no gradient; "
                "predict without no_grad, or set differentiable = False"
            )
        scale = FP16_SCALE if self.attack.precision == "fp16" else 1.0
        with foreign(f"the gradient of target '{self.target.name}'"):
            found = torch.autograd.grad(loss.sum() * scale, list(variables.values()), materialize_grads=True)
        gradients = dict(zip(variables, found, strict=True))
        steepest = torch.stack([largest(gradient) for gradient in found]).amax(dim=0)  # [B]
        self.faces.rows["steady"] = torch.isfinite(steepest)
        if "omega" in gradients:
            gradients["omega"] = gradients["omega"] * half_range(self.faces.rows["low"], self.faces.rows["high"])
        if self.faces.first.any():
            # A loss measured from the face's own prediction is least at the face itself, where rounding is all there is
            # of a gradient: leave it at random.
            stuck = ((steepest == 0) | self._least()).cpu().numpy() & self.faces.first
            if stuck.any():
                seeds, index = self._seeds(stuck), (self.faces.on_device(np.flatnonzero(stuck)),)
                for name, shape in self.shapes.items():
                    away = random_signed(seeds, shape, f"{name} leave").to(self.device)
                    gradients[name] = gradients[name].index_put(index, away)
        return gradients

    def _least(self) -> Tensor:
        """Whether the loss is the distance from the target's own prediction, ``[]`` bool."""
        reference = self.faces.rows["reference"]
        return torch.tensor(self.reference is None and reference.is_floating_point(), device=self.device)

    def keep_best(self, point: Rows, verdict: Verdict) -> None:
        faces = self.faces
        original = {f"{name}_before": point[name] for name in ("images", "prediction", "loss")}
        faces.store(original | {"reference": faces.rows["reference"]}, faces.first)
        if verdict.nearer.any():
            size = faces.rows["size"]
            needed = {"least": size, "prediction_needed": point["prediction"]}
            faces.store(needed | ({"omega_needed": point["omega"]} if "omega" in point else {}), verdict.nearer)
            where = torch.from_numpy(verdict.nearer).to(self.device)
            faces.rows["least"] = torch.where(where, size, faces.rows["least"])
        faces.keep_best(point, verdict)
        found = {f"{name}_after": values for name, values in faces.best.items()}
        faces.store(found | {"unanswered": faces.rows["unanswered"]}, verdict.done)

    def ascend(self, gradients: Rows) -> None:
        """Step uphill and project; all rows move at once, so that what runs out of memory has moved none."""
        attack, rows = self.attack, self.faces.rows
        moved = {}
        for name, gradient in gradients.items():
            if attack.momentum > 0:
                length = per_face(gradient.flatten(1).abs().sum(dim=1), gradient)
                gradient = gradient / length.clamp(min=torch.finfo(gradient.dtype).tiny)
                gradient = attack.momentum * rows[f"{name}_momentum"] + gradient
                moved[f"{name}_momentum"] = gradient
            if name == "omega":
                uphill = ascent(gradient, "l2" if self.limited else "linf", self.way)
                stepped = rows[name] + attack.semantic_step * uphill * self._step(rows)
                if self.start is not None and self.faces.first.any():
                    first = torch.from_numpy(self.faces.first).to(self.device)
                    known = self.start[torch.from_numpy(self.faces.face.clip(min=0)).to(self.device)]
                    stepped = torch.where(first[:, None], known, stepped)
            else:
                uphill = ascent(gradient, attack.norm, self.way)
                stepped = torch.add(rows[name], uphill, alpha=attack.pixel_step * attack.epsilon)
            moved[name] = self._project(name, stepped, rows)
        rows |= moved

    def sweep(self, point: Rows, verdict: Verdict) -> None:
        """Note what was seen, and go on a little further out than the last point, up and down in turn."""
        faces, rows = self.faces, self.faces.rows
        output = self.target.task.output(point["prediction"], rows["reference"])
        faces.begin({"unedited": point["images"]})
        change = (point["images"] - faces.rows["unedited"]).square().mean(dim=(1, 2, 3)).sqrt()  # [B]
        self.trace.keep(faces.face, faces.point, output, verdict.failed, change)
        number = torch.from_numpy(faces.point + 1).to(self.device)  # [B]
        rows["omega"] = swept(number, self.attack.steps, rows["low"], rows["high"])

    def start_over(self, verdict: Verdict) -> None:
        """Put those who start over anywhere in box × ball."""
        faces, attack = self.faces, self.attack
        for restart in np.unique(faces.restart[verdict.again]):
            rows = verdict.again & (faces.restart == restart)
            seeds, index = self._seeds(rows), np.flatnonzero(rows)
            where = faces.on_device(index)
            start = {}
            if "omega" in self.shapes:
                bounds = {end: faces.rows[end][where] for end in ("low", "high")}
                start["omega"] = self._project("omega", random_omega(seeds, **bounds, restart=restart), bounds)
            if "delta" in self.shapes:
                delta = random_delta(seeds, self.shapes["delta"], attack.epsilon, attack.norm, restart)
                start["delta"] = delta.to(self.device)
            if attack.momentum > 0:
                start |= {f"{name}_momentum": torch.zeros_like(values) for name, values in start.items()}
            faces.put(index, start)

    def _seeds(self, rows: NDArray) -> list[int]:
        return [self.seeds[face] for face in self.faces.face[rows]]
