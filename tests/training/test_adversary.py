import pytest
import torch
from torch.nn import functional as F

from sia_gen.generators.stylegan2 import StyleGAN2, StyleGAN2Config
from sia_gen.training import adversary
from sia_gen.training.adversary import R1_EVERY, WEIGHT, Discriminator, Rivals
from sia_gen.training.loop import Lessons

CONFIG = StyleGAN2Config(name="tiny", latents=4, width=8, channels=(8, 8, 4))


def draw(step):
    return (torch.randn(4, 4, generator=torch.Generator().manual_seed(step)),)


def pair(network, latents):
    """Four faces of these latents, and striped pictures in their stead."""
    made = network.synthesis(network.mapping(latents)[:, None].expand(-1, CONFIG.layers, -1))
    pictures = latents[:, :3, None, None].sign() * torch.tensor([1.0, -1.0]).repeat(8).expand(len(latents), 3, 16, 16)
    return made, pictures, (made - pictures).abs().mean()


@pytest.fixture
def rivals():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Rivals(StyleGAN2(CONFIG), Discriminator(CONFIG.channels), 4)


def gradients(loss, network):
    return torch.autograd.grad(loss, list(network.parameters()), allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("steep", [False, True])
def test_each_network_is_moved_by_its_own_loss_alone(rivals, steep):
    generator, discriminator = rivals.generator, rivals.discriminator
    made, pictures, paired = pair(generator, *draw(1))
    real = discriminator(pictures.requires_grad_())
    tells = F.softplus(-real).mean() + F.softplus(discriminator(made.detach())).mean()
    if steep:
        steepness = torch.autograd.grad(real.sum(), pictures, create_graph=True)[0].square().sum((1, 2, 3)).mean()
        tells = tells + R1_EVERY * 2e-4 * 16**2 / 4 / 2 * steepness
    wanted = gradients(paired + WEIGHT * F.softplus(-discriminator(made)).mean(), generator)
    for network, expected in ((generator, wanted), (discriminator, gradients(tells, discriminator))):
        for found, right in zip(gradients(rivals(pair, steep, *draw(1)), network), expected, strict=True):
            torch.testing.assert_close(found, right)


def test_a_part_of_a_batch_is_as_steep_as_the_whole(rivals, monkeypatch):
    def only_r1(*drawn):
        parts = [rivals(pair, steep, *drawn) for steep in (True, False)]  # with R1, and without
        return torch.cat([found.flatten() for found in gradients(parts[0] - parts[1], rivals.discriminator)])

    monkeypatch.setattr(adversary, "GROUP", 1)
    (latents,) = draw(0)
    halves = (only_r1(latents[:2]) + only_r1(latents[2:])) / 2
    torch.testing.assert_close(halves, only_r1(latents), rtol=1e-3, atol=1e-6)


def test_a_discriminator_tells_stripes_from_grey_and_sees_how_faces_differ(rivals):
    discriminator = rivals.discriminator
    optimiser = torch.optim.Adam(discriminator.parameters(), lr=1e-2, betas=(0.0, 0.99))
    for step in range(30):
        pictures = pair(rivals.generator, *draw(step))[1]
        loss = (F.softplus(-discriminator(pictures)) + F.softplus(discriminator(0 * pictures))).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    pictures = pair(rivals.generator, *draw(99))[1]
    assert discriminator(pictures).amin() > discriminator(0 * pictures).amax() + 1
    alone, alike = discriminator(pictures[:1]), discriminator(pictures[:1].repeat(4, 1, 1, 1))
    torch.testing.assert_close(alike, alone.repeat(4))
    assert not torch.isclose(discriminator(torch.cat([pictures[:1], -pictures[:3]]))[0], alone[0])


def test_an_interrupted_phase_ends_with_the_same_weights(rivals, tmp_path, monkeypatch):
    def run(folder, steps, progress=None):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            generator = StyleGAN2(CONFIG)
        settings = {"recipe": "adversarial"}
        lessons = Lessons(draw(0), torch.arange(4), lambda random, latents: (latents,), batch=4, seed=0)
        return adversary.sharpen(generator, lessons, pair, folder, steps=steps, settings=settings, progress=progress)

    monkeypatch.setattr("sia_gen.training.loop.SAVE_EVERY", 4)
    folders = [tmp_path / name for name in ("whole", "cut")]
    for folder in folders:
        folder.mkdir()
    whole = run(folders[0], 30)

    def stop(done, total, what):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # at step 25, after the checkpoint of step 24
        run(folders[1], 30, stop)
    cut = run(folders[1], 30)
    for a, b in zip(whole.parameters(), cut.parameters(), strict=True):
        assert torch.equal(a, b)
