"""Whether hardening makes a model robust: every regimen hardens the same target over several seeds, and is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sia_gen.audits.proof.baselines import ensemble
from sia_gen.audits.proof.robustness import RADII, Report, Robustness
from sia_gen.audits.proof.suite import open_suite, require_same_suite
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Precision, Progress
from sia_gen.core.files import is_file, read_json, require_place, writable_folder, write_json
from sia_gen.core.locate import lasting, locate
from sia_gen.core.seeds import MAX_SEED, whole
from sia_gen.hardening.harden import harden
from sia_gen.hardening.regimens import HardeningSettings
from sia_gen.hardening.resolve import GENERATOR, resolve
from sia_gen.hardening.tally import STANDARD, UNTOUCHED, measures_of, tally
from sia_gen.targets.adapted import MARK
from sia_gen.targets.task import Classification
from sia_gen.training.processes import TRAINING, require_alone

SIA = ("sia-semantic", "sia-joint", "sia-joint-pgd", "sia-joint-trades")
REGIMENS_MEASURED = (STANDARD, "random", "pgd", "trades", *SIA)
RESULT, ROW, MODEL = "hardening.json", "row.json", "model"
STEPS = 10  # of the attacks that measure


@dataclass(frozen=True)
class Cells:
    """What is measured: each of the regimens ``by`` over ``seeds`` seeds, on ``judged`` faces and within ``radii``.

    Without ``corrupt`` no corrupted renders are shown.
    """

    by: tuple[str, ...] = REGIMENS_MEASURED
    seeds: int = 3
    judged: int = 32
    radii: tuple[float, ...] = RADII
    corrupt: bool = True
    hardening: HardeningSettings = field(default_factory=HardeningSettings)

    def __post_init__(self) -> None:
        whole("seeds", self.seeds, 1, 1000)
        whole("judged", self.judged, 1, 100_000)
        if not self.by:
            raise RequestError("by='' names no regimen; name one, as sia-semantic")
        if len(set(self.by)) < len(self.by):
            raise RequestError(f"by={','.join(self.by)} names a regimen twice; name each once")


def hardening_suite(
    out: str | Path,
    *,
    target: str | Path = "smile-classifier-planted",
    cells: Cells | None = None,
    generator: str | Path = GENERATOR,
    attributes: Sequence[str] | None = None,
    seed: int = 0,
    device: str = "cpu",
    precision: Precision = "no",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Harden copies of ``target``, at equal faces, steps and batch, and measure what each stands; `hardening.json`.

    Seeds are counted up from ``seed``. All models are measured on the same ``cells.judged`` faces, others than any has
    learnt from, see `robustness`; the row "untouched" is the target as it is. Each cell has a folder in ``out`` with
    the model, its "row.json" and the whole report; the same call goes on where one stopped, and one with more regimens
    or seeds adds these.

    The content has "rows", and their "table", see `tally`. Raises `RequestError` for a folder of another suite and as
    `harden` and `robustness` do.
    """
    cells = cells or Cells()
    require_place(out)
    require_alone("bench hardening")
    whole("seed", seed, 0, MAX_SEED - cells.seeds)
    for by in cells.by:  # every fault of the request shows before anything is learnt
        model = resolve(
            target, None, generator, attributes, None, None, None, by, cells.hardening, seed, device, precision, None
        ).model  # fmt: skip
    cause = _planted(target)
    attacked = bool(cells.radii) and isinstance(model.task, Classification)
    settings: dict[str, Any] = {
        "target": lasting("target", target), "generator": lasting("generator", generator),
        "attributes": None if attributes is None else list(attributes), "cause": cause,
        "hardening": asdict(cells.hardening), "judged": cells.judged, "radii": list(cells.radii),
        "corrupted": cells.corrupt, "steps": STEPS, "seed": seed, "precision": precision,
        "pixel_attacks": ensemble(model) if attacked else [],
    }  # fmt: skip
    absent = {"pixel_attacks": ensemble(model, more=False) if attacked else []}
    require_same_suite(Path(out), settings, absent=absent)
    measure = Robustness(
        generator=generator, attributes=attributes, faces=cells.judged, radii=cells.radii, steps=STEPS, label=None,
        confirm="auto", seed=seed, device=device, focus=() if cause is None else (cause,),
        corrupt=cells.corrupt,
    )  # fmt: skip
    wanted = [(by, seed + number) for number in range(cells.seeds) for by in cells.by]

    def told(number: int, what: str) -> Progress:
        """Progress that counts cells, and says at which part of one it is."""
        return lambda done, total, part: progress(number, len(wanted) + 1, f"{what}: {part}") if progress else None

    begun = is_file(Path(out) / UNTOUCHED / ROW)
    plain = None if begun else measure.asked(target, told(0, UNTOUCHED))
    folder = open_suite(out, settings, absent=absent)

    def row(number: int, by: str, chosen: int | None) -> dict[str, Any]:
        place = writable_folder(folder / (by if chosen is None else f"{by}-{chosen}"))
        if not is_file(place / ROW):
            say, seconds, asked = told(number, place.name), None, plain
            if chosen is not None:
                made = harden(
                    target, place / MODEL, generator=generator, attributes=attributes, by=by, settings=cells.hardening,
                    again=False, seed=chosen, device=device, precision=precision, progress=say,
                )  # fmt: skip
                seconds, asked = made.seconds, measure.asked(made.target, say)
            assert asked is not None
            write_json(place / ROW, _row(by, chosen, seconds, asked))
        return read_json(place / ROW)

    rows = [row(0, UNTOUCHED, None)]
    rows += [row(number, by, chosen) for number, (by, chosen) in enumerate(wanted, start=1)]
    content = {
        "settings": settings, "table": tally(rows),
        "rows": [{key: value for key, value in each.items() if key != "report"} for each in rows],
    }  # fmt: skip
    write_json(folder / RESULT, content)
    return content


def _row(by: str, seed: int | None, seconds: dict[str, float] | None, asked: Report) -> dict[str, Any]:
    report = asked.told()
    found = measures_of(report, len(asked.request.seeds), seconds)
    return {"by": by, "seed": seed, "seconds": seconds, "measures": found, "report": report}


def _planted(target: str | Path) -> str | None:
    """The cause of failure that was planted in a target, where its folder says so."""
    bare = target.partition(MARK)[0] if isinstance(target, str) else target
    place = locate("target", bare)
    if not isinstance(place, Path) or not is_file(place / TRAINING):
        return None
    found = read_json(place / TRAINING)
    settings = found.get("settings") if isinstance(found, dict) else None
    cause = settings.get("planted") if isinstance(settings, dict) else None
    return cause if isinstance(cause, str) else None
