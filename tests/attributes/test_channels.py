"""Channels of linear styles, ranked by a score of which is known which channels move it; and units read by a scorer."""

import pytest
import torch

from sia_gen.attributes.ways.channels import by_channels, relevance
from sia_gen.attributes.ways.scorer import Scorer, in_units
from sia_gen.attributes.ways.unlabelled import by_contrast, by_sefa
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.generators.foreign.stylegan2 import StyleGAN2ADA, StyleGAN2ADAConfig
from tests.attributes.test_ways import PERCENT, Bands, Middle, quarters

CHANNELS = {"a": (0, 4), "b": (1, 5), "c": (2, 6), "d": (3, 7)}


def test_relevance_is_what_a_small_change_of_each_channel_does():
    torch.manual_seed(0)
    made = StyleGAN2ADA(StyleGAN2ADAConfig(name="tiny", channels=(8, 8), z_dim=6, w_dim=6, mapping=(6, 6))).eval()
    made = made.requires_grad_(False).double()
    scorer = Scorer(("red", "right"), ("", ""), lambda images: torch.stack(
        [images[:, 0].mean((1, 2)), images[..., 4:].mean((1, 2, 3))], dim=1
    ))  # fmt: skip
    codes, (count,) = made.sample(range(3)).double(), made.edit_shapes["s"]
    found = relevance(made, scorer, codes, [1, 0])
    for channel in (0, count // 2, count - 1):
        shift = torch.zeros(3, count, dtype=torch.double)
        shift[:, channel] = 1e-5
        up, down = (scorer.read(made.render(codes, sign * shift, "s")) for sign in (1, -1))
        expected = ((up - down) / 2e-5).mean(0)[[1, 0]]
        torch.testing.assert_close(found[:, channel].double(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("chosen", [{"count": 2}, {"beta": 0.5}])
def test_each_score_gets_its_own_channels_in_its_unit(chosen):
    space = by_channels(Bands(), PERCENT, ["b", "d"], faces=16, trials=16, **chosen)
    assert (space.space, space.names) == ("s", ["b", "d"])
    for direction, name, weight in zip(space.directions, "bd", (3.0, 1.0), strict=True):
        expected = torch.zeros(8)
        expected[list(CHANNELS[name])] = 0.01 * weight  # of both layers, whose mean is the quarter's light
        torch.testing.assert_close(direction, expected, rtol=0.05, atol=1e-6)
    for attribute in space.attributes:
        assert attribute.unit == "%"
        assert attribute.slope == pytest.approx(1, abs=0.05)
        assert attribute.leakage == 0
        assert attribute.high == pytest.approx(16, abs=2)  # two sd


def test_what_cannot_be_ranked_is_named():
    with pytest.raises(RequestError, match="'middle' has no style channels to rank; find directions by a scorer"):
        by_channels(Middle(), PERCENT)
    with pytest.raises(RequestError, match="count=9 is outside 1…8"):
        by_channels(Bands(), PERCENT, count=9)
    with pytest.raises(RequestError, match="beta=nan is outside 0…1"):
        by_channels(Bands(), PERCENT, beta=float("nan"))
    with pytest.raises(RequestError, match="unknown score 'e'"):
        by_channels(Bands(), PERCENT, ["e"], count=2)
    asked = Scorer(PERCENT.names, PERCENT.units, lambda images: quarters(images.detach()))
    with pytest.raises(RequestError, match="gives no gradients, by which channels are ranked; use --by scorer"):
        by_channels(Bands(), asked, count=2, faces=4)
    level = Scorer(("level",), ("",), lambda images: quarters(images)[:, :1].sub(50).square())
    with pytest.raises(WorkError, match="no channels of 'bands' move the score 'level' alike; leave it out"):
        by_channels(Bands(), level, count=2, faces=256)


def test_directions_that_nobody_named_get_the_unit_of_what_they_move():
    space = in_units(Bands(), by_sefa(Bands(), 2), PERCENT, trials=16)
    assert space.names == ["sefa-1", "sefa-2"]
    codes = Bands().sample(range(500, 510))
    for row, (attribute, score) in enumerate(zip(space.attributes, "ab", strict=True)):
        assert (attribute.unit, attribute.positive) == ("%", f"more {score}")
        assert attribute.high == pytest.approx(16, abs=2)
        moved = quarters(Bands().render(codes, 5 * space.directions[row].expand(10, 2, 4), "w")) - quarters(
            Bands().render(codes)
        )
        expected = torch.zeros(4)
        expected[row] = 5.0
        torch.testing.assert_close(moved.mean(0), expected, atol=0.4, rtol=0)


@pytest.mark.parametrize("turned", [False, True])
def test_the_words_say_where_up_was_turned_round(turned):
    third = Bands().sample(range(400))[:, 0, 2]
    light, dark = ([seed for seed in range(400) if sign * (third[seed] - 0.5) > 0.05] for sign in (1, -1))
    named = by_contrast(Bands(), "kind", *((dark, light) if turned else (light, dark)))
    (attribute,) = in_units(Bands(), named, PERCENT, trials=16).attributes
    assert (attribute.name, attribute.unit) == ("kind", "%")
    assert attribute.positive == ("more c, less kind" if turned else "more c")
    assert attribute.slope == pytest.approx(1, abs=0.05)


def test_what_no_score_follows_stays_as_it_was():
    space = by_sefa(Bands(), 2)
    # It varies over faces by the fourth quarter, which the first two directions do not move.
    deaf = Scorer(("fourth",), ("%",), lambda images: quarters(images)[:, 3:])
    # The same for every face as sampled, and another as soon as one is edited: no sd says how much that is.
    still = Scorer(("still",), ("",), lambda images: (quarters(images)[:, :1] > 75).float())
    for scorer in (deaf, still):
        same = in_units(Bands(), space, scorer, trials=16)
        assert same.attributes == space.attributes
        assert torch.equal(same.directions, space.directions)
