from dataclasses import replace

import pytest
import torch

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.targets.verifier import Factor, load_verifier


def test_reads_in_units(verifier_folder):
    verifier = load_verifier(verifier_folder)
    images = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    values = verifier.read(images)  # [2, 3]
    assert verifier.factors[0] == Factor("age", "years", 40.0, 18.0)
    torch.testing.assert_close(values[:, 0], 40 + 18 * verifier.model(images)[:, 0])
    torch.testing.assert_close(values[:, 2], 0.4 + 0.25 * verifier.model(images)[:, 2])


def test_passes_gradients(verifier_folder):
    images = torch.full((1, 3, 48, 48), 0.5).requires_grad_()
    load_verifier(verifier_folder).read(images)[0, 1].backward()
    assert images.grad.abs().sum() > 0


def test_one_look_reads_and_gives_features(verifier_folder):
    verifier = load_verifier(verifier_folder)
    images = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    values, features = verifier.look(images)
    torch.testing.assert_close(values, verifier.read(images))
    assert features.shape[0] == 2
    assert features.std(dim=0).max() > 0


def test_its_digest_tells_other_weights_and_factors(verifier_folder):
    first, same = load_verifier(verifier_folder), load_verifier(verifier_folder)
    assert first.digest() == same.digest()
    next(same.model.network.parameters()).add_(1e-3)
    assert first.digest() != same.digest()
    assert first.digest() != replace(first, factors=first.factors[::-1]).digest()


def test_refuses_other_models(resnet_folder, verifier_folder, edit_config):
    with pytest.raises(RequestError, match=r"tiny-resnet' is no verifier; train one with 'sia-gen train verifier'$"):
        load_verifier(resnet_folder)
    with pytest.raises(RequestError, match=r"^verifier 'json:loads' must be a model folder; see 'sia-gen train verif"):
        load_verifier("json:loads")
    edit_config(verifier_folder, sia_gen={"kind": "verifier", "factors": [{"name": "age"}] * 3})
    with pytest.raises(WorkError, match=r"^the factors in '.*' are damaged \(TypeError.*\); fetch config.json again$"):
        load_verifier(verifier_folder)
    edit_config(verifier_folder, sia_gen={"kind": "verifier", "factors": []})
    with pytest.raises(
        WorkError, match=r"^'.*' names 0 factors and coordinates for 3 outputs; fetch config.json again$"
    ):
        load_verifier(verifier_folder)
