"""Attacks side by side, and ours in pixels against a library's at equal settings."""

import dataclasses
import json
import os
from importlib.util import find_spec

import pytest
import torch

from sia_gen import SemanticImageAttack, load_attributes, load_generator, load_target
from sia_gen.audits.evidence.reference import NONE
from sia_gen.audits.proof import baselines as library
from sia_gen.audits.proof.attacks import attack_table
from sia_gen.audits.proof.baselines import BASELINES, MORE, ensemble, every, names, pixel_attack
from sia_gen.core.errors import RequestError
from sia_gen.core.images import quantise
from sia_gen.service.commands.bench_tables import show_attacks
from sia_gen.targets.module import ModuleTarget
from sia_gen.targets.target import ask
from sia_gen.targets.task import Classification, Regression
from tests.standins import colours, is_red

FACES, EPSILON = 8, 1 / 255
NAMED = os.environ.get("TORCHATTACKS")  # a library that is named is to be used: then nothing is skipped
STRAW = [("DI²-FGSM", "l2"), ("TI-FGSM", "l2")]  # these step along the sign


@pytest.fixture(scope="module")
def smile():
    """The shipped classifier, unedited faces, and what it says of them."""
    target, generator = load_target("smile-classifier"), load_generator("faces-stylegan2")
    images = quantise(generator.render(generator.sample(range(FACES))))
    return target, generator, images, ask(target, images).argmax(dim=1)


def test_ours_in_pixels_is_the_librarys_pgd(smile):
    """Both from the face itself, along the sign of the cross-entropy's gradient, in steps of one 8-bit level.

    Of a quarter of a level ours loses the first ones, as the target is shown what 8 bits hold.
    """
    target, generator, images, labels = smile
    task = dataclasses.replace(target.task, measure="cross-entropy")
    attack = SemanticImageAttack(steps=10, box=0.0, epsilon=4 * EPSILON, stop="never")
    ours = attack(generator, load_attributes("faces-stylegan2"), dataclasses.replace(target, task=task),
                  generator.sample(range(FACES)), labels)  # fmt: skip
    losses, failures = [], []
    for steps in range(1, 11):  # ours keeps the worst point of all steps, theirs the last one
        given = {"epsilon": 4 * EPSILON, "steps": steps, "random_start": False}
        with torch.no_grad():
            said = ask(target, quantise(pixel_attack("PGD", target, images, labels, **given)))
        losses.append(torch.nn.functional.cross_entropy(said, labels, reduction="none"))
        failures.append(said.argmax(dim=1) != labels)
    worst, failed = torch.stack(losses).amax(dim=0), torch.stack(failures).any(dim=0)
    assert abs(ours.success.float().mean() - failed.float().mean()) <= 1 / FACES
    assert ours.loss_after.mean().item() == pytest.approx(worst.mean().item(), rel=0.01)


