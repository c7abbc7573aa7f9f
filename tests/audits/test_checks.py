from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from sia_gen.audits.diagnose import audit
from sia_gen.audits.evidence.checks import checks, in_training_mode, of_values, outread
from sia_gen.audits.evidence.reference import VerifiedLabel
from sia_gen.studio.factors import NAMES
from sia_gen.studio.renders import RenderSet
from sia_gen.targets.adapted import Form
from sia_gen.targets.module import ModuleTarget
from sia_gen.targets.target import Label
from sia_gen.targets.task import Classification, Detection, MultiLabel, Regression
from sia_gen.targets.verifier import Factor
from tests.audits.conftest import ATTACK

IMAGES = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
CLASSES = Classification(("no", "yes"))


def target(answer, **options):
    return ModuleTarget(answer, CLASSES, **options)


def logits(images):
    value = (images.mean(dim=(1, 2, 3)) - 0.5) * 100
    return torch.stack([-value, value], dim=1)


TRUE = logits(IMAGES).argmax(dim=1)
MOST = int(TRUE.bincount().amax())


def test_of_a_sound_target_there_is_nothing_to_say():
    assert checks(target(logits), IMAGES, TRUE) == []
    assert in_training_mode(target(logits)) == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda images: logits(images) + torch.randn(len(images), 2), "answers the same image differently"),
        (
            lambda images: logits(images).softmax(dim=1),
            "where it is sure; return the logits before the softmax, or the log",
        ),
        (lambda images: logits(images)[:, 1].sigmoid(), "return the logits before the sigmoid"),
        (lambda images: 0 * logits(images) + torch.tensor([1.0, 2.0]), "says the same of every face; check its wei"),
        (
            lambda images: logits(images).flip(1),
            f"is right on 0 of 16 unedited faces, where naming the commonest class each time would be right on {MOST};",
        ),
        (lambda images: logits(images).round() + 0 * images.sum(), "gradient is zero on 16 of 16 unedited faces"),
    ],
    ids=["random", "probabilities", "one probability", "constant", "classes swapped", "rounded"],
)
def test_what_is_wrong_is_said_with_its_remedy(answer, words):
    said = checks(target(answer), IMAGES, TRUE)
    assert any(words in text for text in said)
    assert all("; " in text for text in said)


def test_one_class_for_all_faces_is_named_where_no_truth_is_known():
    one = target(lambda images: logits(images) + torch.tensor([1e4, 0.0]))
    assert [text for text in checks(one, IMAGES, None) if "of all 16 unedited faces; check its weights" in text]
    assert checks(target(logits), IMAGES, None) == []


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (Form(channels="bgr"), "in the order blue, green, red; give --channels bgr"),
        (Form(high=255), "with values from 0 to 255; give --input-range 0,255"),
        (Form(low=-1), "with values from -1 to 1; give --input-range -1,1"),
        (Form(imagenet=True), "normalised as ImageNet's are; give --input-range imagenet"),
        (Form(size=64), "at 64 px; give --size 64"),
        (Form(crop=0.7), "only the middle 70% of each side; give --crop 0.7"),
    ],
    ids=["bgr", "0-255", "-1-1", "imagenet", "size", "crop"],
)
def test_a_form_in_which_a_target_reads_faces_better_is_named(form, words):
    images = torch.rand(32, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    truth = torch.arange(32) % 2
    wanted = form(images)

    def answer(shown):
        """Right of faces in this form, always of one class in others."""
        known = torch.stack([(wanted - one).flatten(1).abs().amax(1).argmin() for one in shown.to(wanted)])
        same = shown.shape == wanted.shape and torch.allclose(wanted[known], shown, atol=1e-3)
        return one_hot(truth[known] if same else torch.zeros(len(shown), dtype=torch.long), 2).float() + 0 * shown.sum()

    def sized(shown):
        if shown.shape[1:] != wanted.shape[1:]:
            return one_hot(torch.zeros(len(shown), dtype=torch.long), 2).float() + 0 * shown.sum()
        return answer(shown)

    said = checks(target(sized), images, truth)
    assert [text for text in said if text.endswith(words)]
    assert "it is right on 32 of 32 unedited faces, not on 16, if shown" in " ".join(said)


class Ages:
    """A verifier that reads ages of 0 to 100 off how light a picture is."""

    factors = (Factor("age", "years", 40.0, 20.0, slope=0.9),)

    def read(self, images):
        return images.mean(dim=(1, 2, 3))[:, None] * 100


@pytest.mark.parametrize(("off", "said"), [(0, False), (3, False), (25, True)])
def test_values_far_from_what_the_verifier_reads_are_named(off, said):
    ages = ModuleTarget(lambda images: Ages().read(images) + off, Regression(("age",), 5.0), label=Label("age", ()))
    found = of_values(ages, VerifiedLabel(Ages(), 0, ()), IMAGES)
    assert bool(found) == said
    if said:
        assert (
            "its values lie 25 years on average from what the verifier reads off the same faces (r = 1.00)" in found[0]
        )


def test_a_detector_whose_scores_are_small_is_only_told_so_if_it_finds_a_face_in_grey():
    def finds(images):
        return images.std(dim=(1, 2, 3)).clamp(max=0.9) - 0.01

    good = ModuleTarget(finds, Detection())
    assert not [text for text in checks(good, IMAGES, None) if "scores lie between" in text]
    always = ModuleTarget(lambda images: finds(images).abs() + 0.05, Detection())
    assert [text for text in checks(always, IMAGES, None) if "its scores lie between 0 and 1" in text]


def test_a_target_whose_answer_depends_on_the_batch_is_named():
    beside = target(lambda images: logits(images) - logits(images).mean(dim=0))
    assert [text for text in checks(beside, IMAGES, None) if "depends on the faces beside it, by up to" in text]
    normalised = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Linear(192, 2)).eval()

    def trains(images):
        return normalised.train()(images)

    assert [text for text in checks(target(trains), IMAGES, None) if "put BatchNorm into eval mode" in text]


