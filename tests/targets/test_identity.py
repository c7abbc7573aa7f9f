import pytest
import torch

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.targets.identity import load_identity
from sia_gen.targets.load import load_target
from sia_gen.targets.task import Verification


@pytest.fixture
def identity_folder(resnet_folder, edit_config):
    edit_config(resnet_folder, sia_gen={"kind": "identity", "threshold": 0.4})
    return resnet_folder


def test_embeds_on_the_sphere_and_passes_gradients(identity_folder):
    identity = load_identity(identity_folder)
    assert identity.threshold == 0.4
    images = torch.rand(3, 3, 48, 48, generator=torch.Generator().manual_seed(0)).requires_grad_()
    points = identity.embed(images)
    torch.testing.assert_close(points.norm(dim=1), torch.ones(3))
    points[0].sum().backward()
    assert images.grad[0].abs().sum() > 0


def test_a_face_is_most_like_itself(identity_folder):
    identity = load_identity(identity_folder)
    images = torch.rand(3, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(identity.likeness(images, images), torch.ones(3))
    assert (identity.likeness(images, images.flip(0))[[0, 2]] < 1).all()


def test_is_a_target_that_fails_where_the_person_changes(identity_folder):
    target = load_target(identity_folder)
    assert target.task == Verification(target.identity.model.network.config.num_labels, 0.4)
    images = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    points = target.predict(images)
    assert not target.task.failed(points, target.task.decide(points)).any()
    torch.testing.assert_close(
        target.task.output(points, points.flip(0)), target.identity.likeness(images, images.flip(0))
    )


def test_refuses_other_models(resnet_folder, edit_config):
    with pytest.raises(RequestError, match=r"tiny-resnet' is no identity model; train one with 'sia-gen train ident"):
        load_identity(resnet_folder)
    with pytest.raises(RequestError, match=r"^identity model 'json:loads' must be a model folder; see 'sia-gen train"):
        load_identity("json:loads")
    edit_config(resnet_folder, sia_gen={"kind": "identity"})
    with pytest.raises(WorkError, match=r"^the threshold in '.*' is damaged \(KeyError.*\); fetch config.json again$"):
        load_identity(resnet_folder)
