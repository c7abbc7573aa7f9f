"""K attributes, R resolution."""

import zipfile

import pytest
import torch
from PIL import Image

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.images import from_pil, to_bytes
from sia_gen.service.app.attack_page import headline, marks, page
from sia_gen.service.app.attack_panel import EXAMPLES, FIRST_ATTACK
from sia_gen.service.app.attack_request import AttackRequest
from sia_gen.service.attacker import require_attributes
from sia_gen.service.models import Models
from sia_gen.service.replay import Replay, replay

COLOURS, IS_RED, IS_BLUE = (f"tests.standins:{name}" for name in ("colours", "is_red", "is_blue"))


@pytest.fixture(scope="module")
def models():
    return Models()


@pytest.fixture(scope="module")
def shown(models):
    return replay(models.attacker(COLOURS, IS_RED), 4, 4, None, SemanticImageAttack(budget=3.0, epsilon=2 / 255))


def test_shows_every_step_and_where_it_ended(models):
    seen = []
    asked = AttackRequest(generator=COLOURS, target=IS_RED, face=4, steps=5, budget=3)
    shown = asked.run(models, seen.append, lambda done, total, what: None)
    assert [len(each.steps) for each in seen] == [1, 2, 3, 4, 5, 6]
    assert shown.steps[shown.worst].loss == max(step.loss for step in shown.steps)
    assert shown.steps[0].changes == {"redness": 0.0, "blueness": 0.0}
    assert shown.steps[1].changes["redness"] == 20.0  # the worst point of it alone
    assert torch.equal(shown.steps[0].semantic, shown.steps[0].adversarial)
    # Each of 2 attributes alone takes 9 images, and the attack 6.
    assert shown.queries == 2 * 9 + 6


def test_an_attack_that_takes_too_long_makes_room_for_others(models, monkeypatch):
    monkeypatch.setattr("sia_gen.service.app.attack_request.LONGEST", -60.0)
    with pytest.raises(WorkError, match=r"^each attribute alone took more than -1 minutes; ask for fewer steps or"):
        AttackRequest(generator=COLOURS, target=IS_RED).run(models, None, lambda done, total, what: None)


def test_an_attack_ends_as_that_of_several_faces_does(models):
    attacker = models.attacker(COLOURS, IS_RED)
    attack = SemanticImageAttack(budget=3.0)
    together = attacker.attack([3, 4], None, attack)
    alone = attacker.attack([4], None, attack)
    assert torch.equal(together.result.omega[1:], alone.result.omega)
    assert torch.equal(together.queries[1:], alone.queries)


def test_a_gentle_attack_starts_at_the_face(models):
    attacker, attack = models.attacker(COLOURS, IS_RED), SemanticImageAttack(budget=3.0)
    gentle = attacker.attack([3, 4], None, attack.gentle())
    assert torch.equal(gentle.queries, gentle.result.queries)
    worst = attacker.attack([3, 4], None, attack)
    assert (worst.queries > worst.result.queries).all()
    asked = AttackRequest(generator=COLOURS, target=IS_RED, face=4, gentle=True)
    found = asked.run(models, None, lambda done, total, what: None)
    assert found.failed
    assert found.queries == len(found.steps) <= 1 + asked.steps
    assert f"(the first failure is {found.worst})" in page(found)


def test_reads_what_it_wrote(shown, tmp_path):
    shown.save(tmp_path)
    again = Replay.load(tmp_path)
    assert again.content() == shown.content()
    for here, there in zip(shown.steps, again.steps, strict=True):
        assert torch.equal(here.semantic, there.semantic)
        assert torch.equal(here.adversarial, there.adversarial)
    (tmp_path / "steps.webp").write_bytes(b"nothing")
    with pytest.raises(WorkError, match="cannot read the attack in"):
        Replay.load(tmp_path)


def test_packs_pictures_that_can_be_measured(shown, tmp_path):
    shown.pack(tmp_path / "face.zip")
    with zipfile.ZipFile(tmp_path / "face.zip") as archive:
        assert archive.namelist() == ["before.png", "semantic.png", "adversarial.png", "residual.png", "attack.json"]
        pictures = {name: archive.open(f"{name}.png") for name in ("semantic", "adversarial", "residual")}
        read = {name: to_bytes(from_pil(Image.open(file))).int() for name, file in pictures.items()}
    assert torch.equal(read["residual"], 128 + 63 * (read["adversarial"] - read["semantic"]))
    assert (read["adversarial"] - read["semantic"]).abs().max() == 2  # ε, in 8-bit steps


def test_the_page_holds_every_step_and_says_what_is_known(shown):
    text = page(shown)
    assert text.count("<div data-step=") == len(shown.steps)
    assert text.count(" hidden>") == len(shown.steps) - 1
    assert "Residual × 63" in text
    assert f"(the worst is {shown.worst})" in text
    assert "+20 points" in text
    assert "redder" in text


def test_the_page_shows_the_last_step_while_an_attack_is_under_way(models):
    seen = []
    asked = AttackRequest(generator=COLOURS, target=IS_RED, face=4, steps=3)
    asked.run(models, seen.append, lambda done, total, what: None)
    text = page(seen[2], "step 2 of 3 …")
    assert "step 2 of 3 …" in text
    assert text.count("<div data-step=") == 1
    assert '<div data-step="2">' in text
    assert '<label class="replay"' not in text


def test_a_face_that_is_wrong_as_it_is_is_not_attacked(models):
    target = models.attacker(COLOURS, IS_RED)
    shown = replay(target, 4, 4, None, SemanticImageAttack())
    unlucky = Replay(shown.about, shown.attributes, shown.steps[:1], correct=False)
    assert headline(unlucky).startswith("The target is wrong on face 4 as it is")
    assert marks(unlucky) == []
    assert '<label class="replay"' not in page(unlucky)


def test_what_the_target_predicts_is_no_attribute_to_move(models):
    attacker = models.attacker(COLOURS, IS_BLUE)
    assert require_attributes(attacker, ["redness", "blueness"]) == ["redness"]
    with pytest.raises(RequestError, match=r"^blueness leaves no attribute to move; choose another one$"):
        require_attributes(attacker, ["blueness"])


def test_models_are_loaded_once(models):
    assert models.attacker(COLOURS, IS_RED) is models.attacker(COLOURS, IS_RED)
    assert models.attacker(COLOURS, IS_BLUE).generator is models.attacker(COLOURS, IS_RED).generator
    assert models.editor(COLOURS).generator is not models.attacker(COLOURS, IS_RED).generator  # another thread's


def test_the_app_opens_with_a_failure_that_is_valid_and_confirmed():
    first = Replay.load(FIRST_ATTACK)
    assert (first.correct, first.failed, first.valid, first.confirmed) == (True, True, True, True)
    assert first.about["target"] == "smile-classifier-planted"
    assert len(page(first)) < 800_000


def test_there_are_five_examples():
    assert len(EXAMPLES) == 5
    for values in EXAMPLES.values():
        AttackRequest(
            **{"generator": "faces-stylegan2"} | {**values, "attributes": tuple(values.get("attributes", ["yaw"]))}
        )
