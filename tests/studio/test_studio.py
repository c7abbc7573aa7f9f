import math

import pytest
import torch

from sia_gen.core.errors import RequestError
from sia_gen.core.images import to_bytes
from sia_gen.studio.camera import blurred, compressed, encode, tone
from sia_gen.studio.factors import AGEING, FACTORS, MIRRORED, FaceSpec, values_of
from sia_gen.studio.landmarks import in_a_mirror
from sia_gen.studio.light import light_direction
from sia_gen.studio.sampling import sample
from sia_gen.studio.studio import Studio, rotation
from sia_gen.studio.surface.appearance import lab_to_linear, skin_colour


@pytest.fixture(scope="module")
def plain():
    """One middling face, looking straight ahead; nothing is compressed, which would spread every change."""
    return values_of(torch.zeros(1, len(FACTORS))).with_values(compression=0.0)


def test_pictures_and_landmarks_have_their_shapes(studio):
    renders = studio.render(sample(range(3)))
    assert renders.images.shape == (3, 3, 32, 32)
    assert renders.landmarks.shape == (3, 68, 2)
    assert renders.visible.shape == (3, 68)
    assert renders.visible.dtype == torch.bool
    assert 0 <= renders.images.min() <= renders.images.max() <= 1


def test_a_face_does_not_depend_on_its_batch(studio):
    together = studio.render(sample(range(7)))
    for seed in (0, 3, 6):
        alone = studio.render(sample([seed]))
        difference = to_bytes(together.images[seed]).int() - to_bytes(alone.images[0]).int()
        assert difference.abs().max() <= 1
        torch.testing.assert_close(together.landmarks[seed], alone.landmarks[0], rtol=0, atol=1e-4)


def test_the_face_fills_the_picture_as_in_ffhq(studio, plain):
    points = studio.render(plain).landmarks[0] / studio.resolution
    eyes, chin = points[36:48].mean(0), points[8]
    assert eyes[0].item() == pytest.approx(0.5, abs=0.01)
    assert 0.38 < eyes[1] < 0.48
    assert 0.88 < chin[1] < 1.0
    assert points[16, 0] - points[0, 0] > 0.5


def test_each_landmark_has_a_vertex_of_its_own(studio):
    assert len(studio.landmarks.unique()) == 68


def test_landmarks_follow_ibug_order(studio, plain):
    x, y = studio.render(plain).landmarks[0].T
    assert (x[:17].diff() > 0).all()  # jaw from image left to right
    assert y[:17].argmax() == 8
    assert (x[17:27].diff() > 0).all()  # brows
    assert (y[27:31].diff() > 0).all()  # bridge downwards
    assert x[36] < x[39] < x[42] < x[45]  # eye corners
    assert (y[[37, 44]] < y[[41, 46]]).all()  # lids
    assert x[48] < x[54]  # mouth corners
    assert y[51] < y[57]  # upper and lower lip
    assert y[19] < y[37] < y[30] < y[51] < y[8]


@pytest.mark.parametrize(
    ("factor", "sign", "what"),
    [
        ("yaw", 1, lambda points: points[30, 0]),  # the nose tip goes to image right
        ("pitch", -1, lambda points: points[30, 1]),  # … up
        ("roll", 1, lambda points: points[45, 1] - points[36, 1]),  # image right goes down
        ("smile", -1, lambda points: points[[48, 54], 1].mean()),  # the corners rise
        ("smile", 1, lambda points: points[54, 0] - points[48, 0]),  # … and part
        ("mouth_open", 1, lambda points: (points[[67, 66, 65], 1] - points[[61, 62, 63], 1]).min()),
        ("weight", 1, lambda points: points[11, 0] - points[5, 0]),  # the jaw widens
        ("sex", 1, lambda points: points[11, 0] - points[5, 0]),
        ("brow_raise", -1, lambda points: points[17:27, 1].mean()),
        ("eye_closure", -1, lambda points: (points[[40, 41], 1] - points[[37, 38], 1]).mean()),
    ],
)
def test_a_factor_moves_the_landmarks_it_should(studio, plain, factor, sign, what):
    entry = next(entry for entry in FACTORS if entry.name == factor)
    low, high = (plain.with_values(**{factor: value}) for value in (entry.low, entry.high))
    assert sign * (what(studio.render(high).landmarks[0]) - what(studio.render(low).landmarks[0])) > 0.2  # pixels of 32


def test_what_the_head_or_the_frame_hides_is_not_visible(studio, plain):
    short = plain.with_values(hair_length=0.0)
    assert studio.render(short).visible[0, 17:].all()  # all but the jaw, whose ends lie at the ears
    turned = studio.render(short.with_values(yaw=60.0)).visible[0]
    assert turned[[36, 37, 38, 39, 31]].sum() + turned[0:6].sum() >= 8  # the near side
    assert not turned[[12, 13, 14, 15, 16, 45]].any()  # the far side
    mirrored = studio.render(short.with_values(yaw=-60.0)).visible[0]
    assert not mirrored[[0, 1, 2, 3, 4, 36]].any()


