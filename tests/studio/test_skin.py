"""Letters: B faces, P pixels."""

import pytest
import torch

from sia_gen.studio.sampling import sample
from sia_gen.studio.surface.skin import marks, relief, tint
from sia_gen.studio.surface.texture import Noise

FOREHEAD, CHEEK = (0.0, 0.76, 0.3), (0.75, -0.5, 0.2)


def shown(**factors):
    return marks(sample([0], ageing=0.0, forehead_lines=0.0, folds=0.0, sagging=0.0, redness=0.0, **factors))


def points(place, count=200, over=0.3):
    """``count`` points ``[3, P]`` in a column through ``place``."""
    rest = torch.tensor(place)[:, None].repeat(1, count)
    rest[1] += torch.linspace(-over / 2, over / 2, count)
    return rest


def at(look, count):
    return look.at(torch.zeros(count, dtype=torch.int64))


def test_lines_of_the_forehead_come_with_age():
    rest = points(FOREHEAD)
    depths = [relief(rest, at(shown(age=age), 200), Noise())[1].max().item() for age in (15.0, 45.0, 80.0)]
    assert depths[0] == 0.0
    assert 0.05 < depths[1] < depths[2]
    assert depths[2] > 0.5


def test_who_ages_early_shows_what_others_show_later():
    early, late = marks(sample([0], age=50.0, ageing=1.0)), marks(sample([0], age=59.0, ageing=0.0))
    assert early.aged.item() == pytest.approx(late.aged.item(), abs=1e-6)
    assert early.folds.item() == pytest.approx(late.folds.item(), abs=1e-6)


def test_more_of_one_mark_leaves_the_others():
    less, more = (marks(sample([0], age=60.0, folds=value)) for value in (-0.5, 0.5))
    assert more.folds.item() == pytest.approx(less.folds.item() * 1.4 / 0.6, rel=1e-5)
    assert more.eyes.item() == less.eyes.item()


def test_old_skin_is_rougher_and_less_even():
    rest = points(CHEEK, over=0.6)
    skin = torch.full((3, 200), 0.4)
    freckles = torch.zeros(200)
    grain = [Noise()(rest * 26), Noise()(rest * 7 + 3)]  # points of the right half
    for measure in (
        lambda look: relief(rest, look, Noise())[0].norm(dim=0).mean(),
        lambda look: tint(rest, skin, look, freckles, Noise(), *grain).std(dim=1).mean(),
    ):
        young, old = (measure(at(shown(age=age, skin_texture=0.0), 200)) for age in (10.0, 80.0))
        assert old > 1.5 * young
