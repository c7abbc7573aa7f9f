import pytest
import torch

from sia_gen.core.errors import RequestError
from sia_gen.studio.factors import EDGE, FACTORS, NAMES, FaceSpec, Skew, sample, sample_latents, values_of


@pytest.mark.parametrize("factor", FACTORS, ids=lambda factor: factor.name)
def test_values_stay_in_range_and_come_back_as_latents(factor):
    latents = torch.linspace(-EDGE, EDGE, 61)
    values = factor.value(latents)
    assert factor.low <= values.min()
    assert values.max() <= factor.high
    assert (values.diff() >= 0).all()
    inside = (values > factor.low) & (values < factor.high)
    torch.testing.assert_close(factor.latent(values)[inside], latents[inside], rtol=0, atol=5e-3)


def test_mean_and_sd_are_those_of_the_draws_before_they_are_cut_off():
    values = sample(range(6000)).values
    for index, factor in enumerate(FACTORS):
        drawn = values[:, index]
        if factor.shape == "uniform":
            assert abs(drawn.mean() - factor.mean) < 0.05 * factor.sd, factor.name
            assert abs(drawn.std() / factor.sd - 1) < 0.03, factor.name
            continue
        for quantile, deviations in ((0.1587, -1), (0.5, 0), (0.8413, 1)):
            wanted = min(max(factor.mean + deviations * factor.sd, factor.low), factor.high)
            assert abs(drawn.quantile(quantile) - wanted) < 0.06 * factor.sd, factor.name


def test_a_face_is_the_same_however_many_are_drawn():
    alone, among = sample([41]), sample(range(40, 60))
    assert torch.equal(alone.values[0], among.values[1])


def test_unskewed_factors_do_not_go_together():
    latents = sample_latents(range(4000))
    correlation = torch.corrcoef(latents.T) - torch.eye(len(NAMES))
    assert correlation.abs().max() < 0.07


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
