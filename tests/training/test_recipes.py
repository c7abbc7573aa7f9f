"""The recipes end to end on faces that are flat pictures of their factors: small, but through every step."""

import json
import os
import shutil
from functools import partial

import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional as F

from sia_gen.attributes.load import load_attributes
from sia_gen.core.errors import RequestError
from sia_gen.core.images import from_bytes
from sia_gen.generators.load import load_generator
from sia_gen.studio.factors import NAMES
from sia_gen.studio.renders import read_renders
from sia_gen.targets.identity import load_identity
from sia_gen.targets.load import load_target
from sia_gen.targets.points import normalised_error
from sia_gen.targets.verifier import load_verifier
from sia_gen.training import everything
from sia_gen.training import identity as identity_recipe
from sia_gen.training import landmarks as landmarks_recipe
from sia_gen.training import target as target_recipe
from sia_gen.training import verifier as verifier_recipe
from sia_gen.training.attributes import ATTRIBUTES, fit_attributes
from sia_gen.training.card import write_card
from sia_gen.training.generators import diffusion as diffusion_recipe
from sia_gen.training.generators import stylegan2 as generator_recipe
from sia_gen.training.pack import pack_renders
from tests.training.conftest import FACES, SIDE, write_flat


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    """Sixty people, four pictures of each: two of the stripes show who it is, one does not."""
    return write_flat(tmp_path_factory.mktemp("people"), 240, ("light_azimuth", "age", "skin_tone"), pictures=4)


@pytest.fixture(scope="session")
def trained(renders, tmp_path_factory):
    """A generator, a verifier and attributes, each by its recipe."""
    out = tmp_path_factory.mktemp("trained")
    patch = pytest.MonkeyPatch()
    patch.setattr(generator_recipe, "CHANNELS", {SIDE: (16, 16, 8)})
    patch.setattr(verifier_recipe, "SIZES", (16, 32))
    patch.setattr(verifier_recipe, "SIDE", 32)
    (tmp_path_factory.getbasetemp() / "many").mkdir()
    many = write_flat(tmp_path_factory.getbasetemp() / "many", 3 * FACES, ("light_azimuth", "smile", "age"))
    figures = generator_recipe.train_generator(many, out / "faces", steps=400)
    errors = verifier_recipe.train_verifier(renders, out / "verifier", steps=300)
    patch.undo()
    space = fit_attributes(out / "faces", out / "verifier", out / "faces", faces=500)
    return out, figures, errors, space


def test_the_generator_learns_the_pictures(trained):
    out, figures, _, _ = trained
    assert figures["psnr_db"] > 18  # a flat mean grey reaches 11
    assert json.loads((out / "faces" / "training.json").read_text())["figures"] == figures
    model = load_generator(out / "faces")
    assert model.resolution == SIDE


def test_an_adversarial_phase_goes_on_from_the_trained_generator(trained, tmp_path, monkeypatch):
    out, figures, _, _ = trained
    monkeypatch.setattr(generator_recipe, "CHANNELS", {SIDE: (16, 16, 8)})
    shutil.copytree(out / "faces", tmp_path / "faces")
    renders = out.parent / "many"
    steps: list[int] = []
    found = generator_recipe.train_generator(
        renders, tmp_path / "faces", steps=400, adversarial=50, progress=lambda done, total, what: steps.append(total)
    )
    assert set(steps) == {50}  # no step of the regression is taken again
    assert found["psnr_db"] > figures["psnr_db"] - 1  # the pairs still hold
    before, after = (load_generator(folder / "faces") for folder in (out, tmp_path))
    assert not torch.equal(before.synthesis.start.weight, after.synthesis.start.weight)
    card = (tmp_path / "faces" / "README.md").read_text()
    assert "Then 50 steps against a discriminator" in card
    assert "--steps 400 --adversarial 50 --seed 0 --batch 16 --precision no --out faces" in card
    with pytest.raises(RequestError, match=r"adversarial=-1 is below 0; give 0 or more steps"):
        generator_recipe.train_generator(renders, tmp_path / "faces", adversarial=-1)


