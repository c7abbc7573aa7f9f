"""Losses against numbers worked out by hand, sampling, and what is done to the last layer."""

import math

import pytest
import torch
from torch import nn

from sia_gen.core.errors import RequestError
from sia_gen.core.modules import one_seed
from sia_gen.hardening import lessons
from sia_gen.hardening.regimens import Regimen
from sia_gen.rebalancing.learning import VARIED, drawn, finished, loss, prepared, teach
from sia_gen.rebalancing.measures import measured
from sia_gen.rebalancing.remedies import BETA, MARGIN, REMEDIES, SCALE, RebalancingSettings
from sia_gen.training.network import augment

COUNTS = torch.tensor([90, 10])
LOGITS = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
LABELS = torch.tensor([0, 1])
UNMIXED = LABELS, torch.zeros(2)


class Says(nn.Module):
    def forward(self, images):
        return LOGITS


def value(how, late=False, other=UNMIXED):
    return loss(how, COUNTS)(Says(), late, torch.empty(2), LABELS, *other).item()


def plain(first, second):
    """Cross-entropies of two pictures whose right logit leads by so much."""
    return [math.log(1 + math.exp(-gap)) for gap in (first, second)]


def test_losses_are_their_papers():
    one, two = plain(1, 2)
    assert value("plain") == pytest.approx((one + two) / 2)
    weights = [(1 - BETA) / (1 - BETA**count) for count in (90, 10)]
    mean = sum(weights) / 2
    assert value("effective") == pytest.approx((one * weights[0] + two * weights[1]) / mean / 2, rel=1e-5)
    focal = [(1 - math.exp(-each)) ** 2 * each for each in (one, two)]
    assert value("focal") == pytest.approx(sum(focal) / 2)
    gap = math.log(9)
    assert value("softmax") == pytest.approx(sum(plain(1 + gap, 2 - gap)) / 2)
    largest = SCALE * MARGIN
    margins = [largest * (10 / 90) ** 0.25, largest]
    first, second = plain(1 - margins[0], 2 - margins[1])
    assert value("ldam") == pytest.approx((first + second) / 2)
    assert value("ldam", late=True) == pytest.approx((first * weights[0] + second * weights[1]) / mean / 2, rel=1e-5)


def test_a_mixed_picture_counts_for_both_of_its_classes():
    one, two = plain(1, 2)
    other, three = plain(-1, -2)
    mixed = value("plain", other=(torch.tensor([1, 0]), torch.tensor([0.25, 0.5])))
    assert mixed == pytest.approx((0.75 * one + 0.25 * other + 0.5 * two + 0.5 * three) / 2)


def test_sampling_sees_each_class_alike():
    labels = torch.tensor([0] * 7 + [1] * 3)
    assert drawn(labels, "as it is", 0).tolist() == list(range(10))
    over = drawn(labels, "over", 0)
    assert labels[over].bincount().tolist() == [7, 7]
    assert sorted(over.bincount().tolist()) == [1, 1, 1, 1, 1, 1, 1, 2, 2, 3]
    under = drawn(labels, "under", 0)
    assert labels[under].bincount().tolist() == [3, 3]
    assert len(under.unique()) == 6


@pytest.mark.parametrize("how", sorted({row.augment for row in REMEDIES.values()}))
def test_pictures_are_varied_by_the_seed_alone(how):
    pictures, labels = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8), torch.arange(4) % 2
    made = [prepared(how, True)(torch.Generator().manual_seed(seed), pictures, labels) for seed in (1, 1, 2)]
    for one, other in zip(*made[:2], strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(made[0][0], made[2][0])
    images, kept, _, share = made[0]
    assert images.shape == pictures.shape
    assert 0 <= images.min() <= images.max() <= 1
    assert torch.equal(kept, labels)
    assert (share.max() > 0) == (how in ("mixup", "cutmix"))


@pytest.mark.parametrize("how", VARIED)
def test_pictures_that_are_varied_are_blurred_and_noised_as_others_are(monkeypatch, how):
    monkeypatch.setattr("sia_gen.rebalancing.learning.varied", lambda images, how: 1 - images)
    monkeypatch.setattr("sia_gen.hardening.lessons.varied", lambda images, how: 1 - images)
    pictures, labels = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8), torch.arange(4)
    wanted = augment(255 - pictures, torch.Generator().manual_seed(1))
    assert torch.equal(prepared(how, False)(torch.Generator().manual_seed(1), pictures, labels)[0], wanted)
    hardened = lessons.prepared(Regimen("", augment=how), False)
    assert torch.equal(hardened(torch.Generator().manual_seed(1), pictures, labels, labels)[0], wanted)


@pytest.mark.parametrize(("how", "name"), [("randaugment", "RandAugment"), ("trivialaugment", "TrivialAugment")])
def test_operations_are_drawn_for_four_pictures(monkeypatch, how, name):
    sizes = []

    def forward(self, images):
        sizes.append(len(images))
        return images

    monkeypatch.setattr(f"kornia.augmentation.auto.{name}.forward", forward)
    images = torch.rand(10, 3, 8, 8)
    assert torch.equal(lessons.varied(images, how), images)
    assert sizes == [4, 4, 2]


