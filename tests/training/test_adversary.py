import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sia_gen.generators.stylegan2 import StyleGAN2, StyleGAN2Config
from sia_gen.training.generators import adversary
from sia_gen.training.generators.adversary import R1_EVERY, WEIGHT, Discriminator, Rivals
from sia_gen.training.stepper import Lessons

CONFIG = StyleGAN2Config(name="tiny", latents=4, width=8, channels=(8, 8, 4))


def draw(step):
    """Striped pictures, and the latents of four faces that should look like them."""
    latents = torch.randn(4, 4, generator=torch.Generator().manual_seed(step))
    stripes = torch.tensor([1.0, -1.0]).repeat(8).expand(len(latents), 3, 16, 16)
    return latents[:, :3, None, None].sign() * stripes, latents


class Striped(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = StyleGAN2(CONFIG)

    def forward(self, pictures, latents):
        network = self.generator
        made = network.synthesis(network.mapping(latents)[:, None].expand(-1, CONFIG.layers, -1))
        return made, (made - pictures).abs().mean()


@pytest.fixture
def rivals():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Rivals(Striped(), Discriminator(CONFIG.channels), 4)


def gradients(loss, network):
    return torch.autograd.grad(loss, list(network.parameters()), allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("steep", [False, True])
def test_each_network_is_moved_by_its_own_loss_alone(rivals, steep):
    pairs, discriminator = rivals.pairs, rivals.discriminator
    pictures, latents = draw(1)
    made, paired = pairs(pictures, latents)
    real = discriminator(pictures.requires_grad_())
    tells = F.softplus(-real).mean() + F.softplus(discriminator(made.detach())).mean()
    if steep:
        steepness = torch.autograd.grad(real.sum(), pictures, create_graph=True)[0].square().sum((1, 2, 3)).mean()
        tells = tells + R1_EVERY * 2e-4 * 16**2 / 4 / 2 * steepness
    wanted = gradients(paired + WEIGHT * F.softplus(-discriminator(made)).mean(), pairs)
    for network, expected in ((pairs, wanted), (discriminator, gradients(tells, discriminator))):
        for found, right in zip(gradients(rivals(steep, *draw(1)), network), expected, strict=True):
            torch.testing.assert_close(found, right)


def test_a_part_of_a_batch_is_as_steep_as_the_whole(rivals, monkeypatch):
    def only_r1(*drawn):
        parts = [rivals(steep, *drawn) for steep in (True, False)]
        return torch.cat([found.flatten() for found in gradients(parts[0] - parts[1], rivals.discriminator)])

    monkeypatch.setattr(adversary, "GROUP", 1)
    pictures, latents = draw(0)
    halves = (only_r1(pictures[:2], latents[:2]) + only_r1(pictures[2:], latents[2:])) / 2
    torch.testing.assert_close(halves, only_r1(pictures, latents), rtol=1e-3, atol=1e-6)


def test_a_discriminator_tells_stripes_from_grey_and_sees_how_faces_differ(rivals):
    discriminator = rivals.discriminator
    optimiser = torch.optim.Adam(discriminator.parameters(), lr=1e-2, betas=(0.0, 0.99))
    for step in range(30):
        pictures, _ = draw(step)
        loss = (F.softplus(-discriminator(pictures)) + F.softplus(discriminator(0 * pictures))).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    pictures, _ = draw(99)
    assert discriminator(pictures).amin() > discriminator(0 * pictures).amax() + 1
    alone, alike = discriminator(pictures[:1]), discriminator(pictures[:1].repeat(4, 1, 1, 1))
    torch.testing.assert_close(alike, alone.repeat(4))
    assert not torch.isclose(discriminator(torch.cat([pictures[:1], -pictures[:3]]))[0], alone[0])


def test_an_interrupted_phase_ends_with_the_same_weights(rivals, tmp_path, monkeypatch):
    def run(folder, steps, progress=None):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            pairs = Striped()
        settings = {"recipe": "adversarial"}
        lessons = Lessons(draw(0), torch.arange(4), lambda random, *items: items, batch=4, seed=0)
        return adversary.sharpen(pairs, lessons, folder, steps=steps, settings=settings, progress=progress)

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
