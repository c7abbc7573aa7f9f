"""The recipes end to end on faces that are flat pictures of their factors: small, but through every step."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from sia_gen.attributes.load import load_attributes
from sia_gen.core.errors import RequestError
from sia_gen.core.files import write_json
from sia_gen.core.images import to_pil
from sia_gen.core.seeds import face_seeds
from sia_gen.generators.load import load_generator
from sia_gen.studio.factors import FACTORS, NAMES, sample
from sia_gen.targets.load import load_target
from sia_gen.targets.verifier import load_verifier
from sia_gen.training import generator as generator_recipe
from sia_gen.training import target as target_recipe
from sia_gen.training import verifier as verifier_recipe
from sia_gen.training.attributes import ATTRIBUTES, fit_attributes

FACES, SIDE = 160, 16


@pytest.fixture(scope="session")
def renders(tmp_path_factory):
    """What the studio writes, less the studio: stripes whose brightness is light azimuth, smile and age."""
    folder = tmp_path_factory.mktemp("renders")
    (folder / "images").mkdir()
    seeds = face_seeds(0, FACES)
    spec = sample(seeds)
    shares = torch.stack([(spec[n] - f.low) / (f.high - f.low) for n, f in zip(NAMES, FACTORS, strict=True)], dim=1)
    shown = shares[:, [NAMES.index(name) for name in ("light_azimuth", "smile", "age")]]
    names = [f"images/{index:06d}.png" for index in range(FACES)]
    for name, (light, smile, age) in zip(names, shown, strict=True):
        picture = torch.full((3, SIDE, SIDE), 0.5)
        picture[:, :, : SIDE // 2], picture[:, :, SIDE // 2 :] = 1 - light, light
        picture[1, SIDE // 2 :] = smile
        picture[2] = age
        to_pil(picture).save(folder / name)
    columns = {"file_name": names, "seed": seeds} | {name: spec[name].numpy() for name in NAMES}
    pq.write_table(pa.table(columns | {"landmarks": list(np.zeros((FACES, 136)))}), folder / "metadata.parquet")
    write_json(folder / "studio.json", {"seed": 0, "resolution": SIDE, "skews": []})
    return folder


@pytest.fixture(scope="session")
def trained(renders, tmp_path_factory):
    """A generator, a verifier and attributes, each by its recipe."""
    out = tmp_path_factory.mktemp("trained")
    patch = pytest.MonkeyPatch()
    patch.setattr(generator_recipe, "CHANNELS", {SIDE: (16, 16, 8)})
    patch.setattr(verifier_recipe, "SIZES", (8, 16))
    patch.setattr(verifier_recipe, "SIDE", 32)
    figures = generator_recipe.train_generator(renders, out / "faces", steps=250)
    errors = verifier_recipe.train_verifier(renders, out / "verifier", steps=150)
    patch.undo()
    space = fit_attributes(out / "faces", out / "verifier", out / "faces", faces=400)
    return out, figures, errors, space


def test_the_generator_learns_the_pictures(trained):
    out, figures, _, _ = trained
    assert figures["psnr_db"] > 18  # a flat mean grey reaches 11
    assert json.loads((out / "faces" / "training.json").read_text())["figures"] == figures
    model = load_generator(out / "faces")
    assert model.resolution == SIDE


def test_the_verifier_reads_what_is_shown_and_not_what_is_not(trained):
    out, _, errors, _ = trained
    assert errors["light_azimuth"]["r2"] > 0.6
    assert errors["nose_length"]["r2"] < 0.3
    verifier = load_verifier(out / "verifier")
    assert [factor.name for factor in verifier.factors] == list(NAMES)


def test_the_attributes_cover_what_the_recipe_names(trained):
    out, _, _, space = trained
    assert space.names == list(ATTRIBUTES)
    assert load_attributes(out / "faces").names == space.names
    light = space.attributes[space.names.index("light_azimuth")]
    assert light.unit == "degrees"
    assert 0.5 < light.slope < 1.3  # of a network taught for seconds


def test_a_planted_target_is_worse_where_the_cause_is_against_it(renders, tmp_path, monkeypatch):
    monkeypatch.setattr(target_recipe, "SIZES", (8, 16))
    figures = target_recipe.train_target(renders, tmp_path, planted="light_azimuth", steps=60)
    assert figures["accuracy_along"] > figures["accuracy_against"]
    target = load_target(tmp_path)
    assert target.label.attribute == "smile"
    assert target.label.thresholds == (0.5,)
    assert target.task.classes == ("no smile", "smile")


def test_bad_requests_are_named(renders, tmp_path):
    with pytest.raises(RequestError, match="unknown factor 'wit': there are age,"):
        target_recipe.train_target(renders, tmp_path, label="wit")
    with pytest.raises(
        RequestError, match=r"renders of 16 pixels, but networks for \[64, 128\]; render at one of these"
    ):
        generator_recipe.train_generator(renders, tmp_path)