def test_a_diffusion_model_learns_the_pictures(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(diffusion_recipe, "CHANNELS", (16, 32))
    renders, (out, *_) = trained[0].parent / "many", trained
    figures = diffusion_recipe.train_diffusion(renders, tmp_path / "drawn", steps=200, batch=16)
    assert figures["psnr_db"] > 13  # a flat mean grey reaches 11
    model = load_generator(tmp_path / "drawn")
    assert (model.resolution, model.name) == (SIDE, "drawn")
    options = {"names": ["light_azimuth", "age"], "faces": 480, "trials": 4}
    space = fit_attributes(tmp_path / "drawn", out / "verifier", tmp_path / "drawn", **options)
    assert (space.space, space.names) == ("z", ["light_azimuth", "age"])
    card = (tmp_path / "drawn" / "README.md").read_text()
    assert "--family ddpm --renders renders --steps 200 --seed 0 --batch 16 --precision no --out drawn" in card
    assert "| light_azimuth |" in card
    monkeypatch.setattr(diffusion_recipe, "CHANNELS", (8,) * 5)
    with pytest.raises(RequestError, match="renders of 16 pixels, which is no multiple of 32; render 64, for example"):
        diffusion_recipe.train_diffusion(renders, tmp_path / "other", steps=1)


def test_the_verifier_reads_what_is_shown_and_not_what_is_not(trained, renders):
    out, _, errors, _ = trained
    assert errors["light_azimuth"]["r2"] > 0.6
    assert errors["nose_length"]["r2"] < 0.3
    verifier = load_verifier(out / "verifier")
    assert [factor.name for factor in verifier.factors] == list(NAMES)
    assert errors["landmarks"]["nme"] < 0.5
    data = read_renders(renders)
    points = verifier.read_landmarks(from_bytes(data.images[-8:]))
    assert points.shape == (8, 68, 2)
    found = normalised_error(points, data.landmarks[-8:]).mean().item()
    assert found == pytest.approx(errors["landmarks"]["nme"], abs=1e-4)


def test_the_verifier_is_measured_at_half_the_resolution_too(trained, renders):
    out, _, errors, _ = trained
    data, verifier = read_renders(renders), load_verifier(out / "verifier")
    shown = F.avg_pool2d(from_bytes(data.images[data.training :]), 2)
    truth = data.values[data.training :, NAMES.index("light_azimuth")]
    read = verifier.read(shown)[:, NAMES.index("light_azimuth")]
    assert errors["light_azimuth"]["r2_half"] == pytest.approx(
        1 - ((read - truth).square().mean() / truth.var()).item(), abs=1e-3
    )
    found = normalised_error(verifier.read_landmarks(shown), data.landmarks[data.training :]).mean().item()
    assert errors["landmarks"]["nme_half"] == pytest.approx(found, abs=1e-4)


def test_the_attributes_cover_what_the_recipe_names(trained):
    out, _, _, space = trained
    assert space.names == list(ATTRIBUTES)
    assert load_attributes(out / "faces").names == space.names
    light = space.attributes[space.names.index("light_azimuth")]
    assert light.unit == "degrees"
    assert 0.5 < light.slope < 1.3  # of a network taught for seconds


def test_a_planted_target_is_worse_where_the_cause_is_against_it(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(target_recipe, "SIZES", (8, 16))
    monkeypatch.setattr(target_recipe, "SIDES", {"resnet": 32, "vit": 32})
    many = trained[0].parent / "many"
    figures = target_recipe.train_target(many, tmp_path, planted="light_azimuth", strength=1.0, steps=40)
    assert figures["accuracy_along"] > figures["accuracy_against"] + 0.2
    target = load_target(tmp_path)
    assert target.label.attribute == "smile"
    assert target.label.thresholds == (0.5,)
    assert target.task.classes == ("no smile", "smile")
    assert outputs_learnt(tmp_path) == 2 + 2 * 68
    assert "besides until it is saved; random blur" in (tmp_path / "README.md").read_text()


def outputs_learnt(folder):
    """How many outputs a network had while it was trained in ``folder``."""
    weights = torch.load(folder / "checkpoint.pt", weights_only=True)["model"]
    return next(len(weight) for name, weight in weights.items() if name.startswith("classifier"))


def test_a_recipe_measures_what_it_wrote_even_under_a_shipped_name(renders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in {"SIZES": (8, 16), "SIDES": {"resnet": 32, "vit": 32}}.items():
        monkeypatch.setattr(target_recipe, name, value)
    loaded = []
    monkeypatch.setattr(
        target_recipe, "load_target", lambda folder, device: loaded.append(load_target(folder)) or loaded[-1]
    )
    target_recipe.train_target(renders, "smile-classifier", steps=2)
    assert [target.model.config["hidden_sizes"] for target in loaded] == [[8, 16]]


def test_a_factor_may_be_cut_into_bands_for_another_architecture(renders, tmp_path):
    figures = target_recipe.train_target(
        renders, tmp_path, label="age", thresholds=[21, 37, 53, 69], architecture="vit", steps=2
    )
    target = load_target(tmp_path)
    assert target.label.thresholds == (21, 37, 53, 69)
    assert target.task.classes[:2] == ("age < 21 years", "age 21…37 years")
    assert target.model.config["model_type"] == "vit"
    assert "accuracy where female" in figures
    assert "accuracy where age < 21 years" not in figures  # which is the label
    assert outputs_learnt(tmp_path) == 5 + 2 * 68 + 1  # landmarks and the age itself, until it is saved
    assert target.task.classes[4:] == ("age ≥ 69 years",)
    card = (tmp_path / "README.md").read_text()
    assert "until it is saved,\nand smooth L1 (weight 2) of the age itself, standardised, likewise; random" in card
    assert "--label age --thresholds 21,37,53,69 --architecture vit --steps 2" in card
    assert "transformers ViT" in card


def test_bad_requests_are_named(renders, tmp_path):
    with pytest.raises(RequestError, match="unknown factor 'wit': there are age,"):
        target_recipe.train_target(renders, tmp_path, label="wit")
    with pytest.raises(RequestError, match=r"thresholds \[60.0, 30.0\] do not rise within 5…85 years; give others"):
        target_recipe.train_target(renders, tmp_path, label="age", thresholds=[60, 30])
    with pytest.raises(
        RequestError, match=r"renders of 16 pixels, but networks for \[64, 128\]; render at one of these"
    ):
        generator_recipe.train_generator(renders, tmp_path)


def test_every_recipe_writes_a_card_with_its_figures(trained, renders, tmp_path, monkeypatch):
    out, figures, errors, space = trained
    card = (out / "faces" / "README.md").read_text()
    assert f"- PSNR on 24 held-out faces: {figures['psnr_db']:.2f} dB." in card
    light = space.attributes[space.names.index("light_azimuth")]
    assert f"| light_azimuth | degrees | {light.low:g}…{light.high:+g} |" in card
    assert "sia-gen studio render --faces 480 --seed 0 --resolution 16 --spread 1 --out renders" in card
    assert (out / "faces" / "sheet.jpg").is_file()
    assert (out / "faces" / "nearest.jpg").is_file()
    assert (out / "faces" / "attributes.jpg").is_file()
    assert (out / "faces" / "response.png").is_file()
    assert (out / "verifier" / "sheet.jpg").is_file()
    assert (
        f"| age | {errors['age']['mae']:.3g} | {errors['age']['r2']:.2f} |"
        in (out / "verifier" / "README.md").read_text()
    )
    monkeypatch.setattr(target_recipe, "SIZES", (8, 16))
    monkeypatch.setattr(target_recipe, "SIDES", {"resnet": 32, "vit": 32})
    found = target_recipe.train_target(renders, tmp_path, planted="light_azimuth", strength=0.9, steps=2)
    card = (tmp_path / "README.md").read_text()
    assert "in 90% of its training faces light_azimuth lies" in card
    assert f"| light_azimuth goes against smile | {found['accuracy_against']:.1%} |" in card
    assert f"| no nearer to a cut than 5% of the range | {found['accuracy_clear']:.1%} |" in card
    assert f"| female | {found['accuracy where female']:.1%} |" in card
    assert "Factors are drawn evenly over their ranges (" in card
    assert "--seed 0 --resolution 16 --spread 1 --out renders" in card
    settings = {
        "seed": 0,
        "resolution": SIDE,
        "faces": 9,
        "pictures": 4,
        "spread": 0.5,
        "skews": [{"factor": "age", "given": "sex", "strength": 0.9}],
    }
    learnt = {"steps": 1, "rate": 1, "batch": 1, "seed": 0, "precision": "no", "side": SIDE}
    measured = {"factors": 1, "readable": 1, "threshold": 0.5, "nme": 0.1, "nme_half": 0.2, "errors": ""}
    found_points = {"tolerance": 0.1, "failed": 0.0, "figures": ""}
    write_card(tmp_path, "verifier", settings, 2, foremost=1, emphasis=4.0, **learnt, **measured)
    card = (tmp_path / "README.md").read_text()
    assert "Factors are drawn with the correlations that the command plants" in card
    assert "--skew age=sex:0.9 --pictures 4 --out renders" in card
    write_card(tmp_path, "landmarks", settings | {"skews": [], "spread": 0.25}, 2, **learnt, **found_points)
    card = (tmp_path / "README.md").read_text()
    drawn = "drawn in 75% of the faces as people go together in a population, in 25% of the faces evenly over"
    assert drawn in card


def test_packed_renders_read_as_the_folder_does(renders, tmp_path):
    packed = pack_renders(renders, tmp_path / "packed", 3)
    whole, few = read_renders(renders), read_renders(packed)
    assert few.settings == whole.settings | {"faces": 3}
    assert torch.equal(few.values, whole.values[:3])
    assert torch.equal(few.latents, whole.latents[:3])
    assert (few.landmarks - whole.landmarks[:3]).abs().max() < 1e-3
    error = (few.images.float() - whole.images[:3].float()).square().mean().sqrt()
    assert 0 < error < 12  # of 255; lossy
    size = (packed / "data" / "train-00000-of-00001.parquet").stat().st_size
    assert size < 60_000
    schema = pq.read_schema(packed / "data" / "train-00000-of-00001.parquet")
    assert json.loads(schema.metadata[b"huggingface"])["info"]["features"]["image"] == {"_type": "Image"}
    with pytest.raises(RequestError, match=r"faces=161 is outside 1…160, what '.*' holds; choose fewer"):
        pack_renders(renders, tmp_path / "packed", 161)
    with pytest.raises(RequestError, match="holds the renders themselves; choose another --out"):
        pack_renders(renders, renders, 3)
    with pytest.raises(RequestError, match="holds no renders; name a folder that"):
        pack_renders(tmp_path, tmp_path / "packed", 1)
    card = (packed / "README.md").read_text()
    assert "3 rendered faces of 16 px with every label exact: 119 factors" in card
    assert "sia-gen studio pack --renders renders --faces 3 --out packed" in card
    assert (packed / "sheet.jpg").is_file()


def test_the_identity_model_tells_people_apart(people, renders, tmp_path, monkeypatch):
    monkeypatch.setattr(identity_recipe, "SIZES", (8, 16))
    monkeypatch.setattr(identity_recipe, "SIDE", 32)
    figures = identity_recipe.train_identity(people, tmp_path / "identity", steps=150)
    assert figures["people"] == 57
    assert figures["pairs"] == 3 * 6
    assert figures["other_pairs"] == 3 * 16
    assert figures["equal_error"] < 0.25  # chance is a half
    model = load_identity(tmp_path / "identity")
    assert model.threshold == figures["threshold"]
    card = (tmp_path / "identity" / "README.md").read_text()
    assert "There are 4 pictures of each of 57 people." in card
    assert "--pictures 4 --spread 1 --out renders" in card
    with pytest.raises(RequestError, match=r"shows each person once; render with --pictures 8"):
        identity_recipe.train_identity(renders, tmp_path / "other")


def test_the_landmark_recipe_finds_points(tmp_path, monkeypatch):
    (tmp_path / "renders").mkdir()
    renders = write_flat(tmp_path / "renders", FACES, ("light_azimuth", "smile", "age"), dot=True)
    for name, value in {"SIDE": 32, "HIDDEN": 32, "BLOCKS": 2, "RATE": 3e-3}.items():
        monkeypatch.setattr(landmarks_recipe, name, value)
    figures = landmarks_recipe.train_landmarks(renders, tmp_path / "points", steps=200)
    # Most points lie on a line as long as what the error is counted in; its middle is 0.35 off on average.
    assert figures["all"] < 0.2
    assert set(figures) >= {"held_out", "failed", "jaw", "eyes", "mouth", "female"}
    target = load_target(tmp_path / "points")
    assert target.task.points == 68
    card = (tmp_path / "points" / "README.md").read_text()
    assert f"| all | {figures['all']:.1%} |" in card
    assert "train landmarks --renders renders --steps 200 --seed 0 --batch 16 --precision no --out points" in card


def test_an_attribute_says_whether_its_faces_stay_the_same_person(trained, people, tmp_path, monkeypatch):
    out, _, _, space = trained
    assert space.attributes[0].identity is None
    monkeypatch.setattr(identity_recipe, "SIZES", (8, 16))
    monkeypatch.setattr(identity_recipe, "SIDE", 32)
    identity_recipe.train_identity(people, tmp_path / "identity", steps=30)
    told = fit_attributes(out / "faces", out / "verifier", tmp_path, identity=tmp_path / "identity", faces=500)
    assert all(-1 <= attribute.identity <= 1 for attribute in told.attributes)
    kept = {attribute.name: attribute.identity for attribute in told.attributes}
    assert kept["glasses"] > kept["age"]  # the pictures do not show the one, and by the other they tell people apart
    assert load_attributes(tmp_path).attributes == told.attributes


def test_one_command_makes_all(renders, people, tmp_path, monkeypatch):
    monkeypatch.setattr(generator_recipe, "CHANNELS", {SIDE: (16, 16, 8)})
    for recipe in (verifier_recipe, identity_recipe, target_recipe):
        monkeypatch.setattr(recipe, "SIZES", (8, 16))
    for recipe in (verifier_recipe, identity_recipe):
        monkeypatch.setattr(recipe, "SIDE", 32)
    monkeypatch.setattr(target_recipe, "SIDES", {"resnet": 32, "vit": 32})
    rendered = []

    def copied(makehuman, out, faces, *, seed, resolution, device, progress, pictures=1):
        rendered.append((makehuman, faces, seed, resolution, pictures))
        shutil.copytree(people if pictures > 1 else renders, out, dirs_exist_ok=True)

    monkeypatch.setattr(everything, "write_renders", copied)
    found = everything.fit_attributes
    monkeypatch.setattr(
        everything, "fit_attributes", lambda *given, **options: found(*given, **{**options, "faces": 480, "trials": 2})
    )
    monkeypatch.setattr(diffusion_recipe, "CHANNELS", (8, 16))
    monkeypatch.setattr(everything, "RECIPES", {name: {"cpu": {"steps": 2}} for name in everything.RECIPES})
    learnt, train = {}, everything.train_target

    def noted(renders, out, **options):
        learnt[out.name] = renders.name
        return train(renders, out, **options)

    monkeypatch.setattr(everything, "train_target", noted)
    figures = everything.train_everything("m", tmp_path, faces=FACES)
    assert rendered == [
        ("m", FACES, 1, 128, 1),
        ("m", FACES // 4, 2, 128, 1),
        ("m", FACES, 3, 128, 8),
        ("m", FACES, 31, 128, 1),
    ]
    assert len(read_renders(tmp_path / "faces-renders")) == FACES // 4
    assert learnt == {name: "few" if name.endswith("-planted") else "renders" for name in everything.TARGETS}
    assert list(figures) == [
        "faces-stylegan2",
        "faces-ddpm",
        "verifier",
        "identity",
        "landmarks-68",
        *everything.TARGETS,
        "attributes",
    ]
    assert load_attributes(tmp_path / "faces-stylegan2").names == list(ATTRIBUTES)
    assert load_attributes(tmp_path / "faces-ddpm").names == list(everything.DIFFUSED)
    assert "accuracy_against" in figures["smile-classifier-planted"]
    cards = {path.parent.name for path in tmp_path.glob("*/README.md")}
    others = {"faces-stylegan2", "faces-ddpm", "verifier", "identity", "faces-renders", "landmarks-68"}
    assert cards == {*others, *everything.TARGETS}
    assert {path.parent.name for path in tmp_path.glob("*/sheet.jpg")} == cards
    # Again, it finds everything done: no step is taken, and it says the same.
    monkeypatch.setattr("sia_gen.training.stepper._epoch", None)
    assert everything.train_everything("m", tmp_path, faces=FACES) == figures


def told(name, progress=None):
    """A recipe of its own process; to be found from there it is no closure."""
    if name == "bad":
        raise RequestError("out=bad cannot be written to; choose another")
    return {"process": os.getpid(), "threads": torch.get_num_threads(), "name": name}


def test_recipes_run_side_by_side_in_processes_of_their_own():
    steps = []
    recipes = {name: partial(told, name) for name in ("a", "b", "c")}
    found = everything._done(recipes, 2, lambda *step: steps.append(step))
    assert [found[name]["name"] for name in recipes] == list(found) == ["a", "b", "c"]
    assert os.getpid() not in {entry["process"] for entry in found.values()}
    assert {entry["threads"] for entry in found.values()} == {max(1, torch.get_num_threads() // 2)}
    assert steps == [(count, 3, "recipes") for count in (1, 2, 3)]
    with pytest.raises(RequestError, match="out=bad cannot be written to; choose another"):
        everything._done({"a": partial(told, "a"), "bad": partial(told, "bad")}, 2, None)


def test_all_is_for_one_process_and_one_job_or_more(tmp_path, monkeypatch):
    with pytest.raises(RequestError, match="jobs=0 is below 1; run one recipe at a time or more"):
        everything.train_everything("m", tmp_path, jobs=0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RequestError, match="'train all' is for one process, not for 2; start it without 'accelerate"):
        everything.train_everything("m", tmp_path)
