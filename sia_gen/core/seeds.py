"""One stream of randomness per face: a face never depends on the batch, the order or the device it is drawn with."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sia_gen.core.errors import RequestError

MAX_FACES = 100_000
MAX_SEED = 2**31 - 1


def face_seeds(seed: int, faces: int) -> list[int]:
    """The seeds of ``faces`` faces of a run; a longer run begins with the same faces.

    Raises `RequestError` outside 1 ≤ faces ≤ 100 000 and 0 ≤ seed < 2**31.
    """
    seed, faces = whole("seed", seed, 0, MAX_SEED), whole("faces", faces, 1, MAX_FACES)
    return [seed * 1_000_000 + index for index in range(faces)]


def whole(name: str, value: Any, low: int, high: int) -> int:
    """A whole number in a range, of whatever integer type; raises `RequestError` for anything else."""
    try:
        number = operator.index(value)
    except TypeError:
        raise RequestError(f"{name}={value!r} is no whole number; choose one from {low} to {high}") from None
    if not low <= number <= high:
        raise RequestError(f"{name}={number} is outside {low}…{high}; choose a number in that range")
    return number


def seeds_apart(seed: int, purpose: str, count: int) -> list[int]:
    """Seeds of faces that are no part of any run: drawn from 2**62, not counted up from the run's seed."""
    return [int(value) for value in stream(seed, purpose).integers(2**62, size=count)]


def stream(seed: int, purpose: str = "") -> np.random.Generator:
    """An independent random stream for a (seed, purpose) pair; the same on every platform (Philox counter)."""
    words = [seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF, *purpose.encode()]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


def normals(seeds: Sequence[int], shape: Sequence[int], purpose: str = "") -> Tensor:
    """Standard normal float32 ``[len(seeds), *shape]``, row i from the stream of seeds[i] alone."""
    rows = [stream(seed, purpose).standard_normal(tuple(shape), dtype=np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, *shape)


def uniforms(seeds: Sequence[int], shape: Sequence[int], purpose: str = "") -> Tensor:
    """Uniform float32 in [0, 1), ``[len(seeds), *shape]``, row i from the stream of seeds[i] alone."""
    rows = [stream(seed, purpose).random(tuple(shape), dtype=np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, *shape)
