"""The models of a service are loaded once, whoever asks first."""

import torch

from sia_gen.audits.evidence import witness
from sia_gen.service.models import Models


def test_what_was_looked_at_beside_attacks_is_not_looked_at_again(monkeypatch):
    looked = []

    def unedited(generator, verifier, seed):
        looked.append((generator, seed))
        return torch.rand(8, 4, generator=torch.Generator().manual_seed(seed))

    monkeypatch.setattr(witness, "unedited", unedited)
    models = Models()
    models.look("faces-stylegan2", "smile-classifier")
    attacker = models.attacker("faces-stylegan2", "sex-classifier")
    assert attacker.gate.features.shape == (8, 4)
    ((generator, _),) = looked
    assert generator is not attacker.generator


def test_attackers_share_one_studio():
    models = Models()
    first, second = (models.attacker("faces-stylegan2", f"{name}-classifier") for name in ("smile", "sex"))
    assert first.rendered.rendered is second.rendered.rendered
    assert first.rendered.target is not second.rendered.target
