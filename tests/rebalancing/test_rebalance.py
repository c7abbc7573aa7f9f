"""Rebalancing end to end: on stand-ins for what generates, and once on shipped models."""

import json
from collections import Counter
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from sia_gen import ModuleTarget, load_target, rebalance
from sia_gen.core.errors import RequestError
from sia_gen.core.files import pretrained_folder, read_tensors
from sia_gen.core.images import to_pil
from sia_gen.rebalancing import rebalance as module
from sia_gen.rebalancing.faces_folder import PARTS, Faces
from sia_gen.rebalancing.measures import compared, held_out
from sia_gen.rebalancing.rare_faces import RareFaces
from sia_gen.rebalancing.rebalance import FACES, MODEL, RESULT
from sia_gen.rebalancing.remedies import RebalancingSettings
from sia_gen.studio.renders import read_renders, shipped_renders
from sia_gen.targets.task import Classification, Regression

SMALL = RebalancingSettings(faces=12, rounds=2, steps=30, batch=8, rate=0.1)
CLASSES = Classification(("no glasses", "glasses"))


class Net(nn.Module):
    """Reads brightness."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.out = nn.Linear(3, 2)

    def forward(self, images):
        return self.out(images.mean((2, 3)))


def folder(place, dark=40, bright=4):
    """Pictures of which those "with glasses" are bright, in a folder for each class."""
    random = torch.Generator().manual_seed(0)
    for name, count, level in (("no glasses", dark, 60), ("glasses", bright, 180)):
        (place / name).mkdir(parents=True)
        for index in range(count):
            value = level + int(torch.randint(-30, 30, (), generator=random))
            to_pil(torch.full((3, 8, 8), value, dtype=torch.uint8)).save(place / name / f"{index}.png")
    return place


@pytest.fixture
def flat(monkeypatch):
    """Faces are flat pictures; gives what was asked for, and against which model."""
    asked = []

    class Source:
        meant, space, alike = None, None, 0.7

    def of(generator, space, verified, meant, attack, identity):
        source = Source()
        source.meant, source.space = meant, space
        return source

    def fill(place, source, plan, hard, target, told, *, round_number, seed, before, progress):
        said = None if target is None else target.predict(torch.full((1, 3, 8, 8), 0.7)).detach()
        asked.append((dict(plan), hard, round_number, said))
        labels = torch.tensor([number for number, count in plan.items() for _ in range(count)], dtype=torch.int64)
        pictures = torch.where(labels == 1, 180, 60).view(-1, 1, 1, 1).expand(-1, 3, 128, 128).to(torch.uint8)
        rows = [
            {"file_name": f"{round_number}-{index}", "label": int(k), "hard": False} for index, k in enumerate(labels)
        ]
        place.mkdir(parents=True, exist_ok=True)
        return Faces(pictures, labels, rows, Counter({"no likely face": 1}), 1.0), torch.empty(0, 64)

    monkeypatch.setattr(RareFaces, "of", of)
    monkeypatch.setattr(module, "fill", fill)
    monkeypatch.setattr(module, "shipped_renders", lambda: None)
    return asked


def test_a_model_learns_from_data_and_faces(flat, tmp_path):
    target = ModuleTarget(Net(), CLASSES, "net")
    given = {"target": target, "by": "sia-semantic", "settings": SMALL}
    found = rebalance(folder(tmp_path / "data", bright=5), "glasses", tmp_path / "out", **given)
    assert (found.counts, found.added) == ([40, 5], [12, 12])
    assert [asked[:3] for asked in flat] == [({0: 6, 1: 6}, "semantic", number) for number in (0, 1)]
    assert not torch.equal(flat[0][3], flat[1][3])  # the second round's faces are for what the first one taught
    figures = found.figures["held out"]
    assert (figures["before"]["pictures"], figures["after"]["balanced"]) == (9, 1.0)
    assert figures["before"]["balanced"] == 0.5
    again = rebalance(tmp_path / "data", "glasses", tmp_path / "out", **given)
    assert len(flat) == 2  # what is finished is read again
    pictures = torch.rand(3, 3, 8, 8)
    torch.testing.assert_close(again.target.predict(pictures), found.target.predict(pictures))
    assert set(read_tensors(tmp_path / "out" / MODEL / "model.safetensors")[0]) == {"out.weight", "out.bias"}
    rows = pq.read_table(tmp_path / "out" / FACES / "metadata.parquet").to_pylist()
    assert sorted(row["label"] for row in rows) == [0] * 12 + [1] * 12
    assert json.loads((tmp_path / "out" / RESULT).read_text())["refused"] == {"no likely face": 2}
    card = (tmp_path / "out" / MODEL / "README.md").read_text()
    assert "'no glasses' read right (of 8)" in card
    assert "'glasses' read right (of 1)" in card
    del figures["before"]["sizes"]  # as an older version wrote it
    older = compared(CLASSES.classes, figures["before"], figures["after"])
    assert "'no glasses' read right" in [words for words, _, _ in older]
    assert "Net(" not in repr(found)
    assert "| glasses | 5 | 12 |" in card
    assert "| balanced accuracy | 0.5 | 1.0 |" in card
    assert "$" not in card
    assert torch.equal(target.module.out.weight, Net().out.weight)  # the target itself is left as it was


def test_what_was_stopped_goes_on_to_the_same_weights(flat, tmp_path, monkeypatch):
    target = ModuleTarget(Net(), CLASSES, "net")
    data = folder(tmp_path / "data")
    whole = rebalance(data, "glasses", tmp_path / "whole", target=target, settings=SMALL)
    plain, count = module.teach, [0]

    def stopping(*given, **options):
        count[0] += 1
        if count[0] == 2:
            raise KeyboardInterrupt
        return plain(*given, **options)

    monkeypatch.setattr(module, "teach", stopping)
    with pytest.raises(KeyboardInterrupt):
        rebalance(data, "glasses", tmp_path / "out", target=target, settings=SMALL)
    found = rebalance(data, "glasses", tmp_path / "out", target=target, settings=SMALL)
    assert count[0] == 3  # the first round was kept
    assert {asked[1] for asked in flat} == {"generated"}  # the default
    assert "no face was made hard for a model" in (whole.folder / FACES / "README.md").read_text()
    pictures = torch.rand(3, 3, 8, 8)
    assert torch.equal(found.target.predict(pictures), whole.target.predict(pictures))


def test_without_a_target_faces_are_only_written(flat, tmp_path):
    found = rebalance(folder(tmp_path / "data"), "glasses", tmp_path / "out", settings=SMALL)
    assert (found.added, found.target, found.figures) == ([0, 12], None, None)
    assert [(plan, hard) for plan, hard, _, _ in flat] == [({1: 12}, "generated")]
    assert not (tmp_path / "out" / MODEL).exists()
    full = rebalance(tmp_path / "data", "glasses", tmp_path / "full", settings=RebalancingSettings())
    assert full.added == [0, 36]  # as many as are missing


def test_a_class_without_a_picture_or_with_one_is_generated_and_said(flat, tmp_path):
    data = folder(tmp_path / "data", bright=1)
    found = rebalance(data, "glasses", tmp_path / "one", settings=SMALL)
    assert (found.added, found.notes) == ([0, 12], ["class 'glasses' has a single picture"])
    target = ModuleTarget(Net(), CLASSES, "net")
    (data / "glasses" / "0.png").unlink()
    found = rebalance(
        data, "glasses", tmp_path / "none", target=target, classes=["no glasses", "glasses"], settings=SMALL
    )
    assert (found.counts, found.added) == ([40, 0], [12, 12])
    assert "has no picture at all: all that is known of it is generated" in found.notes[0]
    assert found.target.predict(torch.full((1, 3, 8, 8), 0.7)).argmax() == 1


def test_a_balanced_data_set_is_left_alone_unless_forced(flat, tmp_path):
    data = folder(tmp_path / "data", dark=10, bright=9)
    found = rebalance(data, "glasses", tmp_path / "out", settings=SMALL)
    assert (found.added, flat) == ([0, 0], [])
    assert "are balanced already, so nothing was done" in found.notes[0]
    assert not (tmp_path / "out").exists()
    assert rebalance(data, "glasses", tmp_path / "out", settings=SMALL, force=True).added == [0, 1]
    even = folder(tmp_path / "even", dark=9, bright=9)
    assert rebalance(even, "glasses", tmp_path / "more", settings=SMALL, force=True).added == [12, 12]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"label": "age:20,40"},
            r"has 2 classes .* and age 2 cuts; name those without a picture, too, with --classes, or .*--class age:\d+",
        ),
        ({"by": "magic"}, "unknown remedy 'magic'"),
        ({"by": "focal"}, "unknown remedy 'focal': there are generated-rare, generated, sia-semantic, sia-joint"),
        ({"by": "sia-joint"}, "by=sia-joint makes faces hard for a model, but there is none"),
        ({"label": "hats"}, "unknown class attribute 'hats'"),
        ({"label": "glasses:0.2,0.5"}, "has 2 classes .* and glasses 2 cuts"),
        ({"seed": -1}, "seed=-1 is outside"),
        ({"column": "mood", "data": None}, "is no folder"),
        ({"target": ModuleTarget(Net(), Classification(("a", "b", "c")), "three")}, "'three' has 3 classes"),
        ({"target": ModuleTarget(Net(), Classification(("glasses", "no glasses")), "net")}, "low to high they are"),
        ({"target": ModuleTarget(lambda images: images, CLASSES, "box")}, "'box' is no network"),
        ({"target": ModuleTarget(Net(), Regression(("age",), 5.0), "years")}, "'years' is no classifier"),
    ],
)
def test_wrong_requests_are_refused(flat, tmp_path, options, message):
    data = folder(tmp_path / "data")
    given = {"data": data, "label": "glasses", "out": tmp_path / "out", "settings": SMALL} | options
    given["data"] = given["data"] or tmp_path / "nowhere"
    with pytest.raises(RequestError, match=message):
        rebalance(**given)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(flat, tmp_path):
    data = folder(tmp_path / "data")
    with pytest.raises(RequestError, match="holds something else, 'glasses' for one"):
        rebalance(data, "glasses", data, settings=SMALL)
    rebalance(data, "glasses", tmp_path / "out", settings=SMALL)
    with pytest.raises(RequestError, match="was made with seed=0, not 1"):
        rebalance(data, "glasses", tmp_path / "out", settings=SMALL, seed=1)
    to_pil(torch.zeros(3, 8, 8, dtype=torch.uint8)).save(data / "glasses" / "0.png")  # another picture of the name
    with pytest.raises(RequestError, match="was made with pictures="):
        rebalance(data, "glasses", tmp_path / "out", settings=SMALL)


def test_a_target_is_told_by_its_place(flat, tmp_path, monkeypatch):
    data, lasting = folder(tmp_path / "data"), str(pretrained_folder() / "glasses-classifier")
    monkeypatch.chdir(pretrained_folder())
    few = replace(SMALL, rounds=1, steps=1)
    rebalance(data, "glasses", tmp_path / "out", target="./glasses-classifier", settings=few)
    assert json.loads((tmp_path / "out" / RESULT).read_text())["settings"]["target"] == lasting
    assert lasting not in (tmp_path / "out" / MODEL / "README.md").read_text()


@pytest.mark.parametrize("form", ["", "?size=64"])
def test_a_target_is_shown_pictures_as_before(flat, tmp_path, form):
    few = replace(SMALL, rounds=1, steps=1)
    data = folder(tmp_path / "data")
    given = f"glasses-classifier{form}" if form else load_target("glasses-classifier")
    found = rebalance(data, "glasses", tmp_path / "out", target=given, settings=few)
    images = torch.rand(2, 3, 128, 128)
    again = load_target(f"{tmp_path / 'out' / MODEL}{form}")
    torch.testing.assert_close(found.target.predict(images), again.predict(images))


def test_another_model_of_the_same_name_is_not_taken_for_the_first(flat, tmp_path):
    data, other = folder(tmp_path / "data"), Net()
    found = rebalance(data, "glasses", tmp_path / "out", target=ModuleTarget(Net(), CLASSES, "net"), settings=SMALL)
    (note,) = found.notes
    assert note == "figures of held-out pictures are without 'glasses': of fewer than 5 pictures none is held out"
    other.out.weight.data += 1
    with pytest.raises(RequestError, match="was made with weights="):
        rebalance(data, "glasses", tmp_path / "out", target=ModuleTarget(other, CLASSES, "net"), settings=SMALL)
    bare = rebalance(data, "glasses", tmp_path / "bare", target=Net(), classes=CLASSES.classes, settings=SMALL)
    assert bare.added == found.added  # a module in hand


def test_what_is_left_out_is_said(flat, tmp_path):
    data = folder(tmp_path / "data")
    (data / "glasses" / "broken.png").write_bytes(b"nothing")
    notes = rebalance(data, "glasses", tmp_path / "out", settings=SMALL).notes
    assert "1 picture left out: unreadable" in notes


def test_a_fifth_of_each_class_is_held_out():
    labels = torch.tensor([0] * 20 + [1] * 5 + [2] * 4)
    held = held_out(labels, 0)
    assert labels[held].bincount(minlength=3).tolist() == [4, 1, 0]
    assert torch.equal(held, held_out(labels, 0))
    assert not torch.equal(held, held_out(labels, 1))


def no_room():
    raise OSError("no room")


def test_a_shipped_model_learns_from_faces_made_hard_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "JUDGED", 60)
    renders = read_renders(shipped_renders(), 60)
    rare = 0
    for index, value in enumerate(renders.value("glasses").tolist()):
        name = "glasses" if value >= 0.5 else "no glasses"
        rare += name == "glasses"
        if name == "no glasses" or rare <= 3:
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            to_pil(renders.images[index]).save(tmp_path / "data" / name / f"{index}.png")
    settings = RebalancingSettings(faces=4, rounds=1, steps=2, batch=8, attack=1)
    given = {"target": "glasses-classifier", "by": "sia-joint", "settings": settings}
    with monkeypatch.context() as full:
        full.setattr(module.Trainable, "save", lambda self, folder: no_room())
        with pytest.raises(OSError, match="no room"):
            rebalance(tmp_path / "data", "glasses", tmp_path / "out", **given)
        full.setattr(RareFaces, "draw", lambda *given: pytest.fail("faces were drawn anew"))
        full.undo()
        full.setattr(RareFaces, "draw", lambda *given: pytest.fail("faces were drawn anew"))
        found = rebalance(tmp_path / "data", "glasses", tmp_path / "out", **given)
    assert not (tmp_path / "out" / FACES / PARTS).exists()
    assert (found.counts[1], found.added) == (3, [4, 4])
    assert found.figures["renders"]["before"]["pictures"] == 60
    assert found.figures["renders"]["before"]["balanced"] > 0.9
    assert load_target(tmp_path / "out" / MODEL).label == load_target("glasses-classifier").label
    card = (tmp_path / "out" / FACES / "README.md").read_text()
    assert "8 faces for 'data', which has few pictures of some classes" in card
    assert "the other attributes and the pixels were moved by gradient ascent on the error of" in card
    assert "up to 1 steps and no further than where it errs" in card
    assert "$" not in card
    rows = pq.read_table(tmp_path / "out" / FACES / "metadata.parquet").to_pylist()
    assert all((tmp_path / "out" / FACES / row["file_name"]).is_file() for row in rows)
    assert {(row["hard"], row["hard_for"]) for row in rows} <= {(True, "glasses-classifier"), (False, "")}
    assert any(row["hard"] for row in rows)
    assert f"errs ({sum(row['hard'] for row in rows)} faces); `hard_for`" in card
