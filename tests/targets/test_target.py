import pytest
import torch

from sia_gen.core.errors import RequestError
from sia_gen.targets.module import ModuleTarget
from sia_gen.targets.target import Label, aim, labelled
from sia_gen.targets.task import Classification, Detection, Regression


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


def test_a_target_is_told_what_it_predicts():
    classes = ModuleTarget(lambda images: images, Classification(("young", "middle", "old")))
    told = labelled(classes, "age:30,60")
    assert told.label == Label("age", (30.0, 60.0))
    assert classes.label is None
    value = ModuleTarget(lambda images: images, Regression(("years",), 5.0))
    assert labelled(value, "age").label == Label("age", ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("age:old", "label age:old is no attribute and thresholds; write it as smile:0.5 or age:30,60"),
        ("age:30", "label age:30 has 1 thresholds, but 'module' needs 2, rising; write it as"),
        ("age:60,30", "label age:60,30 has 2 thresholds, but 'module' needs 2, rising; write it as"),
        (":30,60", "label :30,60 has 2 thresholds, but 'module' needs 2, rising"),
    ],
)
def test_a_label_that_does_not_fit_is_refused(text, message):
    target = ModuleTarget(lambda images: images, Classification(("young", "middle", "old")))
    with pytest.raises(RequestError) as caught:
        labelled(target, text)
    assert str(caught.value).startswith(message)
