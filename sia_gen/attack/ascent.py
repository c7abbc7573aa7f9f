"""One run of the Semantic Image Attack: the state of every face, and what a step, uphill or of a sweep, does to it.

Letters: N faces, B faces in the batch, K attributes, R resolution.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sia_gen.attack.active_set import ActiveSet, Rows, Verdict
from sia_gen.attack.balls import NOISE, half_range, largest, per_face
from sia_gen.attack.evolution import estimate, random_ways
from sia_gen.attack.limits import Limits
from sia_gen.attack.observer import Observer
from sia_gen.attack.settings import AttackSettings
from sia_gen.attack.starts import random_signed
from sia_gen.attack.trace import Trace, swept
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.core.errors import WorkError
from sia_gen.core.foreign import foreign
from sia_gen.generators.generator import Codes, Generator
from sia_gen.targets.target import Target, unanswered, without_answer
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
        self.attack, self.target = attack, target
        self.codes, self.seeds, self.device = codes, seeds, codes.device
        self.space = space.to(self.device)
        self.reference = None if reference is None else reference.to(self.device)
        self.rendered, self.start = rendered, None if start is None else start.to(self.device)
        self.observer = Observer(generator, self.space, target, self.device, attack.precision)
        self.limits = Limits(attack, self.space, allowed.to(self.device), generator.resolution)
        self.shapes = self.limits.shapes
        self.faces = ActiveSet(
            len(codes),
            attack.batch,
            steps=attack.steps if self.shapes else 0,
            restarts=attack.restarts if self.shapes else 1,
            stop_at_success=attack.stop == "success",
        )
        self.trace = Trace(self.limits.low, self.limits.high, self.faces.steps)
        self.asked = 2 * attack.pairs if attack.step == "evolve" else 0  # images that an estimate takes

    @property
    def ascends(self) -> bool:
        """Whether any face takes a step uphill from the point it shows."""
        return self.attack.step != "sweep" and bool((self.faces.point < self.faces.steps).any())

    @property
    def differentiates(self) -> bool:
        """Whether that step needs a gradient of the target's."""
        return self.ascends and not self.asked

    def step(self) -> tuple[NDArray, Rows]:
        """Sample, edit, predict, ascend, project, keep the best, drop the finished; gives who showed which point.

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
        shown = faces.face, point | {"reference": faces.rows["reference"]}
        faces.advance(verdict, self.asked)
        return shown

    def sample(self, new: NDArray) -> Rows:
        """The rows of faces that start now, at ω = 0 and δ = 0."""
        face = torch.from_numpy(new).to(self.device)
        rows = {"low": self.limits.low[face], "high": self.limits.high[face]}
        still = "omega" not in self.shapes  # the face does not change: it is rendered once
        if not still:
            rows["codes"] = self.codes[face]
        if self.rendered is not None and (still or not self.attack.by_gradient):
            rows["rendered"] = self.rendered[torch.from_numpy(new)].to(self.device)  # [B, 3, R, R]
        elif still:
            rows["rendered"] = self.observer.sampled(self.codes[face])
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
            semantic, images, prediction = self.observer.show(variables, self.faces.rows, moved)
            self._settle_reference(prediction.detach())
            if not self.target.differentiable:
                self.faces.rows["unanswered"] = self.faces.rows["unanswered"] + without_answer(prediction)
            prediction = self.observer.answered(prediction, self.faces.rows)
            loss = self.target.task.loss(prediction, self.faces.rows["reference"])  # [B]
        point = {"images": images, "prediction": prediction, "loss": loss} | variables
        if len(variables) == 2:
            point["semantic"] = semantic
        return {name: values.detach() for name, values in point.items()}, loss

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
            lambda tried: self.observer.loss(tried, rows),
            {name: values[where] for name, values in variables.items()},
            self.limits.reach(rows),
            lambda name, values: self.limits.project(name, values, rows),
            ways,
            self.attack.pairs,
        )
        steady = torch.stack([torch.isfinite(largest(values)) for values in found.values()]).all(dim=0)
        faces.put(index, {"steady": steady})
        zero = {name: torch.zeros_like(values) for name, values in variables.items()}
        return {name: zero[name].index_put((where,), values) for name, values in found.items()}

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
        rows["size"] = self.limits.size(point, rows)
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
            stepped = self.limits.uphill(name, rows[name], gradient, rows)
            if name == "omega" and self.start is not None and self.faces.first.any():
                first = torch.from_numpy(self.faces.first).to(self.device)
                known = self.start[torch.from_numpy(self.faces.face.clip(min=0)).to(self.device)]
                stepped = torch.where(first[:, None], known, stepped)
            moved[name] = self.limits.project(name, stepped, rows)
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
            start = self.limits.anywhere(seeds, {end: faces.rows[end][where] for end in ("low", "high")}, restart)
            if attack.momentum > 0:
                start |= {f"{name}_momentum": torch.zeros_like(values) for name, values in start.items()}
            faces.put(index, start)

    def _seeds(self, rows: NDArray) -> list[int]:
        return [self.seeds[face] for face in self.faces.face[rows]]
