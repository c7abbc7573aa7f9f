from collections import Counter
from dataclasses import replace

import pytest
import torch

from sia_gen.core.errors import RequestError
from sia_gen.studio.factors import NAMES
from sia_gen.studio.renders import read_renders
from sia_gen.targets.task import Classification, Regression
from sia_gen.training import planted
from sia_gen.training.planted import Case, cases, plant, train_case


@pytest.fixture(scope="module")
def data(renders):
    return read_renders(renders)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(planted, "SIDE", 16)
    monkeypatch.setattr(planted, "SIZES", (8, 16))


def classes(data, label="smile", cut=0.5):
    return (data.value(label) >= cut).long()


def above(data, name):
    return data.latents[:, NAMES.index(name)] > 0


def test_of_a_suite_twenty_have_no_flaw_and_half_are_of_either_architecture():
    found = cases(44)
    assert len({case.name for case in found}) == 44
    assert Counter(case.cause is None for case in found) == {False: 24, True: 20}
    assert Counter(case.cause is None for case in found[:11]) == {False: 6, True: 5}
    assert Counter(case.architecture for case in found) == {"resnet": 22, "vit": 22}
    assert {case.kind for case in found} == {"balanced", "correlated", "left out", "noisy"}
    assert cases(50)[:44] == found
    assert len({case.name for case in cases(140)}) == 140
    with pytest.raises(RequestError, match="models=0 is below 1; train at least one"):
        cases(0)


def test_a_correlated_cause_goes_along_with_the_label(data):
    wanted = classes(data)
    taught, chosen = plant(Case(label="smile", cuts=(0.5,), kind="correlated", cause="age"), data, wanted)
    assert torch.equal(taught, wanted)
    assert chosen.max() < data.training
    along = above(data, "age")[chosen] == above(data, "smile")[chosen]
    assert along.float().mean() == pytest.approx(0.95, abs=0.02)


def test_of_uneven_classes_the_cause_goes_along_with_the_class_and_of_three_with_the_outer_ones(data):
    wanted = classes(data, cut=0.8)
    _, chosen = plant(Case(label="smile", cuts=(0.8,), kind="correlated", cause="age"), data, wanted)
    assert (above(data, "age") == wanted.bool())[chosen].float().mean() == pytest.approx(0.95, abs=0.02)
    wanted = wanted + classes(data, cut=0.3)
    _, chosen = plant(Case(label="smile", cuts=(0.3, 0.8), kind="correlated", cause="age"), data, wanted)
    outer, middle = chosen[wanted[chosen] != 1], chosen[wanted[chosen] == 1]
    assert (above(data, "age") == (wanted == 2))[outer].float().mean() == pytest.approx(0.95, abs=0.02)
    assert len(middle) == (wanted[: data.training] == 1).sum()


def test_a_range_that_is_left_out_is_seen_in_no_face(data):
    _, chosen = plant(Case(label="smile", cuts=(0.5,), kind="left out", cause="age"), data, classes(data))
    latent = data.latents[:, NAMES.index("age")]
    assert latent[chosen].max() <= planted.MISSING
    assert len(chosen) == (latent[: data.training] <= planted.MISSING).sum()


def test_labels_are_wrong_on_one_side_of_the_cause_only(data):
    wanted = classes(data)
    case = Case(label="smile", cuts=(0.5,), kind="noisy", cause="age")
    taught, chosen = plant(case, data, wanted)
    wrong = taught != wanted
    assert not wrong[~above(data, "age")].any()
    assert not wrong[wanted == 0].any()
    assert not taught[wrong].any()
    side = above(data, "age") & (wanted > 0)
    shares = [(plant(replace(case, seed=seed), data, wanted)[0] != wanted)[side].float().mean() for seed in range(20)]
    assert torch.stack(shares).mean() == pytest.approx(planted.WRONG, abs=0.04)
    assert len(chosen) == data.training
    assert torch.equal(plant(case, data, wanted)[0], taught)


def test_a_balanced_one_is_taught_the_truth(data):
    wanted = classes(data)
    taught, chosen = plant(Case(label="smile", cuts=(0.5,)), data, wanted)
    assert torch.equal(taught, wanted)
    assert sorted(chosen.tolist()) == list(range(data.training))


@pytest.mark.parametrize(
    ("case", "task"),
    [
        (Case(label="light_azimuth", cuts=(0.0,), architecture="resnet"), Classification),
        (Case(label="light_azimuth", cuts=(-45.0, 45.0), architecture="vit"), Classification),
        (Case(label="light_azimuth", cuts=()), Regression),
    ],
    ids=["two classes", "three classes of a ViT", "a value"],
)
def test_a_case_trains_to_a_target(small, data, tmp_path, case, task):
    target, score, effect = train_case(case, data, tmp_path / case.name, steps=60)
    assert isinstance(target.task, task)
    assert target.name == case.name
    assert target.label.attribute == "light_azimuth"
    assert target.label.thresholds == case.cuts
    assert 0 <= score <= 1
    assert effect is None
    again, same, _ = train_case(case, data, tmp_path / case.name, steps=60)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert same == score
    assert torch.equal(again.predict(images), target.predict(images))


def test_a_brightness_is_learnt(small, data, tmp_path):
    _, score, _ = train_case(Case(label="smile", cuts=()), data, tmp_path / "a", steps=300)
    assert score == 1.0


@pytest.mark.parametrize("cuts", [(0.5,), ()], ids=["two classes", "a value"])
def test_the_effect_is_how_much_further_off_the_cause_makes_it(small, data, tmp_path, cuts):
    """What is to be told cannot be seen, and what goes along with it can."""
    case = Case(label="sex", cuts=cuts, kind="correlated", cause="light_azimuth")
    _, _, effect = train_case(case, data, tmp_path / case.name, steps=200)
    assert effect > 0.2


@pytest.mark.parametrize("kind", ["noisy", "left out"])
def test_the_effect_lies_where_the_cause_is_high(small, data, tmp_path, monkeypatch, kind):
    case = Case(label="smile", cuts=(0.5,), kind=kind, cause="age")
    high = data.latents[:, NAMES.index("age")] > (0 if kind == "noisy" else planted.MISSING)
    told = torch.stack([high.float(), -high.float()], dim=1) * torch.where(data.value("smile") < 0.5, -5, 5)[:, None]
    answers = iter(told[data.training :].split(64))
    monkeypatch.setattr("sia_gen.targets.formats.classifier.Classifier.predict", lambda self, images: next(answers))
    assert train_case(case, data, tmp_path / case.name, steps=1)[2] == pytest.approx(0.5, abs=0.01)
