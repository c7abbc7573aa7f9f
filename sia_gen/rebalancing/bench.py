"""What helps where classes are rare: long tails of renders, every remedy, measured on balanced renders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.load import load_attributes
from sia_gen.audits.evidence.validity import identity_for
from sia_gen.audits.proof.suite import open_suite
from sia_gen.core.errors import RequestError, unknown
from sia_gen.core.executors import Progress, resolve_device
from sia_gen.core.files import is_file, read_json, require_place, write_json
from sia_gen.core.seeds import MAX_SEED, whole
from sia_gen.generators.load import load_generator
from sia_gen.rebalancing.case_rows import CaseRows
from sia_gen.rebalancing.faces_folder import Faces, fill
from sia_gen.rebalancing.likeness import likeness_of, nearest_before, people_of
from sia_gen.rebalancing.long_tail import LABELS, MOST, RATES, SIDE, TRIED, Split, Tail, as_target, split
from sia_gen.rebalancing.meaning import reader
from sia_gen.rebalancing.pictures import draw_lines, draw_people
from sia_gen.rebalancing.rare_faces import TWICE, RareFaces
from sia_gen.rebalancing.remedies import REMEDIES, TAIL, Remedy, plan
from sia_gen.rebalancing.tail_generator import read_as_told, tail_faces
from sia_gen.rebalancing.tally import BEST, BEST_GENERATED, BEST_SIA, KNOWN_BY, and_before, tally
from sia_gen.studio.renders import SHIPPED, RenderSet, read_renders, shipped_renders
from sia_gen.training.network import shrunk
from sia_gen.training.processes import require_alone

RESULT = "imbalance.json"
ATTACK = SemanticImageAttack(steps=6).gentle()
ALONE = [name for name, row in REMEDIES.items() if row.added == "no" and row.after == "no"]
AFTER = [name for name, row in REMEDIES.items() if row.after != "no"]
BALANCING = [name for name in (*ALONE, *AFTER) if REMEDIES[name].augment == "no" and name != "plain"]
VARYING = [name for name in ALONE if REMEDIES[name].augment != "no"]
CHOSEN = ("plain", *BALANCING, *VARYING)  # what the rows "best" are chosen from
HARD = [name for name, row in REMEDIES.items() if row.added in ("semantic", "joint")]
OF_FACES = ["generated-rare", "generated", "generated-alone", *HARD, BEST_GENERATED, BEST_SIA]
ROWS = [*(name for name in REMEDIES if name not in TAIL), BEST, BEST_GENERATED, BEST_SIA]
NEEDS = {
    **dict.fromkeys(AFTER, ("plain",)), **dict.fromkeys(HARD, ("generated",)), BEST: CHOSEN, BEST_GENERATED: CHOSEN,
    BEST_SIA: (*CHOSEN, "generated", *HARD),
}  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """How much the suite does."""

    labels: tuple[str, ...] = LABELS
    ratios: tuple[int, ...] = (10, 50, 100)
    architectures: tuple[str, ...] = ("resnet", "vit")
    remedies: tuple[str, ...] = tuple(ROWS)
    seeds: int = 3
    faces: int = 600
    steps: int = 1200
    batch: int = 32
    search: bool = False  # for a learning rate of each row

    def __post_init__(self) -> None:
        for kind, names, known in (
            ("label", self.labels, list(LABELS)), ("network", self.architectures, list(RATES)),
            ("remedy", self.remedies, [*ROWS, *TAIL]),
        ):  # fmt: skip
            for name in names:
                if name not in known:
                    raise unknown(kind, name, known)
        for ratio in self.ratios:
            whole("ratio", ratio, 2, 10_000)
        for name, most in (("seeds", 1000), ("faces", MOST), ("steps", 1_000_000), ("batch", 4096)):
            whole(name, getattr(self, name), 2 if name in ("faces", "batch") else 1, most)


QUICK = Scale(labels=("glasses",), ratios=(50,), architectures=("resnet",), seeds=1, faces=300, steps=600)


def scale_of(quick: bool, *, ratios: Sequence[str] | None = None, tail: bool = False, **asked: Any) -> Scale:
    """The quick or the full scale, with what is ``asked`` in place of its own, and the rows of the ``tail`` beside it.

    Raises `RequestError` for nonsense.
    """
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if ratios is not None:
        try:
            given["ratios"] = [int(ratio) for ratio in ratios]
        except ValueError:
            raise RequestError(f"ratios={','.join(ratios)} are no whole numbers; give some, as 10,50") from None
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    scale = replace(QUICK if quick else Scale(), **given)
    return replace(scale, remedies=tuple(dict.fromkeys((*scale.remedies, *TAIL)))) if tail else scale


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
    strongly a last layer is adjusted, and the best balancing and the best augmentation for the rows "best"; with
    ``scale.search`` also the learning rate of each row, of `TRIED` times the usual one. Of
    ``scale.remedies`` those alone are taught, and the rows that they need. The rows of `TAIL` ask a generator that is
    taught on the long tail alone, for each of them anew.

    Each row has a file in ``out``; the same call goes on where one stopped. Writes `imbalance.json`, a picture for
    each label and sheets of generated faces; returns the content of the former: "rows", and their "table", see
    `tally`, of all calls with this folder. "seconds" of a row that was interrupted are those of its last attempt.
    Raises `RequestError` for a folder of another suite and for what does not exist.
    """
    require_alone("bench imbalance")
    scale = scale or Scale()
    whole("seed", seed, 0, MAX_SEED - scale.seeds)
    require_place(out)
    named = renders or shipped_renders()
    if named is None:
        raise RequestError(f"no '{SHIPPED}' are shipped here; name renders with --renders DIR")
    full = read_renders(named)
    settings = {
        "faces": scale.faces, "steps": scale.steps, "batch": scale.batch, "generator": generator,
        "renders": full.settings, "side": SIDE, "attack": ATTACK.steps, "gentle": True,
        "rates": list(TRIED) if scale.search else None,
    }  # fmt: skip
    folder = open_suite(out, settings, absent={"gentle": False})
    suite = _Suite(folder, scale, full, shrunk(full, SIDE), generator, resolve_device(device), progress)
    cases = [
        Tail(label=label, ratio=ratio, architecture=architecture, seed=seed + number)  # type: ignore[arg-type]
        for label in dict.fromkeys(scale.labels)
        for ratio in dict.fromkeys(scale.ratios)
        for architecture in dict.fromkeys(scale.architectures)
        for number in range(scale.seeds)
    ]
    rows = [row for number, case in enumerate(cases) for row in suite.case(case, number, len(cases))]
    before = read_json(folder / RESULT) if is_file(folder / RESULT) else {"rows": [], "faces": []}
    rows, told = and_before(before["rows"], rows, KNOWN_BY), and_before(before["faces"], suite.told, ("case", "faces"))
    content: dict[str, Any] = {"settings": settings, "table": tally(rows), "faces": told, "rows": rows}
    write_json(folder / RESULT, content)
    for label in dict.fromkeys(row["label"] for row in rows):
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
        self.wanted = {need for name in scale.remedies for need in (name, *NEEDS.get(name, ()))}
        self._sources: dict[str, RareFaces] = {}
        self._floors: dict[tuple[int, int], list[float]] = {}

    def case(self, tail: Tail, number: int, of: int) -> list[dict[str, Any]]:
        """All rows of a case."""
        parts = split(self.small, tail, self.scale.faces)
        real = self.small.images[parts.more], parts.labels[parts.more]

        def tell(name: str) -> None:
            if self.progress:
                self.progress(len(run.rows), len(self.wanted), f"{number + 1} of {of}, {tail.name}: {name}")

        scale, images = self.scale, self.small.images
        run = CaseRows(
            self.folder / tail.name, tail, parts, images, scale.steps, scale.batch, self.place, tell,
            TRIED if scale.search else (1.0,),
        )  # fmt: skip
        for name in (*ALONE, *AFTER):
            if name in self.wanted:
                run.row(name, REMEDIES[name])
        both = self._both(run) if self.wanted.issuperset(CHOSEN) else None
        if both and BEST in self.wanted:
            run.row(BEST, both)
        if "oracle" in self.wanted:
            run.row("oracle", REMEDIES["oracle"], real)
        if not self.wanted.isdisjoint(OF_FACES):
            self._generated(tail, parts, run, both)
        if not self.wanted.isdisjoint(TAIL):
            self._of_tail(tail, parts, run)
        return run.rows

    def _both(self, run: CaseRows) -> Remedy:
        """The best balancing and the best augmentation together."""
        # Without an augmentation that helps, none; and the last layer is adjusted, which may be by nothing.
        both = replace(REMEDIES[run.best(BALANCING)], augment=REMEDIES[run.best(["plain", *VARYING])].augment)
        return replace(both, after="adjusted") if both.after == "no" else both

    def _generated(self, tail: Tail, parts: Split, run: CaseRows, both: Remedy | None) -> None:
        """The rows of generated faces, ``both`` being what else the best of them get."""
        plain, wanted = self._plain(tail, parts), plan(parts.counts, self.scale.faces, True)
        made, seconds = {}, {}
        for name in ("generated-rare", "generated", "generated-alone"):
            made[name] = plain.taken(plan(parts.counts, self.scale.faces, REMEDIES[name].beside))
            seconds[name] = plain.seconds * len(made[name][1]) / len(plain.labels)
            if name in self.wanted:
                run.row(name, REMEDIES[name], made[name], seconds[name])
        if both and BEST_GENERATED in self.wanted:
            run.row(BEST_GENERATED, replace(both, added="generated"), made["generated"], seconds["generated"])
        hard = {name: self._hard(tail, parts, run, name) for name in HARD if name in self.wanted}
        for name, faces in hard.items():
            rest = plain.taken({number: count - count // 2 for number, count in wanted.items()})
            made[name] = torch.cat([rest[0], faces.pictures]), torch.cat([rest[1], faces.labels])
            seconds[name] = faces.seconds + run.seconds("generated")  # whose model is attacked
            run.row(name, REMEDIES[name], made[name], seconds[name])
        if both and BEST_SIA in self.wanted:
            best = run.best(HARD)
            run.row(BEST_SIA, replace(both, added=REMEDIES[best].added), made[best], seconds[best])
        self._tell(tail, parts, {"generated": plain, **hard}, self.full)

    def _of_tail(self, tail: Tail, parts: Split, run: CaseRows) -> None:
        """The rows of a generator that has seen the long tail alone."""
        folder = self.folder / f"generator-{tail.label}-{tail.ratio}-{tail.seed}"  # whatever the network is
        wanted = plan(parts.counts, self.scale.faces, True)
        faces = tail_faces(folder, self.small, tail, parts, wanted, self.place, self.progress)
        for name in TAIL:
            if name in self.wanted:
                run.row(name, REMEDIES[name], (faces.pictures, faces.labels), faces.seconds)
        for row, likeness in zip(faces.rows, nearest_before(faces.pictures, self._source(tail)), strict=True):
            row["likeness"] = likeness
        self._tell(tail, parts, {TAIL[0]: faces}, self.small, "-tail")
        self.told[-1]["read"] = read_as_told(faces, self._source(tail))

    def _source(self, tail: Tail) -> RareFaces:
        if tail.label not in self._sources:
            device = str(self.place)
            source = load_generator(self.generator, device)
            space = load_attributes(self.generator, device, source)
            verified = tuple(reader(name, space, source, self.place) for name in tail.attributes)
            identity = identity_for(as_target(nn.Identity(), tail), self.place)
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

    def _tell(self, tail: Tail, parts: Split, made: dict[str, Faces], real: RenderSet, more: str = "") -> None:
        """Figures of what was generated, and a sheet of those of the rarest class beside the nearest renders."""
        rarest, source = len(parts.counts) - 1, self._source(tail)
        floor = self._floor(source, real, len(parts.counts))
        for name, faces in made.items():
            told = {
                "case": tail.name, "faces": name, "made": len(faces.rows), "a_minute": faces.a_minute,
                "hard": sum(row["hard"] for row in faces.rows), "refused": dict(faces.refused),
            }  # fmt: skip
            count = min(len(floor), len(faces.rows))  # among more people, more look like one before
            told |= {"compared": count, "filtered": name not in TAIL}
            told |= likeness_of([row["likeness"] for row in faces.rows[:count]], source)
            if told["filtered"]:  # of those that are left none looks like one before
                again = faces.refused[TWICE]
                told["twice"] = round(again / max(1, again + len(faces.rows)), 4)
            self.told.append(told | {"renders": likeness_of(floor[:count], source)})
        shown = real.images[parts.tail[parts.labels[parts.tail] == rarest]]
        sheet = {name: faces.pictures[faces.labels == rarest] for name, faces in made.items()}
        draw_people(sheet, shown, source, self.folder / f"{tail.name}{more}.png")

    def _floor(self, source: RareFaces, real: RenderSet, classes: int) -> list[float]:
        """How like the nearest before it each of so many renders of different people is."""
        key = real.images.shape[-1], classes
        if key not in self._floors:
            rows = people_of(real)[: classes * self.scale.faces]
            self._floors[key] = nearest_before(real.images[rows], source)
        return self._floors[key]
