"""What helps where classes are rare: long tails of renders, every remedy, measured on balanced renders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.load import load_attributes
from sia_gen.audits.evidence.validity import identity_for
from sia_gen.audits.proof.suite import open_suite
from sia_gen.core.errors import RequestError, unknown
from sia_gen.core.executors import Progress, resolve_device
from sia_gen.core.files import is_file, require_place, write_json
from sia_gen.core.seeds import MAX_SEED, whole
from sia_gen.generators.load import load_generator
from sia_gen.rebalancing.case_rows import CaseRows
from sia_gen.rebalancing.faces_folder import Faces, fill
from sia_gen.rebalancing.long_tail import CUTS, MOST, RATES, SIDE, Split, Tail, as_target, split
from sia_gen.rebalancing.meaning import described, reader
from sia_gen.rebalancing.pictures import draw_lines, draw_people
from sia_gen.rebalancing.rare_faces import RareFaces
from sia_gen.rebalancing.remedies import REMEDIES, plan
from sia_gen.rebalancing.tally import BEST, BEST_GENERATED, BEST_SIA, tally
from sia_gen.studio.renders import SHIPPED, RenderSet, read_renders, shipped_renders
from sia_gen.training.network import shrunk

RESULT = "imbalance.json"
ROWS = len(REMEDIES) + 3  # with those that put the best together
ATTACK = SemanticImageAttack(steps=6)
ALONE = [name for name, row in REMEDIES.items() if row.added == "no" and row.after == "no"]
AFTER = [name for name, row in REMEDIES.items() if row.after != "no"]
BALANCING = [name for name in (*ALONE, *AFTER) if REMEDIES[name].augment == "no" and name != "plain"]
VARYING = [name for name in ALONE if REMEDIES[name].augment != "no"]


@dataclass(frozen=True)
class Scale:
    """How much the suite does."""

    labels: tuple[str, ...] = tuple(CUTS)
    ratios: tuple[int, ...] = (10, 50, 100)
    architectures: tuple[str, ...] = ("resnet", "vit")
    seeds: int = 3
    faces: int = 600
    steps: int = 1200
    batch: int = 32

    def __post_init__(self) -> None:
        for kind, names, known in (
            ("label", self.labels, list(CUTS)), ("network", self.architectures, list(RATES))
        ):  # fmt: skip
            for name in names:
                if name not in known:
                    raise unknown(kind, name, known)
        for ratio in self.ratios:
            whole("ratio", ratio, 2, 10_000)
        for name, most in (("seeds", 1000), ("faces", MOST), ("steps", 1_000_000), ("batch", 4096)):
            whole(name, getattr(self, name), 2 if name in ("faces", "batch") else 1, most)


QUICK = Scale(labels=("glasses",), ratios=(50,), architectures=("resnet",), seeds=1, faces=300, steps=600)


def scale_of(quick: bool, *, ratios: Sequence[str] | None = None, **asked: Any) -> Scale:
    """The quick or the full scale, with what is ``asked`` in place of its own; raises `RequestError` for nonsense."""
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if ratios is not None:
        try:
            given["ratios"] = [int(ratio) for ratio in ratios]
        except ValueError:
            raise RequestError(f"ratios={','.join(ratios)} are no whole numbers; give some, as 10,50") from None
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return replace(QUICK if quick else Scale(), **given)


def imbalance_suite(
    out: str | Path,
    *,
    scale: Scale | None = None,
    renders: str | Path | None = None,
    generator: str = "faces-stylegan2",
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Teach small networks on long tails of ``renders``, the shipped ones by default, by every remedy, and measure.

    Networks see 64 px and learn for the same steps from the same start. A class gets ``scale.faces`` generated faces
    at most, the oracle of the rare ones as many real ones. The attack is on what the row "generated" taught, and half
    of its faces are plain ones. Three things are chosen on renders that are neither learnt from nor measured on: how
    strongly a last layer is adjusted, and the best balancing and the best augmentation for the rows "best".

    Each row has a file in ``out``; the same call goes on where one stopped. Writes `imbalance.json`, a picture for
    each label and a sheet of generated faces; returns the content of the former: "rows", and their "table", see
    `tally`. Raises `RequestError` for a folder of another suite and for what does not exist.
    """
    scale = scale or Scale()
    whole("seed", seed, 0, MAX_SEED - scale.seeds)
    require_place(out)
    named = renders or shipped_renders()
    if named is None:
        raise RequestError(f"no '{SHIPPED}' are shipped here; name renders with --renders DIR")
    full = read_renders(named)
    settings = {
        "faces": scale.faces, "steps": scale.steps, "batch": scale.batch, "generator": generator,
        "renders": full.settings, "side": SIDE, "attack": ATTACK.steps,
    }  # fmt: skip
    folder = open_suite(out, settings)
    suite = _Suite(folder, scale, full, shrunk(full, SIDE), generator, resolve_device(device), progress)
    cases = [
        Tail(label=label, ratio=ratio, architecture=architecture, seed=seed + number)  # type: ignore[arg-type]
        for label in scale.labels
        for ratio in scale.ratios
        for architecture in scale.architectures
        for number in range(scale.seeds)
    ]
    rows = [row for number, case in enumerate(cases) for row in suite.case(case, number, len(cases))]
    content: dict[str, Any] = {"settings": settings, "table": tally(rows), "faces": suite.told, "rows": rows}
    write_json(folder / RESULT, content)
    for label in scale.labels:
        draw_lines([row for row in content["table"] if row["label"] == label], label, folder / f"{label}.png")
    return content