def test_a_black_box_needs_no_gradient():
    assert checks(target(lambda images: logits(images).detach(), differentiable=False), IMAGES, TRUE) == []


class Reads:
    """A verifier that reads a label as ``answer`` does."""

    verifier = SimpleNamespace(mean=torch.zeros(1))

    def __init__(self, answer):
        self.read = answer


@pytest.mark.parametrize(
    ("target_errs", "verifier_errs", "said"),
    [(0, 12, True), (3, 20, True), (0, 0, False), (12, 12, False), (12, 0, False), (0, 3, False)],
)
def test_a_target_that_reads_its_label_better_than_its_judge_is_named(target_errs, verifier_errs, said):
    number = torch.arange(100)
    values = torch.zeros(100, len(NAMES))
    values[number >= 50, NAMES.index("smile")] = 0.9
    images = number.to(torch.uint8)[:, None, None, None].expand(100, 3, 4, 4)

    def reads(errs):
        """Reads the first ``errs`` of the renders wrong."""

        def answer(images):
            shown = (images[:, 0, 0, 0] * 255).round()
            return ((shown >= 50) ^ (shown < errs)).long()

        return answer

    judged = target(lambda images: one_hot(reads(target_errs)(images), 2).float(), label=Label("smile", (0.5,)))
    found = outread(judged, Reads(reads(verifier_errs)), RenderSet(images, values, values, values, values, {}))
    assert bool(found) == said
    if said:
        assert (
            f"({100 - target_errs:.1f}% right) than the verifier that judges it ({100 - verifier_errs:.1f}%)"
            in found[0]
        )


def test_a_module_in_training_mode_is_named():
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    (said,) = in_training_mode(target(module))
    assert "was in training mode" in said
    assert in_training_mode(target(module.eval())) == []


@pytest.mark.parametrize(
    ("task", "answer", "words"),
    [
        (MultiLabel(("a", "b")), lambda images: logits(images).sigmoid(), "give probabilities, where above 0 means"),
        (Detection(), lambda images: logits(images)[:, 1].sigmoid(), "scores lie between 0 and 1, where above 0"),
    ],
    ids=["several labels", "detection"],
)
def test_probabilities_of_other_tasks_are_named(task, answer, words):
    assert any(words in text for text in checks(ModuleTarget(answer, task), IMAGES, None))


def test_an_audit_says_what_is_wrong_at_once_and_in_its_report(problem, caplog):
    weight = problem.target.weight.detach()

    def probabilities(images):
        value = (images.flatten(1) - 0.5) @ weight / 10
        return torch.stack([-value, value], dim=1).softmax(dim=1)

    report = audit(problem.generator, target(probabilities), problem.space, faces=8, attack=ATTACK)
    (said,) = report.histogram["checks"]
    assert said in caplog.text
    assert "it seems to give probabilities" in said
    assert said in (report.folder / "report.html").read_text()


def test_too_few_faces_are_named(problem):
    report = audit(problem.generator, problem.target, problem.space, faces=4, attack=ATTACK)
    assert (
        report.histogram["checks"][-1]
        == "4 faces were right and could be attacked, too few to tell much; audit 32 or more"
    )
