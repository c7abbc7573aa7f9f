"""Which class is which: by what is told, by names, and refused where neither tells."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from sia_gen.attributes.load import load_attributes
from sia_gen.audits.evidence import witness
from sia_gen.core.errors import RequestError
from sia_gen.generators.load import load_generator
from sia_gen.hardening.labelled import LabelledImages
from sia_gen.rebalancing.meaning import in_order, parted, reader, same_order, told_by, told_of
from sia_gen.targets.load import load_target
from sia_gen.targets.module import ModuleTarget
from sia_gen.targets.target import Label
from sia_gen.targets.task import Classification
from tests.standins import colours


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
        (("1", "0"), [1, 0]),
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
        reader("hats", space, colours(), torch.device("cpu"))
    with pytest.raises(RequestError, match="unknown class attribute 'glasses'"):
        reader("glasses", space.without("glasses"), colours(), torch.device("cpu"))


def test_a_generator_that_the_verifier_does_not_know_is_refused(monkeypatch):
    generator, space = load_generator("faces-stylegan2"), load_attributes("faces-stylegan2")
    assert reader("glasses", space, generator, torch.device("cpu")).verifier.factors
    monkeypatch.setattr(witness, "taught", lambda generator: False)
    monkeypatch.setattr(witness, "familiar", lambda generator, verifier: 0.1)
    with pytest.raises(RequestError, match="most faces of 'faces-stylegan2' do not look so to it"):
        reader("glasses", space, generator, torch.device("cpu"))


@pytest.mark.parametrize(
    ("its", "message"),
    [
        (("No Glasses", "Glasses"), None),
        (("LABEL_0", "LABEL_1"), None),
        (("without", "with"), None),
        (("Glasses", "No Glasses"), "low to high they are"),
        (("with", "without"), "low to high they are"),
        (("1", "0"), "low to high they are"),
        (("bare", "spectacles"), "is lowest in glasses is not told by their names; give a target of the classes"),
        (("a", "b", "c"), "has 3 classes"),
    ],
)
def test_a_target_that_counts_its_classes_otherwise_is_refused(its, message):
    model = ModuleTarget(torch.nn.Identity(), Classification(its), "net")
    data, label = images("no_glasses", "glasses"), Label("glasses", (0.5,))
    with nullcontext() if message is None else pytest.raises(RequestError, match=message):
        same_order(model, data, label)


def test_a_target_that_says_its_attribute_may_name_its_classes_as_it_likes():
    label = Label("glasses", (0.5,))
    model = ModuleTarget(torch.nn.Identity(), Classification(("bare", "spectacles")), "net", label)
    same_order(model, images("no_glasses", "glasses"), label)
    same_order(replace(model, label=None), images("bare", "spectacles"), label)


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