class _Suite:
    """One suite's data and generator, and what it does with a case."""

    def __init__(
        self, folder: Path, scale: Scale, full: RenderSet, small: RenderSet, generator: str, place: torch.device,
        progress: Progress | None,
    ) -> None:  # fmt: skip
        self.folder, self.scale, self.full, self.small = folder, scale, full, small
        self.generator, self.place, self.progress = generator, place, progress
        self.told: list[dict[str, Any]] = []
        self._sources: dict[str, RareFaces] = {}

    def case(self, tail: Tail, number: int, of: int) -> list[dict[str, Any]]:
        """All rows of a case."""
        parts = split(self.small, tail, self.scale.faces)
        real = self.small.images[parts.more], parts.labels[parts.more]

        def tell(name: str) -> None:
            if self.progress:
                self.progress(len(run.rows), ROWS, f"{number + 1} of {of}, {tail.name}: {name}")

        scale, images = self.scale, self.small.images
        run = CaseRows(self.folder / tail.name, tail, parts, images, scale.steps, scale.batch, self.place, tell)
        for name in ALONE:
            run.row(name, REMEDIES[name])
        for name in AFTER:
            run.row(name, REMEDIES[name])
        # Without an augmentation that helps, none; and the last layer is adjusted, which may be by nothing.
        both = replace(REMEDIES[run.best(BALANCING)], augment=REMEDIES[run.best(["plain", *VARYING])].augment)
        both = replace(both, after="adjusted") if both.after == "no" else both
        run.row(BEST, both)
        run.row("oracle", REMEDIES["oracle"], real)
        plain, made = self._plain(tail, parts), {}
        for name in ("generated-rare", "generated", "generated-alone"):
            made[name] = _taken(plain, plan(parts.counts, self.scale.faces, REMEDIES[name].beside))
            making = {each: plain.seconds * len(faces[1]) / len(plain.labels) for each, faces in made.items()}
            run.row(name, REMEDIES[name], made[name], making[name])
        run.row(BEST_GENERATED, replace(both, added="generated"), made["generated"], making["generated"])
        took = run.seconds("generated")  # whose model is attacked
        hard = {name: self._hard(tail, parts, run, name) for name in ("sia-semantic", "sia-joint")}
        for name, faces in hard.items():
            made[name] = _mixed(plain, faces, plan(parts.counts, self.scale.faces, True))
            run.row(name, REMEDIES[name], made[name], faces.seconds + took)
        best = run.best(list(hard))
        run.row(BEST_SIA, replace(both, added=REMEDIES[best].added), made[best], hard[best].seconds + took)
        self._tell(tail, parts, {"generated": plain, **hard})
        return run.rows

    def _source(self, tail: Tail) -> RareFaces:
        if tail.label not in self._sources:
            device = str(self.place)
            source, space = load_generator(self.generator, device), load_attributes(self.generator, device)
            verified = replace(reader(tail.label, space, source, self.place), thresholds=tail.meant.thresholds)
            identity = identity_for(described(tail.classes, tail.meant), self.place)
            self._sources[tail.label] = RareFaces.of(source, space, verified, tail.meant, ATTACK, identity)
        return self._sources[tail.label]

    def _plain(self, tail: Tail, parts: Split) -> Faces:
        """Faces of every class, which do not depend on the ratio or the network."""
        folder = self.folder / f"faces-{tail.label}-{tail.seed}"
        every = dict.fromkeys(reversed(range(len(parts.counts))), self.scale.faces)
        return fill(
            folder, self._source(tail), every, "generated", None, "", seed=tail.seed, progress=self.progress
        )[0]  # fmt: skip

    def _hard(self, tail: Tail, parts: Split, run: CaseRows, name: str) -> Faces:
        """Half as many faces, against what the plain ones taught."""
        halves = {k: count // 2 for k, count in plan(parts.counts, self.scale.faces, True).items()}
        target = as_target(run.model("generated"), tail)
        return fill(
            self.folder / tail.name / f"faces-{name}", self._source(tail), halves, REMEDIES[name].added, target,
            tail.name, round_number=1, seed=tail.seed, progress=self.progress,
        )[0]  # fmt: skip

    def _tell(self, tail: Tail, parts: Split, made: dict[str, Faces]) -> None:
        """Figures of what was generated, and a sheet of those of the rarest class beside the nearest renders."""
        rarest = len(parts.counts) - 1
        source = self._source(tail)
        for name, faces in made.items():
            told = {
                "case": tail.name, "faces": name, "made": len(faces.rows), "a_minute": faces.a_minute,
                "hard": sum(row["hard"] for row in faces.rows), "refused": dict(faces.refused),
            }  # fmt: skip
            self.told.append(told | likeness_of(faces, source))
        path = self.folder / f"{tail.name}.png"
        if not is_file(path):
            real = self.full.images[parts.tail[parts.labels[parts.tail] == rarest]]
            draw_people(
                {name: faces.pictures[faces.labels == rarest] for name, faces in made.items()}, real, source, path
            )


def likeness_of(faces: Faces, source: RareFaces) -> dict[str, Any]:
    """How alike the faces look: share above the limit, and above the identity model's own threshold."""
    cosines = torch.tensor([row["likeness"] for row in faces.rows])
    threshold = 1.0 if source.gate.identity is None else source.gate.identity.threshold
    return {
        "alike": round(source.alike, 4),
        "twice": round(float((cosines >= source.alike).float().mean()), 4),
        "above_threshold": round(float((cosines >= threshold).float().mean()), 4),
        "likeness_median": round(float(cosines.median()), 4),
    }


def _taken(faces: Faces, wanted: dict[int, int]) -> tuple[Tensor, Tensor]:
    """So many faces of each class, the first ones."""
    rows = [(faces.labels == number).nonzero().flatten()[:count] for number, count in wanted.items()]
    index = torch.cat(rows)
    return faces.pictures[index], faces.labels[index]


def _mixed(plain: Faces, hard: Faces, wanted: dict[int, int]) -> tuple[Tensor, Tensor]:
    """So many faces of each class, half of them hard."""
    pictures, labels = _taken(plain, {number: count - count // 2 for number, count in wanted.items()})
    return torch.cat([pictures, hard.pictures]), torch.cat([labels, hard.labels])
