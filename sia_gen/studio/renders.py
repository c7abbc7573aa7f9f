"""A folder of labelled renders: ``images/*.png`` and ``metadata.parquet`` (the Hugging Face image-folder layout).

``studio.json`` keeps the settings, so that the same command goes on where it stopped and another one is refused.

Letters: N faces, F factors, S side of the picture.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.executors import Batches, Progress, resolve_device
from sia_gen.core.files import atomic, is_file, pretrained_folder, read_json, require_own, writable_folder, write_json
from sia_gen.core.images import from_pil, to_bytes, to_pil
from sia_gen.core.seeds import face_seeds
from sia_gen.studio.factors import NAMES, PERSON, FaceSpec
from sia_gen.studio.sampling import Skew, drawn_evenly, sample, sample_latents
from sia_gen.studio.studio import Studio

CHUNK = 64  # faces that are written together; an interrupted run loses at most these
BATCH = 4  # faces rendered at once on a CPU, where a small batch stays in the cache
HELD_OUT, FEWEST = 0.05, 40
SHIPPED = "faces-renders"
METADATA, SETTINGS = "metadata.parquet", "studio.json"
PACKED = "data/train-00000-of-00001.parquet"  # where a packed data set has its only file

WORKER, PIXEL = 0.5e9, 1200  # bytes that a process takes, and each pixel of a batch's pictures

_studio: Studio | None = None  # one per worker process


@dataclass(frozen=True)
class RenderSet:
    """Renders in memory: ``images`` uint8 ``[N, 3, S, S]``, ``values`` and ``latents`` ``[N, F]`` as in `FACTORS`.

    ``landmarks`` ``[N, 68, 2]`` are in picture widths, 0…1 inside; ``identity`` int64 ``[N]`` is the same for pictures
    of one person. ``settings`` say how they were rendered, so that what is trained on them knows them again.
    """

    images: Tensor
    values: Tensor
    latents: Tensor
    landmarks: Tensor
    identity: Tensor
    settings: dict[str, Any]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, part: slice) -> RenderSet:
        """Some of the renders."""
        kept = [rows[part] for rows in (self.images, self.values, self.latents, self.landmarks, self.identity)]
        return RenderSet(*kept, self.settings | {"faces": len(kept[0])})

    @property
    def training(self) -> int:
        """How many faces, the first ones, may be trained on; the last 5 % are held out. N ≥ 40 or `RequestError`."""
        if len(self) < FEWEST:
            raise RequestError(f"{len(self)} renders are too few to train on; render at least {FEWEST}")
        return len(self) - int(len(self) * HELD_OUT)

    def value(self, name: str) -> Tensor:
        """One factor's values ``[N]``."""
        return self.values[:, NAMES.index(name)]