@pytest.mark.parametrize(("factor", "brighter"), [("light_azimuth", "right"), ("light_elevation", "top")])
def test_light_comes_from_where_it_should(studio, plain, factor, brighter):
    entry = next(entry for entry in FACTORS if entry.name == factor)
    at_high = studio.render(plain.with_values(**{factor: entry.high})).images[0].mean(0)
    at_low = studio.render(plain.with_values(**{factor: entry.low})).images[0].mean(0)
    change = (at_high - at_low)[8:28, 8:24]  # the face
    near, far = (change[:, 8:], change[:, :8]) if brighter == "right" else (change[:10], change[10:])
    assert near.mean() - far.mean() > 0.05


@pytest.mark.parametrize("factor", ["skin_tone", "light_strength", "ambient_strength", "hair_colour"])
def test_more_of_it_is_brighter(studio, plain, factor):
    entry = next(entry for entry in FACTORS if entry.name == factor)
    low, high = (studio.render(plain.with_values(**{factor: value})).images for value in (entry.low, entry.high))
    assert high.mean() - low.mean() > 0.01


def test_long_hair_hangs_beside_the_face_and_not_over_it(studio, plain):
    short, long = (studio.render(plain.with_values(hair_length=value)).images[0] for value in (0.0, 1.0))
    change = (long - short).abs().mean(0)
    assert change[22:30, 4:9].mean() > 0.05  # beside the neck
    assert change[12:24, 12:20].mean() < 0.01  # nose and mouth


def test_every_factor_changes_the_picture(studio, plain):
    # A bare chin would hide stubble, and noise, which every factor shifts, that something else changed nothing.
    base = plain.with_values(sex=0.9, age=30.0, hair_volume=0.6, glasses=0.6, noise=0.0)
    for entry in FACTORS:
        fitting = {"hair_sides": {"hair_length": 0.15}, "tied": {"hair_length": 0.8}, "beard_length": {"beard": 0.8}}
        fitting["skin_pattern"] = {"age": 80.0, "freckles": 1.0}
        shown = base.with_values(**fitting.get(entry.name, {"age": 65.0} if entry.name in AGEING else {}))
        low, high = (
            studio.render(shown.with_values(**{entry.name: value})).images for value in (entry.low, entry.high)
        )
        assert (high - low).abs().max() > (0.001 if entry.name == "blur" else 0.02), entry.name  # at 32 px


def test_rotations_are_proper_and_signed():
    spec = values_of(torch.zeros(1, len(FACTORS)))
    turn = rotation(sample(range(20)))
    torch.testing.assert_close(turn @ turn.transpose(1, 2), torch.eye(3).expand(20, -1, -1), rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(20))
    forward = torch.tensor([0.0, 0.0, 1.0])
    half = math.sqrt(0.5)
    yawed = rotation(spec.with_values(yaw=45.0))[0] @ forward
    torch.testing.assert_close(yawed, torch.tensor([half, 0.0, half]))
    pitched = rotation(spec.with_values(pitch=25.0))[0] @ forward
    assert pitched[1] > 0.4
    light = light_direction(spec.with_values(light_azimuth=90.0, light_elevation=0.0))[0]
    torch.testing.assert_close(light, torch.tensor([1.0, 0.0, 0.0]), rtol=0, atol=1e-6)


def test_skin_has_the_angle_it_is_named_after():
    ita = torch.tensor([-40.0, 0.0, 30.0, 50.0])
    xyz_of_rgb = torch.linalg.inv(
        torch.tensor([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.204, 1.057]])
    )
    scaled = (skin_colour(ita) @ xyz_of_rgb.T / torch.tensor([0.95047, 1.0, 1.08883])) ** (1 / 3)
    lightness, b = 116 * scaled[:, 1] - 16, 200 * (scaled[:, 1] - scaled[:, 2])
    torch.testing.assert_close(torch.rad2deg(torch.atan((lightness - 50) / b)), ita, rtol=0, atol=0.1)


def test_lab_white_and_srgb_grey_are_exact():
    torch.testing.assert_close(lab_to_linear(torch.tensor([100.0, 0.0, 0.0])), torch.ones(3), rtol=0, atol=2e-3)
    assert encode(torch.tensor(0.2140411)).item() == pytest.approx(0.5, abs=1e-5)
    radiance = torch.linspace(0, 20, 200)
    assert (tone(radiance).diff() >= 0).all()
    assert tone(torch.tensor([0.0, 1e6])).tolist() == [0.0, 1.0]


def test_a_resolution_outside_the_range_is_refused(makehuman):
    with pytest.raises(RequestError) as error:
        Studio(makehuman, resolution=8)
    assert str(error.value) == "resolution=8 is outside 16…512 pixels; choose a size in that range"


