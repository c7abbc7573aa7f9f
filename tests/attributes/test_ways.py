"""Directions of a generator whose styles and pictures are linear, so that what is right is known. K directions."""

import pytest
import torch

from sia_gen.attributes.ways.scorer import Scorer, by_scorer, of_target
from sia_gen.attributes.ways.unlabelled import by_contrast, by_sefa
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.seeds import normals
from sia_gen.generators.foreign.stylegan2 import StyleGAN2ADA, StyleGAN2ADAConfig
from sia_gen.targets.module import ModuleTarget
from sia_gen.targets.points import FACE_POINTS
from sia_gen.targets.task import Classification, Detection, MultiLabel, Regression


class Bands:
    """Four numbers of w are how light the four quarters of a picture are; styles weigh them 4, 3, 2 and 1."""

    name, resolution = "bands", 16
    edit_shapes = {"w": torch.Size([2, 4]), "s": torch.Size([8])}  # noqa: RUF012
    weights = torch.tensor([4.0, 3.0, 2.0, 1.0])

    def sample(self, seeds):
        return (0.5 + 0.08 * normals(seeds, (4,), "bands"))[:, None].repeat(1, 2, 1)

    def carry(self, edits):
        return (edits * self.weights).flatten(-2)

    def render(self, codes, edits=None, space=None):
        if edits is not None:
            codes = codes + (edits if space == "w" else (edits.view(len(edits), 2, 4) / self.weights))
        light = codes.mean(dim=1).clamp(0, 1)  # [B, 4]
        return light[:, None, :, None].expand(-1, 3, -1, 64).reshape(len(light), 3, 16, 16)


def quarters(images):
    return images.mean(dim=1).reshape(len(images), 4, 64).mean(dim=2) * 100


PERCENT = Scorer(("a", "b", "c", "d"), ("%",) * 4, quarters)


def test_a_scorer_gives_attributes_in_its_unit_that_move_what_they_name():
    space = by_scorer(Bands(), PERCENT, ["b", "d"], faces=64, trials=16)
    assert space.names == ["b", "d"]
    codes = Bands().sample(range(500, 520))
    before = quarters(Bands().render(codes))
    after = quarters(Bands().render(codes, space.edits(torch.tensor([[5.0, 0.0]]).expand(20, 2)), space.space))
    torch.testing.assert_close((after - before).mean(0), torch.tensor([0.0, 5.0, 0.0, 0.0]), atol=0.4, rtol=0)
    assert [attribute.unit for attribute in space.attributes] == ["%", "%"]
    assert all(abs(attribute.slope - 1) < 0.1 for attribute in space.attributes)
    assert space.attributes[0].sd == pytest.approx(8, abs=1)


class Middle:
    """A generator without w: its middle block's eight numbers are two of each quarter's light."""

    name, resolution = "middle", 16
    edit_shapes = {"h": torch.Size([2, 2, 2])}  # noqa: RUF012

    def sample(self, seeds):
        return 0.5 + 0.08 * normals(seeds, (4,), "middle")

    def semantics(self, codes):
        return codes.repeat(1, 2).view(-1, 2, 2, 2)

    def render(self, codes, edits=None, space=None):
        light = codes if edits is None else codes + edits.flatten(1).view(-1, 2, 4).mean(dim=1)
        return Bands().render(light[:, None].expand(-1, 2, -1))


def test_a_diffusion_models_middle_block_is_read_and_moved():
    space = by_scorer(Middle(), PERCENT, ["a", "c"], faces=64, trials=16)
    assert space.space == "h"
    codes = Middle().sample(range(500, 520))
    before = quarters(Middle().render(codes))
    after = quarters(Middle().render(codes, space.edits(torch.tensor([[0.0, 5.0]]).expand(20, 2)), "h"))
    torch.testing.assert_close((after - before).mean(0), torch.tensor([0.0, 0.0, 5.0, 0.0]), atol=0.4, rtol=0)


def test_sefa_finds_what_styles_move_most_in_their_order():
    space = by_sefa(Bands(), 3)
    assert space.names == ["sefa-1", "sefa-2", "sefa-3"]
    for row, direction in enumerate(space.directions):
        expected = torch.zeros(2, 4)
        expected[:, row] = 0.08  # the faces' own sd
        torch.testing.assert_close(direction, expected, atol=0.01, rtol=0)


def test_sefa_of_a_stylegan_is_the_singular_vectors_of_its_style_matrices():
    torch.manual_seed(0)
    made = StyleGAN2ADA(StyleGAN2ADAConfig(name="tiny", channels=(8, 8), z_dim=6, w_dim=6, mapping=(6, 6))).eval()
    stacked = torch.cat([conv.affine.weight for conv, _ in made.steered()]).double()
    first = torch.linalg.eigh(stacked.T @ stacked).eigenvectors[:, -1].float()
    found = by_sefa(made, 1).directions[0, 0]
    assert abs(torch.nn.functional.cosine_similarity(found, first, dim=0)) > 0.999


def test_what_tells_two_sets_apart_is_a_direction():
    seeds = list(range(400))
    third = Bands().sample(seeds)[:, 0, 2]
    light = [seed for seed in seeds if third[seed] > 0.55]
    dark = [seed for seed in seeds if third[seed] < 0.45]
    space = by_contrast(Bands(), "light third", light, dark)
    assert torch.nn.functional.cosine_similarity(space.directions[0, 0], torch.tensor([0.0, 0, 1, 0]), dim=0) > 0.95


@pytest.mark.parametrize(
    ("task", "names"),
    [
        (Classification(("no", "yes")), ("yes",)),
        (Classification(("a", "b", "c")), ("a", "b", "c")),
        (MultiLabel(("hat", "scarf")), ("hat", "scarf")),
        (Regression(("age",), 5.0), ("age",)),
        (Detection(), ("score",)),
    ],
)
def test_any_target_of_scores_is_a_scorer(task, names):
    count = len(getattr(task, "classes", getattr(task, "labels", getattr(task, "values", (1,)))))

    def answer(images):
        given = quarters(images)[:, :count]
        return given[:, 0] if isinstance(task, Detection) else given

    scorer = of_target(ModuleTarget(answer, task, name="mine"))
    assert scorer.names == names
    images = Bands().render(Bands().sample(range(3)))
    read, given = scorer.read(images), quarters(images)[:, :count]
    assert read.shape == (3, len(names))
    if names == ("yes",):
        torch.testing.assert_close(read[:, 0], given[:, 1] - given[:, 0])
    if len(names) == 3:
        torch.testing.assert_close(read.sigmoid(), given.softmax(1))


def test_what_gives_no_scores_is_refused():
    points = ModuleTarget(lambda images: torch.zeros(len(images), 68, 2), FACE_POINTS, name="points")
    with pytest.raises(RequestError, match="'points' gives no scores"):
        of_target(points)
    with pytest.raises(RequestError, match="unknown score 'e'"):
        by_scorer(Bands(), PERCENT, ["e"])

    def half(images):
        return torch.stack([quarters(images)[:, 0], 0 * images[:, 0, 0, 0]], dim=1)

    still = Scorer(("a", "none"), ("%", ""), half)
    with pytest.raises(WorkError, match="the score 'none' is the same for every face"):
        by_scorer(Bands(), still)
    with pytest.raises(RequestError, match="count=9 is outside 1…4"):
        by_sefa(Bands(), 9)
    with pytest.raises(RequestError, match="1 faces against 2 tell nothing"):
        by_contrast(Bands(), "x", [1], [2, 3])
    with pytest.raises(RequestError, match="none twice"):
        by_contrast(Bands(), "x", [1, 2], [2, 3])
