import torch

from sia_gen.studio.raster import rasterise

# Two overlapping squares of two triangles each, counter-clockwise seen from the camera (y points down in the picture).
CORNERS = torch.tensor(
    [[1.0, 1.0], [1.0, 7.0], [7.0, 7.0], [7.0, 1.0], [4.0, 4.0], [4.0, 10.0], [10.0, 10.0], [10.0, 4.0]]
)
TRIANGLES = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])


def draw(points, depth, triangles, side):
    return rasterise(points[..., 0], points[..., 1], depth, triangles, side)


def squares(first: float, second: float):
    depth = torch.tensor([[first] * 4 + [second] * 4])
    return draw(CORNERS[None], depth, TRIANGLES, 12)


def test_covers_exactly_the_pixels_whose_centres_lie_inside():
    seen = squares(2.0, 3.0)
    picture = torch.zeros(144, dtype=torch.bool)
    picture[seen.pixel] = True
    wanted = torch.zeros(12, 12, dtype=torch.bool)
    wanted[1:7, 1:7] = True
    wanted[4:10, 4:10] = True
    assert torch.equal(picture.view(12, 12), wanted)


def test_the_nearer_square_wins_whichever_comes_first():
    for first, second in ((2.0, 3.0), (3.0, 2.0)):
        depth = squares(first, second).depth[0]
        assert depth[5, 5] == 2.0
        assert depth[2, 2] == first
        assert depth[8, 8] == second
        assert torch.isinf(depth[0, 0])


def test_triangles_seen_from_behind_are_not_drawn():
    seen = draw(CORNERS[None], torch.ones(1, 8), TRIANGLES.flip(1), 12)
    assert len(seen.pixel) == 0


def test_weights_interpolate_positions():
    seen = squares(2.0, 3.0)
    at = seen.interpolate(CORNERS[None])
    centres = torch.stack([seen.pixel % 12 + 0.5, seen.pixel // 12 + 0.5])
    torch.testing.assert_close(at, centres)


def test_a_picture_does_not_depend_on_its_batch():
    depth = torch.tensor([[2.0] * 4 + [3.0] * 4, [3.0] * 4 + [2.0] * 4])
    both = draw(CORNERS.expand(2, -1, -1), depth, TRIANGLES, 12)
    alone = squares(3.0, 2.0)
    second = both.face == 1
    assert torch.equal(both.pixel[second] - 144, alone.pixel)
    assert torch.equal(both.corners[second], alone.corners)
    assert torch.equal(both.weights[second], alone.weights)


def test_what_lies_outside_the_picture_is_clipped():
    seen = draw(CORNERS[None] - 4.0, torch.ones(1, 8), TRIANGLES, 4)
    assert len(seen.pixel) == 16