@pytest.mark.parametrize("name", ["FGSM", "PGD", "MI-FGSM", "APGD-CE", "DeepFool"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_baseline_stays_within_its_radius_and_repeats_itself(smile, name, norm):
    target, _, images, labels = smile
    radius = EPSILON if norm == "linf" else 0.5
    found = [pixel_attack(name, target, images[:3], labels[:3], epsilon=radius, norm=norm, steps=3) for _ in range(2)]
    assert torch.equal(*found)
    delta = (found[0] - images[:3]).flatten(1)
    size = delta.abs().amax(dim=1) if norm == "linf" else delta.norm(dim=1)
    assert (size <= radius + 1e-6).all()
    assert 0 <= found[0].min() <= found[0].max() <= 1


@pytest.mark.skipif(not NAMED and find_spec(library.MORE_LIBRARY) is None, reason="torchattacks is not installed")
@pytest.mark.parametrize(
    ("name", "norm"), [(name, norm) for norm in ("linf", "l2") for name in MORE if (name, norm) not in STRAW]
)
def test_a_baseline_of_the_other_library_stays_within_its_radius(smile, capsys, name, norm):
    _, _, images, _ = smile
    target, radius = load_target("age-classifier"), 4 * EPSILON if norm == "linf" else 1.0
    labels = ask(target, images[:3]).argmax(dim=1)
    given = {"epsilon": radius, "norm": norm, "steps": 3}
    found = [pixel_attack(name, target, images[:3], labels, **given) for _ in range(2)]
    assert torch.equal(*found)
    delta = (found[0] - images[:3]).flatten(1)
    size = delta.abs().amax(dim=1) if norm == "linf" else delta.norm(dim=1)
    assert 0 < size.max() <= radius * (1 + 1e-5)
    assert 0 <= found[0].min() <= found[0].max() <= 1
    with torch.no_grad():
        before, after = (
            torch.nn.functional.cross_entropy(ask(target, each), labels) for each in (images[:3], found[0])
        )
    assert after > before
    assert not capsys.readouterr().out


@pytest.mark.parametrize("there", [False, True])
def test_baselines_are_those_that_are_installed_and_suit_the_classes(monkeypatch, there):
    monkeypatch.setattr(library, "find_spec", lambda name: object() if there or name == library.LIBRARY else None)
    two, three, four = (ModuleTarget(lambda images: images, Classification(tuple("abcd"[:n]))) for n in (2, 3, 4))
    more = set(MORE) if there else set()
    assert set(names(four)) == set(BASELINES) | more
    assert set(names(four)) - set(names(three)) == more & {"APGD-T"}
    assert set(names(three)) - set(names(two)) == {"APGD-DLR"}
    assert ensemble(two) == ["APGD-CE", "FAB-T" if there else "DeepFool", "Square"]
    assert ensemble(three) == ["APGD-CE", "APGD-DLR", "FAB-T" if there else "DeepFool", "Square"]
    assert ensemble(four)[1] == ("APGD-T" if there else "APGD-DLR")
    if not there:
        with pytest.raises(RequestError, match="'FAB-T' needs torchattacks; pip install --no-deps torchattacks"):
            every(["FAB-T"], four)
    assert every(["FGSM", "APGD-DLR"], two) == ["FGSM"]
    assert set(names(four)) - set(names(four, "l2")) == more & {"DI²-FGSM", "TI-FGSM"}
    assert ensemble(four, more=False) == ["APGD-CE", "APGD-DLR", "DeepFool", "Square"]
    for name, norm in STRAW:
        with pytest.raises(RequestError, match=f"'{name}' is for linf alone; leave it out with --norm l2"):
            every([name], four, norm)


def test_a_table_holds_every_attack_of_every_target(tmp_path):
    content = attack_table(
        ["smile-classifier"], attributes=["yaw", "age", "light_azimuth"], faces=3, steps=2, baselines=["FGSM"],
        ablations=True, confirm=False, out=tmp_path / "attacks.json",
    )  # fmt: skip
    assert json.loads((tmp_path / "attacks.json").read_text()) == json.loads(json.dumps(content))
    rows = {row["attack"]: row for row in content["rows"]}
    wanted = {"FGSM", "semantic", "joint", "semantic, gentle", "joint, gentle", "sequential", "joint, from the face"}
    assert {*wanted, "joint, budget 2", "joint, random directions", "joint, epsilon 4/255"} <= set(rows)
    assert "joint, epsilon 1/255" not in rows  # which is "joint"
    assert rows["joint, random directions"]["confirmed"] is None
    right, started = rows["FGSM"]["attempted"], 3 * 9  # each of three attributes alone, at eight values and the face
    assert rows["pixels (ours, box 0)"]["queries"] == 3
    assert rows["semantic"]["queries"] == rows["joint"]["queries"] == started + 3
    assert rows["joint, gentle"]["queries"] <= 3
    assert 1 <= rows["FGSM"]["queries"] < 10
    assert right == 3
    assert rows["semantic"]["seconds"] > rows["semantic, gentle"]["seconds"]
    for row in rows.values():
        assert row["valid_interval"][0] <= row["valid"] <= row["valid_interval"][1]
        assert 0 <= row["valid"] <= row["success"] == row["successes"] / row["attempted"] <= 1
        assert row["interval"][0] <= row["success"] <= row["interval"][1]
        assert 0 < row["similarity"] <= 1
    assert rows["FGSM"]["distance"] < 0.5 < rows["semantic"]["distance"]
    assert rows["sequential"]["successes"] >= rows["semantic"]["successes"]


def test_where_nothing_tells_none_is_valid_and_none_is_not(monkeypatch):
    monkeypatch.setattr("sia_gen.audits.proof.attacks.VERIFIER", NONE)
    source = colours()
    content = attack_table(
        [is_red(), is_red()], generator=source, attributes=source.attributes, faces=2, steps=1, baselines=[],
        confirm=False,
    )  # fmt: skip
    assert list(dict.fromkeys(row["target"] for row in content["rows"])) == ["is-red 1", "is-red 2"]
    by = {row["attack"]: row for row in content["rows"]}
    assert by["semantic"]["valid"] is by["semantic"]["valid_interval"] is None
    assert by["pixels (ours, box 0)"]["valid"] == by["pixels (ours, box 0)"]["success"]
    show_attacks(content)
    with pytest.raises(RequestError, match="there is no target; name one or more"):
        attack_table([], transfer=True)


def test_an_ensemble_fails_where_one_of_its_attacks_does(monkeypatch):
    monkeypatch.setattr(library, "QUERIES", 5)
    parts = ["APGD-CE", "DeepFool", "Square"]
    monkeypatch.setattr(library, "find_spec", lambda name: None if name == library.MORE_LIBRARY else object())
    rows = {
        row["attack"]: row
        for row in attack_table(
            ["smile-classifier"], attributes=["yaw"], faces=3, steps=1, baselines=["FGSM", *parts], confirm=False
        )["rows"]
    }
    together = rows["together: APGD-CE, DeepFool, Square"]
    assert list(rows)[4] == "together: APGD-CE, DeepFool, Square"
    most, all_of_them = (work(rows[name]["successes"] for name in parts) for work in (max, sum))
    assert most <= together["successes"] <= all_of_them
    assert together["queries"] == pytest.approx(sum(rows[name]["queries"] for name in parts))


def test_of_one_face_nothing_says_how_features_vary():
    (row, *_) = attack_table(["smile-classifier"], faces=1, steps=1, attributes=["yaw"], baselines=[], confirm=False)[
        "rows"
    ]
    assert row["distance"] is None


def test_what_is_no_classifier_with_gradients_is_refused():
    values = ModuleTarget(lambda images: images.mean(dim=(2, 3))[:, :1], Regression(("age",), 5.0), "years")
    with pytest.raises(RequestError, match="'years' is no classifier with gradients"):
        attack_table([values], faces=2, baselines=[], confirm=False)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(library, "find_spec", lambda name: None if name == "art" else find_spec(name))
    with pytest.raises(RequestError, match=r"pip install 'sia-gen\[baselines\]'"):
        attack_table(["smile-classifier"], faces=2)


def test_an_unknown_baseline_is_named(smile):
    with pytest.raises(RequestError, match="no baseline 'magic': there are FGSM, PGD"):
        attack_table(["smile-classifier"], faces=2, baselines=["magic"])
    with pytest.raises(RequestError, match="no baseline 'magic'"):
        pixel_attack("magic", *smile[:1], *smile[2:], epsilon=EPSILON)
