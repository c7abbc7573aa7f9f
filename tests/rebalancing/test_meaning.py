"""Which class is which: by what is told, by names, and refused where neither tells."""

import pytest
import torch

from sia_gen.attributes.load import load_attributes
from sia_gen.core.errors import RequestError
from sia_gen.hardening.labelled import LabelledImages
from sia_gen.rebalancing.meaning import in_order, parted, reader, told_by, told_of
from sia_gen.targets.load import load_target


def images(*classes, labels=(0, 0, 1)):
    return LabelledImages(torch.zeros(len(labels), 3, 2, 2, dtype=torch.uint8), torch.tensor(labels), classes, {})


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("Glasses", "no_glasses"), [1, 0]),
        (("no glasses", "glasses"), [0, 1]),
        (("with", "without"), [0, 1]),
        (("spectacles", "not-spectacles"), [1, 0]),
        (("0", "1"), [0, 1]),
    ],
)
def test_classes_are_counted_from_low_to_high(names, order):
    found = in_order(images(*names), "glasses", (0.5,), known=False)
    if names == ("with", "without"):
        order = [1, 0]
    assert found.classes == tuple(names[index] for index in order)
    assert [names[index] for index in (0, 0, 1)] == [found.classes[label] for label in found.labels]


def test_names_that_do_not_tell_are_asked_for():
    with pytest.raises(RequestError, match="which of the classes a, b is lowest in glasses"):
        in_order(images("a", "b"), "glasses", (0.5,), known=False)
    assert in_order(images("a", "b"), "glasses", (0.5,), known=True).classes == ("a", "b")
    with pytest.raises(RequestError, match=r"has 2 classes \(a, b\) and age 2 cuts"):
        in_order(images("a", "b"), "age", (30, 60), known=True)


def test_bands_of_age_are_known_by_name():
    names = ("age 30…60 years", "age < 30 years", "age ≥ 60 years")
    found = in_order(images(*names, labels=(0, 1, 2)), "age", (30, 60), known=False)
    assert found.classes == ("age < 30 years", "age 30…60 years", "age ≥ 60 years")
    assert found.labels.tolist() == [1, 0, 2]


@pytest.mark.parametrize("text", ["glasses:x", ":0.5", "age:60,30", "age:nan", ""])
def test_cuts_that_are_none_are_refused(text):
    with pytest.raises(RequestError, match="no attribute with rising cuts"):
        parted(text)
    assert parted("age:30,60") == ("age", (30.0, 60.0))


def test_a_class_that_nothing_reads_is_refused():
    space = load_attributes("faces-stylegan2")
    with pytest.raises(RequestError, match="unknown class attribute 'hats'"):
        reader("hats", space, torch.device("cpu"))
    with pytest.raises(RequestError, match="unknown class attribute 'glasses'"):
        reader("glasses", space.without("glasses"), torch.device("cpu"))


def test_a_target_tells_its_classes():
    model = load_target("smile-classifier")
    assert told_by(model, "smile") == (model.task.classes, (0.5,))
    assert told_by(model, "glasses") == (None, (0.5,))
    assert told_by(None, "age") == (None, (45.0,))


def test_what_is_said_of_a_class_with_few_pictures():
    notes = told_of(images("a", "b", "c", labels=(0, 0, 1)))
    assert notes == [
        "class 'b' has a single picture",
        "class 'c' has no picture at all: all that is known of it is generated",
    ]
