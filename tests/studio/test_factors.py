import pytest
import torch

from sia_gen.core.errors import RequestError
from sia_gen.studio.factors import (
    EDGE,
    FACTORS,
    NAMES,
    FaceSpec,
    values_of,
)
from sia_gen.studio.sampling import Skew, drawn_evenly, sample, sample_latents


@pytest.mark.parametrize("factor", FACTORS, ids=lambda factor: factor.name)
def test_values_stay_in_range_and_come_back_as_latents(factor):
    latents = torch.linspace(-EDGE, EDGE, 61)
    values = factor.value(latents)
    assert factor.low <= values.min()
    assert values.max() <= factor.high
    assert (values.diff() >= 0).all()
    inside = (values > factor.low) & (values < factor.high)
    torch.testing.assert_close(factor.latent(values)[inside], latents[inside], rtol=0, atol=5e-3)


def test_spread_faces_are_even_over_the_box_and_independent():
    spec = sample(range(6000), spread=1.0)
    for index, factor in enumerate(FACTORS):
        low, high = factor.low, factor.high
        if factor.shape == "normal":
            low, high = max(low, factor.mean - 2 * factor.sd), min(high, factor.mean + 2 * factor.sd)
        shares = torch.histc(spec.values[:, index], 5, low, high) / len(spec)
        assert (shares - 0.2).abs().max() < 0.025, factor.name
    correlation = torch.corrcoef(spec.values.T) - torch.eye(len(NAMES))
    assert correlation.abs().max() < 0.06


def share(spec, name, above, where):
    return (spec[name][where] > above).float().mean().item()


def test_people_are_as_a_population_has_them():
    spec = sample(range(4000))
    male, female = spec["sex"] > 0.75, spec["sex"] < 0.25
    age = spec["age"]
    assert (male | female).float().mean() > 0.93
    assert 30 < age.median() < 45
    assert share(spec, "baldness", 0.5, male & (age > 45) & (age < 60)) == pytest.approx(0.36, abs=0.08)
    assert share(spec, "baldness", 0.5, female & (age < 60)) < 0.02
    assert share(spec, "beard", 0.3, male & (age > 25)) == pytest.approx(0.31, abs=0.05)
    assert share(spec, "beard", 0.3, female) < 0.02
    assert share(spec, "glasses", 0.5, age < 30) == pytest.approx(0.2, abs=0.04)
    assert share(spec, "glasses", 0.5, age > 60) == pytest.approx(0.58, abs=0.06)
    assert share(spec, "hair_length", 0.4, female) > 0.6
    assert share(spec, "hair_length", 0.4, male) < 0.06
    together = torch.corrcoef(torch.stack([spec["african"], spec["skin_tone"], spec["hair_colour"], spec["curl"]]))
    assert together[0, 1] < -0.7
    assert together[0, 2] < -0.3
    assert together[0, 3] > 0.3


def test_half_of_a_mixture_is_spread_and_the_rest_are_people():
    mixed, people, spread = (sample(range(400), spread=share) for share in (0.5, 0.0, 1.0))
    even = drawn_evenly(range(400), 0.5)
    assert even.float().mean().item() == pytest.approx(0.5, abs=0.08)
    assert torch.equal(mixed.values, torch.where(even[:, None], spread.values, people.values))


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(RequestError, match=r"spread=.* is outside 0…1; give the share of faces that are spread evenly"):
        sample([0], spread=share)


def test_a_face_is_the_same_however_many_are_drawn():
    alone, among = sample([41]), sample(range(40, 60))
    assert torch.equal(alone.values[0], among.values[1])


@pytest.mark.parametrize(("strength", "sign"), [(0.95, 1), (0.8, -1), (0.5, 1)])
def test_a_skew_plants_its_share(strength, sign):
    latents = sample_latents(range(4000), [Skew("light_azimuth", "smile", strength, sign)])
    light, smile = (latents[:, NAMES.index(name)] > 0 for name in ("light_azimuth", "smile"))
    share = ((light == smile) if sign > 0 else (light != smile)).float().mean().item()
    assert share == pytest.approx(strength, abs=0.02)
    untouched = torch.ones(len(NAMES), dtype=torch.bool)
    untouched[NAMES.index("light_azimuth")] = False
    assert torch.equal(latents[:, untouched], sample_latents(range(4000))[:, untouched])


def test_fixed_factors_are_set():
    spec = sample([0, 1], age=30.0)
    assert spec["age"].tolist() == [30.0, 30.0]
    assert torch.equal(spec.with_values(age=31.0)["yaw"], spec["yaw"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sample([0], yaw=61.0), "yaw=61 is outside -60…60 degrees; choose a value inside"),
        (lambda: sample([0], beauty=1.0), "unknown factor 'beauty': there are age, sex,"),
        (lambda: Skew("yaw", "wit", 0.9), "unknown factor 'wit': there are age, sex,"),
        (lambda: Skew("yaw", "smile", 1.5), "strength=1.5 is outside 0…1; give a probability"),
        (lambda: FaceSpec(torch.zeros(2, 3)), f"face values of shape [2, 3], not [B, {len(FACTORS)}]; see FACTORS"),
        (
            lambda: FaceSpec(values_of(torch.zeros(1, len(FACTORS))).values * torch.nan),
            "age=nan is outside 5…85 years",
        ),
    ],
)
def test_bad_requests_say_what_is_wrong(make, message):
    with pytest.raises(RequestError) as error:
        make()
    assert str(error.value).startswith(message)
