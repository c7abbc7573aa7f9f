"""What the studio writes, less the studio: renders that cost nothing."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from sia_gen.core.files import write_json
from sia_gen.core.images import to_pil
from sia_gen.core.seeds import face_seeds
from sia_gen.studio.factors import FACTORS, NAMES
from sia_gen.studio.sampling import sample

FACES, SIDE = 160, 16


def write_flat(folder, faces, shown, pictures=1, dot=False):
    """What the studio writes, less the studio: stripes whose brightness is that of the three factors ``shown``.

    A ``dot`` marks where most landmarks lie.
    """
    (folder / "images").mkdir()
    seeds = face_seeds(0, faces)
    people = [seeds[index - index % pictures] for index in range(faces)]
    spec = sample(seeds, people=people if pictures > 1 else None, spread=1.0)
    shares = torch.stack([(spec[n] - f.low) / (f.high - f.low) for n, f in zip(NAMES, FACTORS, strict=True)], dim=1)
    names = [f"images/{index:06d}.png" for index in range(faces)]
    shown = shares[:, [NAMES.index(name) for name in shown]]
    for name, (sides, right, all_over) in zip(names, shown, strict=True):
        picture = torch.full((3, SIDE, SIDE), 0.5)
        picture[:, :, : SIDE // 2], picture[:, :, SIDE // 2 :] = 1 - sides, sides
        picture[1, SIDE // 2 :] = right
        picture[2] = all_over
        if dot:
            at = int(SIDE / 2 + SIDE / 4 * all_over)
            picture[:, at - 2 : at + 2, at - 2 : at + 2] = 0
        to_pil(picture).save(folder / name)
    columns = {"file_name": names, "seed": seeds, "identity": people} | {name: spec[name].numpy() for name in NAMES}
    landmarks = np.full((faces, 68, 2), SIDE / 2) + SIDE / 4 * shown[:, None, 2:].numpy()  # all where the last says
    landmarks[:, 36, 0] -= SIDE / 4
    columns["landmarks"] = list(landmarks.reshape(faces, 136))
    pq.write_table(pa.table(columns), folder / "metadata.parquet")
    write_json(
        folder / "studio.json", {"seed": 0, "resolution": SIDE, "skews": [], "pictures": pictures, "spread": 1.0}
    )
    return folder


@pytest.fixture(scope="session")
def renders(tmp_path_factory):
    return write_flat(tmp_path_factory.mktemp("renders"), FACES, ("light_azimuth", "smile", "age"))