def write_renders(
    makehuman: str | Path | None,
    out: str | Path,
    faces: int,
    *,
    seed: int = 0,
    resolution: int = 64,
    device: str = "cpu",
    skews: Sequence[Skew] = (),
    pictures: int = 1,
    spread: float = 0.5,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Render ``faces`` faces (1…100 000) into the folder ``out``; goes on where an interrupted call stopped.

    ``makehuman`` is a MakeHuman folder, or None for what is installed of it.

    A share ``spread`` of the faces is spread evenly over all factors, the others are people as a population has them.
    Every ``pictures`` faces in a row are one person, differently posed, lit and dressed. On a CPU ``workers``
    processes share the work (all cores unless told). Raises `RequestError` for a folder made with other settings, for
    an unwritable one, where MakeHuman is missing and where memory will not do.
    """
    seeds = face_seeds(seed, faces)
    if workers is not None and workers < 1:
        raise RequestError(f"workers={workers} is below 1; give one process or more")
    if not 1 <= pictures <= faces:
        raise RequestError(f"pictures={pictures} of each person is outside 1…{faces}; give at most as many as faces")
    drawn_evenly(seeds[:1], spread)
    for skew in skews:
        if pictures > 1 and skew.factor in PERSON:
            raise RequestError(f"'{skew.factor}' is the same in all pictures of a person; skew another, or pictures=1")
    place = resolve_device(device)
    mesh = Studio(makehuman, resolution).mesh  # every fault of the request shows here, before any work
    out = Path(out)
    settings = {"seed": seed, "resolution": resolution, "skews": [asdict(skew) for skew in skews], "pictures": pictures}
    settings |= {"spread": spread, "mesh": mesh}
    if is_file(out / SETTINGS) and read_json(out / SETTINGS) != settings:
        raise RequestError(f"'{out}' holds renders of other settings {read_json(out / SETTINGS)}; choose another --out")
    require_own(out, SETTINGS)
    people = [seeds[index - index % pictures] for index in range(faces)]
    chunks = [(start, seeds[start : start + CHUNK]) for start in range(0, faces, CHUNK)]
    parts = [out / "parts" / f"{start:06d}-{len(part):02d}.parquet" for start, part in chunks]
    todo = [
        (out, path, start, part, people[start : start + CHUNK] if pictures > 1 else None, tuple(skews), spread)
        for (start, part), path in zip(chunks, parts, strict=True)
    ]
    todo = [job for job in todo if not job[1].exists()]
    done = len(chunks) - len(todo)
    workers = _workers(resolution, workers, len(todo)) if place.type == "cpu" else 1
    write_json(writable_folder(out) / SETTINGS, settings)
    (out / "images").mkdir(exist_ok=True)
    (out / "parts").mkdir(exist_ok=True)
    for _ in _run(todo, makehuman, resolution, place, workers):
        done += 1
        if progress:
            progress(min(done * CHUNK, faces), faces, "rendering")
    import pyarrow as pa
    import pyarrow.parquet as pq

    with atomic(out / METADATA) as partial:
        pq.write_table(pa.concat_tables([pq.read_table(path) for path in parts]), partial)
    return out


def shipped_renders() -> Path | None:
    """The folder of renders that comes with the package, where one does."""
    folder = pretrained_folder() / SHIPPED
    return folder if folder.is_dir() else None


def read_renders(folder: str | Path, faces: int | None = None) -> RenderSet:
    """Read a folder that `write_renders` finished or `pack_renders` wrote; with ``faces`` only so many, the first ones.

    Raises `RequestError` or `WorkError` when it is neither.
    """
    from PIL import Image

    folder = Path(folder)
    if not is_file(folder / SETTINGS):
        raise RequestError(f"'{folder}' holds no renders; name a folder that 'sia-gen studio render' wrote")
    settings = read_json(folder / SETTINGS)
    try:
        import pyarrow.parquet as pq

        packed = not is_file(folder / METADATA)
        table = pq.read_table(folder / (PACKED if packed else METADATA))[:faces]
        side = settings["resolution"]
        images = torch.empty(len(table), 3, side, side, dtype=torch.uint8)  # filled in place: a list would double it
        for index, entry in enumerate(table["image" if packed else "file_name"].to_pylist()):
            with Image.open(BytesIO(entry["bytes"]) if packed else folder / entry) as image:
                images[index] = to_bytes(from_pil(image))
        values = np.stack([table[name].to_numpy() for name in NAMES], axis=1)
        seeds, identity = table["seed"].to_pylist(), table["identity"].to_pylist()
        people = identity if settings["pictures"] > 1 else None
        latents = sample_latents(seeds, [Skew(**skew) for skew in settings["skews"]], people, settings["spread"])
        landmarks = torch.tensor(np.stack(table["landmarks"].to_numpy())).float().view(len(images), -1, 2)
        return RenderSet(
            images,
            torch.from_numpy(values),
            latents,
            landmarks / side,
            torch.tensor(identity),
            settings | {"faces": len(images)},
        )
    except KeyError as error:
        raise WorkError(
            f"'{folder}' was rendered by another version ({error} is missing); render to a new one"
        ) from None
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise WorkError(f"'{folder}' holds no finished renders ({error}); run 'sia-gen studio render' again") from None


def _workers(resolution: int, wanted: int | None, jobs: int) -> int:
    """How many processes share ``jobs`` jobs: those ``wanted``, else a core each, as far as memory reaches.

    Raises `RequestError` where those wanted, or a single one, would take more memory than is free.
    """
    import psutil

    free, each = psutil.virtual_memory().available, WORKER + BATCH * resolution**2 * PIXEL
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = wanted or max(1, min(cores, jobs, int(free / each)))
    if jobs and workers * each > free:
        raise RequestError(
            f"resolution={resolution} with workers={workers} takes about {workers * each / 1e9:.1f} GB, but "
            f"{free / 1e9:.1f} GB are free; choose a lower --resolution or fewer --workers"
        )
    return workers


def _run(
    jobs: list[Any], makehuman: str | Path | None, resolution: int, device: torch.device, workers: int
) -> Iterator[None]:
    """Do the jobs, in this process on a GPU and in ``workers`` single-threaded ones on a CPU."""
    if device.type != "cpu" or workers == 1 or len(jobs) <= 1:
        _start(makehuman, resolution, device, 0)
        yield from map(_render_chunk, jobs)
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start, (makehuman, resolution, device, 1)) as pool:
        try:
            yield from pool.map(_render_chunk, jobs)
        except BrokenProcessPool:
            raise WorkError("a rendering process died; run the same command again with fewer --workers") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _start(makehuman: str | Path | None, resolution: int, device: torch.device, threads: int) -> None:
    global _studio
    if threads:  # a process of its own: the parent answers an interrupt for all
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        torch.set_num_threads(threads)
    _studio = Studio(makehuman, resolution, device)


def _render_chunk(job: tuple[Path, Path, int, list[int], list[int] | None, tuple[Skew, ...], float]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out, path, start, seeds, people, skews, spread = job
    assert _studio is not None
    spec, even = sample(seeds, skews, people, spread), drawn_evenly(people or seeds, spread)
    device = _studio.landmarks.device
    batches = Batches(BATCH if device.type == "cpu" else CHUNK)
    renders = list(batches(len(spec), lambda part: _studio.render(FaceSpec(spec.values[part].to(device)))))
    images = torch.cat([to_bytes(r.images).cpu() for r in renders])
    landmarks, visible = (torch.cat([getattr(r, name).cpu() for r in renders]) for name in ("landmarks", "visible"))
    names = [f"images/{start + index:06d}.png" for index in range(len(seeds))]
    for name, image in zip(names, images, strict=True):
        with atomic(out / name) as partial:
            to_pil(image).save(partial)
    columns: dict[str, Any] = {"file_name": names, "seed": pa.array(seeds, pa.int64())}
    columns["identity"] = pa.array(people or seeds, pa.int64())
    columns["drawn"] = ["spread" if one else "people" for one in even.tolist()]
    columns |= {name: pa.array(spec[name].numpy()) for name in NAMES}
    columns["landmarks"] = list(landmarks.reshape(len(seeds), -1).numpy())
    columns["visible"] = list(visible.numpy())
    with atomic(path) as partial:
        pq.write_table(pa.table(columns), partial)
