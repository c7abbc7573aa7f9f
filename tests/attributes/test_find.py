import dataclasses

import pytest
import torch
from torch import nn

from sia_gen.attributes.calibrate import POINTS, Labels, Wanted, _steady, measure
from sia_gen.attributes.find import find_directions
from sia_gen.core.errors import RequestError
from sia_gen.core.seeds import normals

WANTED = [Wanted("first", "units", "less", "more"), Wanted("third", "units", "less", "more", reach=1.5)]


class Mixed(nn.Module):
    """Codes are a linear mix of five latents; the picture shows the first three, one a colour channel, over 4 × 4."""

    name, resolution = "mixed", 4
    edit_shapes = {"w": torch.Size([2, 8])}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.mix = normals([1], (5, 8), "mix")[0]
        self.unmix = torch.linalg.pinv(self.mix)

    def sample(self, seeds):
        return (normals(seeds, (5,), "latents") @ self.mix)[:, None].repeat(1, 2, 1)

    def render(self, codes, edits=None, space=None):
        codes = codes if edits is None else codes + edits
        latents = codes.mean(1) @ self.unmix
        return (0.5 + 0.08 * latents[:, :3]).clamp(0, 1)[:, :, None, None].expand(-1, -1, 4, 4)


def labels():
    """Three labels, of 10, 2 and 1 units to the sd."""
    sd = torch.tensor([10.0, 2.0, 1.0])
    return Labels(
        ("first", "second", "third"),
        sd,
        of=lambda seeds: normals(seeds, (5,), "latents")[:, :3] * sd,
        read=lambda images: (images.mean((2, 3)) - 0.5) / 0.08 * sd,
    )


def test_directions_move_their_own_label_by_a_unit_and_no_other():
    space = find_directions(Mixed(), labels(), WANTED, faces=512)
    assert space.directions.shape == (2, 2, 8)
    per_sd = space.directions * torch.tensor([[[10.0]], [[1.0]]])
    moved = measure(Mixed(), labels(), Mixed().sample(range(900, 932)), per_sd)
    wanted = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(moved.mean(1), wanted, rtol=0, atol=0.03)


def test_attributes_say_what_was_measured():
    first, third = find_directions(Mixed(), labels(), WANTED, faces=512).attributes
    assert (first.name, first.unit, first.low, first.high, first.sd) == ("first", "units", -20, 20, 10)
    assert (third.low, third.high) == (-1.5, 1.5)
    for attribute in (first, third):
        assert abs(attribute.slope - 1) < 0.03
        assert attribute.leakage < 0.03


def test_attributes_follow_over_their_whole_range():
    first, third = find_directions(Mixed(), labels(), WANTED, faces=512).attributes
    assert first.curve == pytest.approx([20 * point for point in POINTS], abs=0.6)
    assert third.curve == pytest.approx([1.5 * point for point in POINTS], abs=0.06)
    assert min(first.monotony, third.monotony) > 0.99


def test_a_range_ends_where_the_reading_no_longer_follows():
    asked = 2 * torch.tensor(POINTS).expand(4, -1)
    share, slope, curve, monotony = _steady(asked.clamp(-1.2, 1.2), 2.0)
    assert share == 0.75
    assert slope == pytest.approx(6.1 / 7)
    assert curve.tolist() == pytest.approx([-1.2, -1, -0.5, 0, 0.5, 1, 1.2])
    assert monotony == pytest.approx(1.0)
    assert _steady(asked, 2.0)[:2] == (1.0, pytest.approx(1.0))
    assert _steady(0.2 * asked, 2.0)[:2] == (0.5, pytest.approx(0.2))


def test_what_the_fit_gets_wrong_is_corrected_by_what_is_measured():
    """The labels of the fit are off: half as large, and the first mixed into the third."""
    plain, wrong = labels(), torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.0, 2.0]])
    skewed = dataclasses.replace(plain, of=lambda seeds: plain.of(seeds) / plain.sd @ wrong.T * plain.sd)
    first, third = find_directions(Mixed(), skewed, WANTED, faces=512).attributes
    for attribute in (first, third):
        assert abs(attribute.slope - 1) < 0.03
        assert attribute.leakage < 0.03


class Styled(Mixed):
    """`Mixed` with a StyleSpace: its latents, each twice, the second time as something that shows in every label."""

    edit_shapes = Mixed.edit_shapes | {"s": torch.Size([10])}

    def carry(self, edits):
        latents = edits.mean(-2) @ self.unmix
        return torch.cat([latents, 0.2 * latents], dim=-1)

    def render(self, codes, edits=None, space=None):
        latents = codes.mean(1) @ self.unmix
        if edits is not None:
            styles = edits if space == "s" else self.carry(edits)
            latents = latents + styles[:, :5] + 0.3 * styles[:, 5:].sum(1, keepdim=True)
        return (0.5 + 0.08 * latents[:, :3]).clamp(0, 1)[:, :, None, None].expand(-1, -1, 4, 4)


def test_where_there_is_a_stylespace_an_attribute_leaves_out_the_channels_that_drag_others():
    space = find_directions(Styled(), labels(), WANTED, faces=512)
    assert space.space == "s"
    assert space.directions.shape == (2, 10)
    for attribute in space.attributes:
        assert abs(attribute.slope - 1) < 0.03
        assert attribute.leakage < 0.03
    # Corrections alone would keep the channels of the others' that undo what it drags; cut, it needs few.
    assert (space.directions.abs() > 1e-3 * space.directions.abs().amax(1, keepdim=True)).sum(1).max() < 10


def test_what_cannot_be_read_is_not_corrected():
    plain = labels()
    deaf = dataclasses.replace(plain, read=lambda images: plain.read(images) * torch.tensor([1.0, 1.0, 0.1]))
    first, third = find_directions(Mixed(), deaf, WANTED, faces=512).attributes
    assert abs(first.slope - 1) < 0.03
    assert abs(third.slope - 0.1) < 0.03  # as measured, not stretched tenfold


def test_what_cannot_be_fitted_is_named():
    with pytest.raises(RequestError, match="unknown label 'wit': there are first, second, third"):
        find_directions(Mixed(), labels(), [Wanted("wit", "jokes", "less", "more")])
    with pytest.raises(RequestError, match="faces=11 are too few for the 3 values that are read"):
        find_directions(Mixed(), labels(), WANTED, faces=11)