def test_chains_of_augmix_are_of_one_to_three_operations(monkeypatch):
    drawn_at = []

    class Counted(torch.nn.Module):
        def forward(self, images):
            drawn_at.append(len(images))
            return images

    monkeypatch.setattr("kornia.augmentation.auto.TrivialAugment", Counted)
    totals, images = set(), torch.full((4, 3, 2, 2), 0.5)
    with one_seed(0):
        for _ in range(300):
            drawn_at.clear()
            torch.testing.assert_close(lessons.varied(images, "augmix"), images)
            totals.add(len(drawn_at))
    assert (min(totals), max(totals)) == (3, 9)


def test_a_picture_that_is_cut_into_another_has_as_much_of_its_class():
    pictures = torch.zeros(8, 3, 32, 32, dtype=torch.uint8)
    pictures[1::2] = 255
    labels = torch.arange(8) % 2
    for how in ("cutmix", "mixup"):
        images, _, other, share = prepared(how, False)(torch.Generator().manual_seed(3), pictures, labels)
        white = (1 - share) * labels + share * other
        assert (images.mean((1, 2, 3)) - white).abs().max() < 0.1  # exposure and noise vary besides


def test_what_is_done_after_training():
    def head():
        made = nn.Sequential(nn.Linear(2, 2))
        made[0].weight = nn.Parameter(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
        made[0].bias = nn.Parameter(torch.tensor([1.0, 2.0]))
        return made

    layer = finished(head(), "tau", 1.0, [90, 10])[0]
    torch.testing.assert_close(layer.weight.data, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    assert layer.bias.tolist() == [0, 0]
    layer = finished(head(), "adjusted", 2.0, [90, 10])[0]
    assert layer.bias.tolist() == pytest.approx([1 - 2 * math.log(0.9), 2 - 2 * math.log(0.1)])
    assert finished(head(), "no", 1.0, [90, 10])[0].bias.tolist() == [1, 2]
    with pytest.raises(RequestError, match="ends in no linear layer of 3 outputs"):
        finished(head(), "tau", 1.0, [1, 1, 1])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.out = nn.Linear(3, 2)

    def forward(self, images):
        return self.out(images.mean((2, 3)) * 4 - 2)


@pytest.mark.parametrize("name", [name for name, row in REMEDIES.items() if row.added == "no"])
def test_every_remedy_learns(tmp_path, name):
    random = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 60 + [1] * 20)
    levels = torch.where(labels == 1, 160, 60) + torch.randint(-30, 30, (80,), generator=random)
    pictures = levels.view(-1, 1, 1, 1).expand(-1, 3, 16, 16).to(torch.uint8)
    remedy = REMEDIES[name]
    made = teach(
        Net(), pictures, labels, 2, remedy, tmp_path, steps=150, batch=16, rate=0.1, seed=0, mirror=True, settings={}
    )
    made = finished(made, remedy.after, 0.5, [60, 20])
    with torch.no_grad():
        found = measured(made(pictures / 255).softmax(1), labels)
    assert found["auroc"] > 0.95
    assert found["balanced"] > 0.9 or remedy.augment in VARIED  # which vary brightness, all that there is to go by


def test_one_class_alone_teaches_nothing(tmp_path):
    pictures, labels = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(RequestError, match="all 4 pictures are of one class"):
        teach(Net(), pictures, labels, 2, REMEDIES["plain"], tmp_path, steps=1, batch=2, rate=1.0, seed=0,
              mirror=False, settings={})  # fmt: skip


def test_measures_by_hand():
    probabilities = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8]])
    found = measured(probabilities, torch.tensor([0, 0, 0, 1, 1]))
    assert found["recalls"] == pytest.approx([2 / 3, 0.5], abs=1e-4)
    assert found["balanced"] == pytest.approx((2 / 3 + 0.5) / 2, abs=1e-4)
    assert found["worst"] == 0.5
    assert found["f1"] == pytest.approx((2 / 3 + 0.5) / 2, abs=1e-4)
    assert found["auroc"] == pytest.approx(5 / 6, abs=1e-4)
    assert found["ece"] == pytest.approx((0.1 + 0.2 + 0.6 + 0.7 + 0.2) / 5, abs=1e-4)
    absent = measured(probabilities, torch.zeros(5, dtype=torch.int64))
    assert (absent["recalls"], absent["auroc"], absent["balanced"]) == ([0.6, None], None, 0.6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"faces": 0}, {"rounds": 0}, {"steps": 0}, {"batch": 1}, {"attack": 0}, {"rate": 0.0}, {"steps": 1.5},
        {"faces": True}, {"rate": "x"}, {"rate": True},
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_are_none_are_refused(wrong):
    with pytest.raises(RequestError, match=f"{next(iter(wrong))}="):
        RebalancingSettings(**wrong)
