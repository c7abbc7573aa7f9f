"""B images."""

import math
from threading import Event

import numpy as np
import pytest
import torch
from torch import nn

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.targets.module import ModuleTarget, infer
from sia_gen.targets.points import Keypoints
from sia_gen.targets.target import Target
from sia_gen.targets.task import Classification, Regression


class Net(nn.Sequential):
    """Takes images of one size only, as many face networks do."""

    def __init__(self, side=112, outputs=3):
        super().__init__(nn.Flatten(), nn.BatchNorm1d(3 * side * side), nn.Linear(3 * side * side, outputs))


def test_a_module_runs_frozen_and_comes_out_as_it_was():
    net = Net(side=8).train()
    target = ModuleTarget(net, Classification(("a", "b", "c")), name="net")
    statistics = net[1].running_mean.clone()
    images = torch.rand(4, 3, 8, 8, requires_grad=True)
    target.predict(images).sum().backward()
    assert isinstance(target, Target)
    assert images.grad is not None
    assert net.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    assert torch.equal(net[1].running_mean, statistics)


def test_a_function_is_a_target_too():
    target = ModuleTarget(lambda images: images.mean(dim=(2, 3)), Regression(("r", "g", "b"), tolerance=0.1))
    assert target.predict(torch.full((2, 3, 4, 4), 0.25)).tolist() == [[0.25] * 3] * 2


def test_a_black_box_may_answer_in_numpy_and_takes_no_gradient():
    asked = []

    def box(images):
        asked.append(images.requires_grad)
        return images.mean(dim=(2, 3)).numpy()

    target = ModuleTarget(box, Regression(("r", "g", "b"), tolerance=0.1), differentiable=False)
    given = target.predict(torch.full((2, 3, 4, 4), 0.25, requires_grad=True))
    assert given.tolist() == [[0.25] * 3] * 2
    assert asked == [False]
    kept = np.full((2, 3), 0.5)
    target = ModuleTarget(lambda images: kept, target.task, differentiable=False)
    given = target.predict(torch.zeros(2, 3, 4, 4))
    kept[:] = 0
    assert given.dtype == torch.float32
    assert given.tolist() == [[0.5] * 3] * 2


def test_a_timed_black_box_of_torch_needs_no_gradient():
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).eval()
    box = ModuleTarget(lambda images: net(images).numpy(), Classification(("a", "b")), differentiable=False, timeout=30)
    with torch.no_grad():
        assert box.predict(torch.rand(2, 3, 4, 4)).shape == (2, 2)


def test_a_black_box_that_hangs_is_given_up():
    release = Event()
    task = Classification(("a", "b"))
    target = ModuleTarget(lambda images: release.wait(60), task, differentiable=False, timeout=0.1)
    with pytest.raises(WorkError, match=r"gave no answer on 2 images within 0.1 s; mend it or give it more time"):
        target.predict(torch.rand(2, 3, 4, 4))
    release.set()
    quick = ModuleTarget(lambda images: [[0.0, 1.0]] * len(images), task, differentiable=False, timeout=30)
    assert quick.predict(torch.rand(2, 3, 4, 4)).tolist() == [[0.0, 1.0]] * 2


def test_what_a_timed_black_box_raises_is_raised():
    def crash(images):
        raise ValueError("on the 900th face")

    target = ModuleTarget(crash, Classification(("a", "b")), differentiable=False, timeout=30)
    with pytest.raises(ValueError, match="on the 900th face"):
        target.predict(torch.rand(2, 3, 4, 4))


@pytest.mark.parametrize(("timeout", "differentiable"), [(0, False), (math.nan, False), (math.inf, False), (5, True)])
def test_a_timeout_is_for_black_boxes(timeout, differentiable):
    with pytest.raises(RequestError, match="give a time above 0, and only to a target with differentiable=False"):
        ModuleTarget(lambda x: x, Classification(("a", "b")), differentiable=differentiable, timeout=timeout)


def test_infers_classes_from_the_output():
    assert infer(Net(side=112), "net").task == Classification(("class 0", "class 1", "class 2"))


def test_infers_classes_from_a_config(resnet_folder):
    from transformers import AutoModelForImageClassification

    network = AutoModelForImageClassification.from_pretrained(resnet_folder)
    assert infer(network, "net").task == Classification(("neutral", "smile"))
    assert ModuleTarget(network, Classification(("neutral", "smile"))).predict(torch.rand(2, 3, 32, 32)).shape == (2, 2)


class Broken(nn.Module):
    def forward(self, images):
        raise ZeroDivisionError("by nothing")


class Sum(nn.Module):
    def forward(self, images):
        return images.sum()


@pytest.mark.parametrize(
    ("module", "given"),
    [
        (nn.Identity(), "shape [2, 3, 64, 64] at 64 px, not logits"),
        (Sum(), "shape [] at 64 px, not logits"),
    ],
    ids=["image", "sum"],
)
def test_says_what_it_was_given_when_it_cannot_tell(module, given):
    with pytest.raises(RequestError) as error:
        infer(module, "net")
    assert str(error.value).startswith(f"'net' gives {given}")
    assert str(error.value).endswith(
        ", not logits [B] or [B, C], for images [2, 3, H, W]; "
        "return logits, or a target (sia_gen.targets.module.ModuleTarget) with its own task"
    )


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Net(side=7), "RuntimeError (running_mean should contain 12288 elements not 147) at 64 px"),
        (Broken(), "ZeroDivisionError (by nothing) at 64 px"),
    ],
    ids=["side 7", "raises"],
)
def test_a_module_that_raises_is_said_to_fail(module, said):
    with pytest.raises(WorkError) as error:
        infer(module, "net")
    assert str(error.value).startswith(f"target 'net' fails with {said}, and at every other side that was tried; ")


@pytest.mark.parametrize("squeeze", [False, True])
def test_one_logit_is_that_of_the_second_class(squeeze):
    net = Net(side=64, outputs=1).eval()
    module = nn.Sequential(net, nn.Flatten(0)) if squeeze else net
    task = infer(module, "net").task
    assert task == Classification(("class 0", "class 1"))
    images = torch.rand(3, 3, 64, 64)
    logits = ModuleTarget(module, task).predict(images)
    torch.testing.assert_close(logits.softmax(1)[:, 1], net(images).sigmoid()[:, 0])


def test_heat_maps_are_read_as_points():
    middles = (torch.arange(16) + 0.5) / 16

    def maps(images):
        x, y = torch.tensor([0.3, 0.7]), torch.tensor([0.6, 0.4])
        across = (-0.5 * ((middles - x[:, None]) * 8).square()).exp()
        down = (-0.5 * ((middles - y[:, None]) * 8).square()).exp()
        return (down[:, :, None] * across[:, None, :]).expand(len(images), -1, -1, -1)

    target = ModuleTarget(maps, Keypoints(2, (0, 1)))
    points = target.predict(torch.rand(3, 3, 32, 32))
    torch.testing.assert_close(points[0], torch.tensor([[0.3, 0.6], [0.7, 0.4]]), rtol=0, atol=0.003)
    target.task.check(points, 3)