def test_a_mirrored_picture_is_that_of_mirrored_factors(studio, plain):
    turned = plain.with_values(yaw=25.0, roll=5.0, light_azimuth=50.0, parting=0.7, background_scene=1.0, noise=0.0)
    turned = turned.with_values(background_shift=0.6, background_slope=0.5, gaze_x=15.0)
    mirrored = turned.with_values(**{name: -turned[name] for name in MIRRORED})
    here, there = studio.render(turned), studio.render(mirrored)
    assert (here.images - there.images.flip(3)).abs().mean() < 0.02  # skin and strands have no mirror
    assert (here.images - there.images).abs().mean() > 0.1
    points = in_a_mirror(there.landmarks / studio.resolution)
    assert (points - here.landmarks / studio.resolution).abs().max() < 0.02


def test_glasses_are_worn_before_the_eyes_and_dark_ones_hide_them(studio, plain):
    bare, clear, dark = (
        studio.render(plain.with_values(noise=0.0, glasses=worn, lens_tint=tint)).images[0]
        for worn, tint in ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))
    )
    change = (dark - bare).abs().mean(0)
    assert change[12:17, 8:24].mean() > 0.15  # the eyes
    assert change[22:].max() < 0.02  # the mouth and below
    seen = [
        studio.render(plain.with_values(glasses=1.0, lens_tint=tint, fringe=0.0)).visible[0, 36:48].sum()
        for tint in (0.0, 1.0)
    ]
    assert seen[0] > 8
    assert seen[1] == 0
    assert (clear - bare).abs().mean(0)[12:17, 8:24].mean() < 0.5 * change[12:17, 8:24].mean()


def test_a_beard_is_worn_by_grown_men_alone(studio, plain):
    def change(**who):
        made = [studio.render(plain.with_values(beard=value, noise=0.0, **who)).images for value in (0.0, 1.0)]
        return (made[1] - made[0]).abs().max().item()

    assert change(sex=0.95, age=40.0) > 0.1
    assert change(sex=0.05, age=40.0) == 0
    assert change(sex=0.95, age=8.0) == 0


def test_the_face_stays_as_large_from_any_distance(studio, plain):
    near, far = (studio.render(plain.with_values(camera_distance=metres)).landmarks[0] for metres in (0.4, 1.6))
    apart = [points[45, 0] - points[36, 0] for points in (near, far)]
    assert 0.95 < apart[0] / apart[1] < 1.15
    assert near[16, 0] - near[0, 0] < far[16, 0] - far[0, 0]  # ears recede from a near camera


def test_noise_and_blur_are_as_strong_as_they_say(studio, plain):
    quiet, noisy = (studio.render(plain.with_values(noise=level, blur=0.0)).images for level in (0.0, 8.0))
    inside = (quiet > 0.1) & (quiet < 0.9)
    assert (noisy - quiet)[inside].std().item() * 255 == pytest.approx(8, rel=0.1)
    point = torch.zeros(1, 3, 101, 101)
    point[:, :, 50, 50] = 1
    spread = blurred(point, plain.with_values(blur=0.8))[0, 0]
    steps = torch.arange(101) - 50.0
    assert spread.sum().item() == pytest.approx(1, abs=1e-4)
    assert (spread.sum(0) * steps.square()).sum().sqrt().item() == pytest.approx(0.808, rel=0.05)


def test_a_hollow_is_darker_than_a_bump(studio):
    seen = studio.masks[:, 4]
    assert 0 <= seen.min() <= seen.max() <= 1
    assert seen[studio.landmarks[30]] > 0.6  # the tip of the nose
    assert seen[studio.landmarks[33]] < seen[studio.landmarks[30]] - 0.1  # and below it


def test_compression_leaves_blocks_and_none_leaves_all(plain):
    spec = values_of(torch.zeros(2, len(FACTORS))).with_values(compression=torch.tensor([0.0, 1.0]))
    ramp = torch.linspace(0.45, 0.55, 20)[:, None].expand(2, 3, 20, 20)
    same, coarse = compressed(ramp, spec)
    assert torch.equal(same, ramp[0])
    assert (coarse - ramp[1]).abs().max() > 0.005
    jumps = coarse.diff(dim=1).abs().mean((0, 2))
    assert jumps[7] > 2 * jumps[1:6].mean()  # between two blocks
    assert torch.equal(compressed(ramp[1:], FaceSpec(spec.values[1:]))[0], coarse)


def test_a_soft_lamp_leaves_paler_shadows(studio, plain):
    lit = plain.with_values(light_azimuth=80.0, light_elevation=0.0, ambient_strength=-1.0)
    darkest = [
        studio.render(lit.with_values(light_softness=value)).images[0].mean(0)[8:26, 8:24].quantile(0.1).item()
        for value in (0.0, 0.5, 1.0)
    ]
    assert darkest[0] < darkest[1] < darkest[2]
