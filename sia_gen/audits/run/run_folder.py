"""The folder of one audit: its settings, and one part file per finished (chunk of faces, arm).

A part is whole or absent, so a run that was killed at any moment goes on from what is finished.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.files import HALF_WRITTEN, read_json, read_tensors, writable_folder, write_json, write_tensors
from sia_gen.core.images import from_bytes, to_bytes
from sia_gen.generators.generator import Generator
from sia_gen.targets.target import Target, ask

CONFIG, HISTOGRAM = "config.json", "histogram.json"
FORMAT = 5  # of a run: another one's parts mean other things
PARTS = "parts"
MADE_OF = "made_of"  # where generator and target are found again
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
        self.path = writable_folder(path)
        if (self.path / CONFIG).exists():
            found = read_json(self.path / CONFIG)
            if not isinstance(found, dict) or "probe" not in found:
                raise RequestError(f"'{self.path}' holds something other than a run; choose another --out")
            require_format(self.path, found, "choose another --out")
            self._compare(found, settings)
            self._sweep()
            require_same_weights(self.path, found["probe"], probe, "choose another --out")
        elif any(not path.name.startswith(".") for path in self.path.iterdir()):
            raise RequestError(f"'{self.path}' holds files that are no run's; choose another --out or an empty folder")
        else:
            write_json(self.path / CONFIG, {**settings, "probe": list(probe)})
        writable_folder(self.path / PARTS)

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
            if name.startswith(f"{MADE_OF}.") or name == MADE_OF:  # a folder may have another place by now
                continue
            if there.get(name) != here.get(name):
                raise RequestError(
                    f"'{self.path}' holds a run with {name}={there.get(name)}, not {here.get(name)}; "
                    "choose another --out or the same settings"
                )

    def _sweep(self) -> None:
        """Clear away what a run that was killed left half written."""
        for path in self.path.rglob(HALF_WRITTEN):
            path.unlink(missing_ok=True)

    def _part(self, chunk: int, arm: int) -> Path:
        return self.path / PARTS / f"{chunk:05d}-{arm:03d}.safetensors"

    def has(self, chunk: int, arm: int) -> bool:
        """Whether a part is finished; one damaged by a power cut counts as missing."""
        if not self._part(chunk, arm).is_file():
            return False
        try:
            self.read(chunk, arm)
        except WorkError:
            return False
        return True

    def write(self, chunk: int, arm: int, tensors: Mapping[str, Tensor]) -> None:
        """Keep a finished part; raises `WorkError` when the place is full or gone."""
        self._keep(self._part(chunk, arm), tensors)

    def _keep(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        try:
            write_tensors(path, tensors)
        except OSError as error:
            reason = f"cannot write to '{self.path}' any more ({error.strerror})"
            raise WorkError(f"{reason}; make room and run the same again: what is finished stays") from None

    def once(self, name: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Tensors that are made once for the run and kept in a file; again where a power cut damaged it."""
        try:
            return read_tensors(self.path / name)[0]
        except WorkError:
            self._keep(self.path / name, make())
            return read_tensors(self.path / name)[0]

    def read(self, chunk: int, arm: int) -> dict[str, Tensor]:
        return read_tensors(self._part(chunk, arm))[0]


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
    target.task.check(prediction, 1)
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
