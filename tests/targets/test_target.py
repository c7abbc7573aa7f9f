import pytest
import torch

from sia_gen.core.errors import RequestError
from sia_gen.targets.module import ModuleTarget
from sia_gen.targets.target import aim
from sia_gen.targets.task import Classification, Detection


def test_a_classifier_is_aimed_at_a_class_and_stays_as_it_was():
    target = ModuleTarget(lambda images: images.mean(dim=(2, 3)), Classification(("a", "b", "c")))
    aimed = aim(target, "b")
    assert aimed.task == Classification(("a", "b", "c"), towards="b")
    assert target.task.towards is None
    images = torch.rand(2, 3, 4, 4)
    assert torch.equal(aimed.predict(images), target.predict(images))


def test_there_is_nothing_to_aim_at_without_classes():
    with pytest.raises(RequestError, match=r"^'module' has no classes, so nothing to be driven towards; leave"):
        aim(ModuleTarget(lambda images: images, Detection()), "b")
    with pytest.raises(RequestError, match=r"^unknown class 'd': there are a, b"):
        aim(ModuleTarget(lambda images: images, Classification(("a", "b"))), "d")
