"""The folder of one audit: its settings, and one part file per finished (chunk of faces, arm).

A part is whole or absent, so a run that was killed at any moment goes on from what is finished.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.files import (
    HALF_WRITTEN,
    is_file,
    read_json,
    read_tensors,
    require_place,
    tensors_digest,
    writable_folder,
    write_json,
    write_tensors,
)
from sia_gen.core.images import from_bytes, to_bytes
from sia_gen.generators.generator import Generator
from sia_gen.targets.target import Target, ask

CONFIG, HISTOGRAM, RESULTS, REPORT = "config.json", "histogram.json", "results.parquet", "report.html"
FORMAT = 7  # of a run: another one's parts mean other things
PARTS = "parts"
GIVEN = "given"  # the attributes of a space that was handed over
MADE_OF = "made_of"  # where generator and target are found again
MADE_WITH = "made_with"  # what decides how numbers are rounded: the same bytes are promised with the same of it
# Of the largest number. Runs of the same weights differ by rounding (threads, devices), other weights by more.
PROBE_TOLERANCE = 0.005
PROBED = 64  # numbers of the target's first prediction, at most, that tell its weights from others


class RunFolder:
    """Where a run's parts lie; opening it makes it, or proves that it holds the same run."""

    def __init__(self, path: str | Path, settings: Mapping[str, Any], probe: Sequence[float]) -> None:
        """``probe`` is what the target says about the first face: it tells other weights of the same name.

        Raises `RequestError` where nothing can be written, or if the folder holds a run with other settings.
        """
        settings = json.loads(json.dumps({"format": FORMAT, **settings}))  # as it reads back: tuples are lists
        self.path = Path(path)
        found = begun(self.path)
        if found:
            self._compare(found, settings)
            require_same_weights(self.path, found["probe"], probe, "choose another --out")
        else:
            writable_folder(self.path)
            found = {**settings, "probe": list(probe), MADE_WITH: made_with()}
            write_json(self.path / CONFIG, found)
        self._made_with = found.get(MADE_WITH)
        told = {name: value for name, value in found.items() if name not in (MADE_OF, MADE_WITH)}
        self._run = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def told(self) -> bool:
        """Whether the run is finished, so that what it found only has to be shown."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            if not all(is_file(self.path / name) for name in (RESULTS, REPORT)):
                return False
            pq.read_metadata(self.path / RESULTS)
            return bool(read_json(self.path / HISTOGRAM))
        except (WorkError, pa.ArrowException, OSError):
            return False

    def go_on(self) -> None:
        """Get ready to write; a folder that is only read is not touched. Tells of what differs since the run began."""
        writable_folder(self.path / PARTS)
        (self.path / HISTOGRAM).unlink(missing_ok=True)  # where it lies, the run is finished
        for path in self.path.rglob(HALF_WRITTEN):  # of a run that was killed
            path.unlink(missing_ok=True)
        now = made_with()
        if self._made_with not in (None, now):
            logging.getLogger(__name__).warning(
                "'%s' was begun with %s and goes on with %s: what is added may differ by rounding",
                self.path, _in_words(self._made_with), _in_words(now),
            )  # fmt: skip

    @classmethod
    def like(cls, folder: Path, path: str | Path) -> RunFolder:
        """A place at ``path`` for a copy of the run in ``folder``."""
        settings = read_json(folder / CONFIG)
        require_format(folder, settings, "audit again")
        probe = settings.pop("probe")
        return cls(path, settings, probe)

    def _compare(self, found: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        there, here = dict(_flat(found)), dict(_flat(settings))
        for name in [*here, *(name for name in there if name not in here and name != "probe")]:
            if name.split(".")[0] in (MADE_OF, MADE_WITH):  # a folder may have another place by now
                continue
            if name == GIVEN and name not in there:  # a run of before; its edits tell as much
                continue
            if there.get(name) != here.get(name):
                raise RequestError(
                    f"'{self.path}' holds a run with {name}={there.get(name)}, not {here.get(name)}; "
                    "choose another --out or the same settings"
                )

    def _part(self, chunk: int, arm: int) -> Path:
        return self.path / PARTS / f"{chunk:05d}-{arm:03d}.safetensors"

    def has(self, chunk: int, arm: int) -> bool:
        """Whether a part is finished; one that is damaged, or another's, counts as missing, and is told of."""
        if not self._part(chunk, arm).is_file():
            return False
        try:
            self.read(chunk, arm)
        except WorkError as error:
            logging.getLogger(__name__).warning("%s; it is made again", str(error).split(";")[0])
            return False
        return True

    def write(self, chunk: int, arm: int, tensors: Mapping[str, Tensor]) -> None:
        """Keep a finished part; raises `WorkError` when the place is full or gone."""
        self._keep(self._part(chunk, arm), tensors)

    def _keep(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        try:
            write_tensors(path, tensors, self._seal(path, tensors))
        except OSError as error:
            reason = f"cannot write to '{self.path}' any more ({error.strerror})"
            raise WorkError(f"{reason}; make room and run the same again: what is finished stays") from None

    def once(self, name: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Tensors that are made once for the run and kept in a file; again where a power cut damaged it."""
        try:
            return self._sealed(self.path / name)
        except WorkError:
            self._keep(self.path / name, make())
            return self._sealed(self.path / name)

    def read(self, chunk: int, arm: int) -> dict[str, Tensor]:
        """A finished part; raises `WorkError` for one that is not what was written."""
        return self._sealed(self._part(chunk, arm))

    def _seal(self, path: Path, tensors: Mapping[str, Tensor]) -> dict[str, str]:
        """What proves that a file holds what was written to it, in this run and under its name."""
        return {"seal": f"{self._run}/{path.name} {tensors_digest(tensors)}"}  # one: several have no order

    def _sealed(self, path: Path) -> dict[str, Tensor]:
        tensors, metadata = read_tensors(path)
        if metadata != self._seal(path, tensors):
            raise WorkError(f"'{path}' is not what this run wrote there; remove it and run the same again")
        return tensors


def made_with() -> dict[str, Any]:
    """The versions, processor and threads that a run's numbers come from: with others they may differ by rounding."""
    import sia_gen

    return {
        "sia_gen": sia_gen.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
    }


def _in_words(made: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in made.items()) if isinstance(made, dict) else "nothing known"


def _finite(probe: Any) -> bool:
    """Whether this is what `probe` gives."""
    return isinstance(probe, list) and all(isinstance(value, float) and math.isfinite(value) for value in probe)


def begun(path: Path) -> dict[str, Any]:
    """The config of the run in a folder, empty where one can be begun; raises `RequestError` for any other place."""
    if not is_file(path / CONFIG):
        require_place(path)
        if path.exists() and any(not file.name.startswith(".") for file in path.iterdir()):
            raise RequestError(f"'{path}' holds files that are no run's; choose another --out or an empty folder")
        return {}
    found = read_json(path / CONFIG)
    if not isinstance(found, dict) or not _finite(found.get("probe")):
        raise RequestError(f"'{path}' holds something other than a run; choose another --out")
    require_format(path, found, "choose another --out")
    return found


def require_format(run: Path, settings: Mapping[str, Any], remedy: str) -> None:
    """Raise `RequestError` unless a run was made by a version whose runs are like this one's."""
    if settings.get("format") != FORMAT:
        raise RequestError(f"'{run}' was made by another version of sia-gen, whose runs differ; {remedy}")


def require_same_weights(run: Path, found: Sequence[float], probe: Sequence[float], remedy: str) -> None:
    """Raise `RequestError` unless two probes of a target, see `RunFolder`, are alike but for rounding."""
    rounding = PROBE_TOLERANCE * max(map(abs, found), default=0.0)
    if len(found) != len(probe) or any(abs(a - b) > rounding for a, b in zip(found, probe, strict=True)):
        raise RequestError(
            f"'{run}' holds a run of other weights (the target said {_short(found)} about the first face, "
            f"now {_short(probe)}); {remedy}"
        )


def fingerprint(*spaces: AttributeSpace) -> str:
    """Tells whether attributes of the same names are the same edits."""
    digest = hashlib.sha256()
    for space in spaces:
        digest.update(repr(space.attributes).encode())
        digest.update(space.directions.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def probe(generator: Generator, target: Target, seed: int) -> list[float]:
    """Numbers that the target says about a face: they tell these weights from others of the same name."""
    prediction = ask(target, from_bytes(to_bytes(generator.render(generator.sample([seed])))))
    target.task.check(prediction if target.differentiable else prediction.nan_to_num(), 1)
    if not target.differentiable:
        prediction = prediction.nan_to_num()  # of a face it says nothing of
    numbers = prediction.flatten().float()
    return [float(f"{value:.7g}") for value in numbers[:: -(-len(numbers) // PROBED)].tolist()]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as ("attack.steps", 10) pairs, so that an error names one value."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _short(values: Sequence[float]) -> str:
    shown = ", ".join(f"{value:.3g}" for value in values[:3])
    return f"[{shown}{', …' if len(values) > 3 else ''}]"
