"""Hardening end to end: on flat pictures that a small network learns in seconds, and once on shipped models."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import one_hot

from sia_gen import ModuleTarget, audit, harden, load_target
from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.core.errors import RequestError
from sia_gen.core.files import read_tensors
from sia_gen.hardening import harden as module
from sia_gen.hardening import resolve, teach
from sia_gen.hardening.faces import Faces
from sia_gen.hardening.harden import TRAINING, WORK
from sia_gen.hardening.lessons import loss, prepared
from sia_gen.hardening.page import verdict
from sia_gen.hardening.regimens import REGIMENS, HardeningSettings
from sia_gen.hardening.trainable import Trainable
from sia_gen.targets.adapted import Adapted, Form
from sia_gen.targets.formats.pretrained import PROCESSOR
from sia_gen.targets.task import Classification
from tests.standins import colours

CLASSES = Classification(("dark", "bright"))
SMALL = HardeningSettings(faces=32, rounds=2, steps=40, batch=16, rate=2e-2)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.out = nn.Linear(4, 2)

    def forward(self, images):
        return self.out(self.head(images))


def pictures(seeds):
    """Flat pictures and whether they are bright."""
    random = torch.Generator().manual_seed(sum(seeds) % 2**31)
    levels = torch.randint(20, 235, (len(seeds),), generator=random)
    return levels.view(-1, 1, 1, 1).expand(-1, 3, 16, 16).to(torch.uint8), one_hot((levels > 127).long(), 2).float()


class Reads:
    """A truth of which nothing is asked: faces are drawn otherwise."""

    words = "nobody"


@pytest.fixture
def flat(monkeypatch):
    """A target whose label something reads, and faces that are flat pictures; gives what was drawn against it."""
    seen = []

    def draw(self, seeds, regimen, target, progress):
        seen.append(target.predict(torch.full((1, 3, 8, 8), 0.7)).detach())
        return pictures(seeds)

    monkeypatch.setattr(Faces, "draw", draw)
    monkeypatch.setattr("sia_gen.hardening.resolve.truth_of", lambda *given: Reads())
    monkeypatch.setattr(module, "shipped_renders", lambda: None)
    return seen


def hardened(out, by="standard", **options):
    target = ModuleTarget(Net(), CLASSES, "net")
    generator = colours()
    given = {"generator": generator, "attributes": generator.attributes, "settings": SMALL, "by": by}
    return harden(target, out, **given | options)


def right(target):
    images, labels = pictures(range(1000, 1200))
    with torch.no_grad():
        return (target.predict(images.float() / 255).argmax(1) == labels.argmax(1)).float().mean().item()


def test_a_model_learns_and_is_saved(flat, tmp_path):
    found = hardened(tmp_path / "out")
    assert right(ModuleTarget(Net(), CLASSES)) < 0.7
    assert right(found.target) > 0.9
    assert len(flat) == SMALL.rounds
    assert not torch.equal(*flat)  # the second round's faces are drawn against what the first one taught
    tensors, _ = read_tensors(tmp_path / "out" / "model.safetensors")
    again = Net()
    again.load_state_dict(tensors)
    assert right(ModuleTarget(again, CLASSES)) == right(found.target)
    assert not (tmp_path / "out" / WORK).exists()
    assert "net: before and after" in found.page.read_text()
    assert "# out\n\n`net`, taught further on generated faces" in (tmp_path / "out" / "README.md").read_text()
    assert right(hardened(tmp_path / "out").target) == right(found.target)  # what is finished is read again
    assert json.loads((tmp_path / "out" / TRAINING).read_text())["settings"]["by"] == "standard"


@pytest.mark.parametrize("by", REGIMENS)
def test_every_regimen_learns(flat, tmp_path, by):
    assert right(hardened(tmp_path / "out", by).target) > 0.85


def test_the_target_itself_is_left_as_it_was(flat, tmp_path):
    target, generator = ModuleTarget(Net(), CLASSES, "net"), colours()
    before = {name: value.clone() for name, value in target.module.state_dict().items()}
    target.module.train()
    harden(target, tmp_path / "out", generator=generator, attributes=generator.attributes, settings=SMALL)
    assert target.module.training
    assert all(torch.equal(value, before[name]) for name, value in target.module.state_dict().items())


@pytest.mark.parametrize("moment", ["drawing", "the second round", "learning"])
def test_what_was_stopped_goes_on_to_the_same_weights(flat, tmp_path, monkeypatch, moment):
    whole = hardened(tmp_path / "whole")
    calls = {"drawing": (Faces, "draw", 0), "the second round": (Faces, "draw", 1), "learning": (teach, "fit", 1)}
    owner, name, after = calls[moment]
    plain, count = getattr(owner, name), [0]

    def stopping(*given, **options):
        count[0] += 1
        if count[0] == after + 1:
            raise KeyboardInterrupt
        return plain(*given, **options)

    monkeypatch.setattr(owner, name, stopping)
    with pytest.raises(KeyboardInterrupt):
        hardened(tmp_path / "out")
    monkeypatch.setattr(owner, name, plain)
    found = hardened(tmp_path / "out")
    there, here = (read_tensors(folder / "model.safetensors")[0] for folder in (whole.folder, found.folder))
    assert all(torch.equal(there[name], here[name]) for name in there)
    count[0] = 0
    monkeypatch.setattr(owner, name, stopping)
    hardened(tmp_path / "out")  # a finished one is not done again
    assert count[0] == 0


@pytest.mark.parametrize("piece", ["drawing", "learning"])
def test_the_seconds_of_interrupted_work_count(flat, tmp_path, monkeypatch, piece):
    now = [0.0]
    monkeypatch.setattr(teach, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    owner, name = {"drawing": (Faces, "draw"), "learning": (teach, "fit")}[piece]
    plain = getattr(owner, name)

    def slow(*given, **options):
        now[0] += 100
        (given[-1] if piece == "drawing" else options["progress"])(1, 2, "half")
        return plain(*given, **options)

    def stop(done, total, what):
        if "round 2" in what and "half" in what:
            raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, slow)
    with pytest.raises(KeyboardInterrupt):
        hardened(tmp_path / "out", progress=stop)
    found = hardened(tmp_path / "out")
    other = {"drawing": "learning", "learning": "drawing"}[piece]
    assert found.seconds == {piece: 300, other: 0}  # the first round, and both attempts at the second


LAUNCH = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
LAUNCH += ["--dynamo_backend", "no", "--main_process_port", "0"]
SCRIPT = """
import os, sys, time
from tests.hardening import test_harden as here
here.Faces.draw = lambda self, seeds, *given: here.pictures(seeds)
def late(*given):
    time.sleep(2 * int(os.environ["RANK"]))  # one is ahead: what it has done, the other must not have found done before
    return here.Reads()
here.resolve.truth_of, here.module.shipped_renders = late, lambda: None
found = here.hardened(sys.argv[1] + "/out")
open(f"{sys.argv[1]}/told-{os.environ['RANK']}", "w").write(f"{os.environ['WORLD_SIZE']} {here.right(found.target)}")
"""


def test_two_processes_of_accelerate_share_the_steps_on_a_cpu(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH, str(tmp_path / "script.py"), str(tmp_path)]
    root = str(Path(__file__).parents[2])
    subprocess.run(command, check=True, timeout=300, capture_output=True, env=os.environ | {"PYTHONPATH": root})
    first, second = ((tmp_path / f"told-{rank}").read_text().split() for rank in (0, 1))
    assert first == second  # one writes, both read the same model
    assert first[0] == "2"
    assert float(first[1]) > 0.9
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert not (tmp_path / "out" / WORK).exists()


def test_a_pixel_attack_in_a_step_stays_within_its_radius_and_raises_the_loss():
    torch.manual_seed(0)
    model, images, labels = Net().eval(), torch.rand(8, 3, 8, 8), torch.randint(0, 2, (8,))
    noise, seen = torch.rand(8, 3, 8, 8) * 2 - 1, []
    model.register_forward_pre_hook(lambda part, given: seen.append(given[0].detach()))
    by = {
        name: loss(REGIMENS[name], CLASSES, 0.1)(model, None, images, labels, noise).item()
        for name in ("standard", "pgd")
    }
    assert by["pgd"] > by["standard"]
    assert all(((each - images).abs() <= 0.1 + 1e-6).all() for each in seen)
    assert loss(REGIMENS["trades"], CLASSES, 0.1)(model, None, images, labels, noise).item() > by["standard"]


@pytest.mark.parametrize("by", ["standard", "randaugment", "augmix"])
def test_pictures_are_varied_by_the_seed_alone(by):
    images, labels = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8), torch.arange(4) % 2
    made = [
        prepared(REGIMENS[by], mirrored=True)(torch.Generator().manual_seed(seed), images, labels, labels)
        for seed in (1, 1, 2)
    ]
    assert torch.equal(made[0][0], made[1][0])
    assert not torch.equal(made[0][0], made[2][0])
    assert 0 <= made[0][0].min() <= made[0][0].max() <= 1
    assert made[0][0].shape == images.shape


def test_faces_are_changed_along_the_focus_and_all_together():
    generator = colours()
    space = generator.attributes
    focus = (space.names[0],)
    faces = Faces(generator, space, Reads(), SemanticImageAttack(epsilon=0.0), focus)
    alone = faces._alone(6)
    assert alone.tolist() == [0, -1, 0, -1, 0, -1]
    omega = faces._random(range(6), alone)
    assert (omega[0::2, 1:] == 0).all()
    assert (omega[0::2, 0] != 0).all()
    assert (omega[1::2] != 0).all()
    half = (space.high - space.low) / 2
    assert ((omega[1::2] / half).norm(dim=1) <= 1 + 1e-4).all()


class Asked:
    """A black box."""

    name, task, differentiable, label = "asked", CLASSES, False, None

    def predict(self, images):
        return images.mean(dim=(2, 3))[:, :2]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Asked(), "'asked' gives no gradients"),
        (replace(ModuleTarget(lambda images: images.mean((2, 3))[:, :2], CLASSES, "box")), "'box' is no network"),
        (ModuleTarget(nn.Flatten(), CLASSES, "flat"), "'flat' has no parameters"),
    ],
    ids=["black box", "function", "no parameters"],
)
def test_what_cannot_be_trained_is_refused(flat, tmp_path, target, message):
    generator = colours()
    with pytest.raises(RequestError, match=message):
        harden(target, tmp_path / "out", generator=generator, attributes=generator.attributes)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "magic"}, "unknown regimen 'magic'"),
        ({"seed": -1}, "seed=-1 is outside"),
        ({"run": "runs/none"}, "'runs/none' has its own attributes and label"),
    ],
)
def test_wrong_requests_are_refused(flat, tmp_path, options, message):
    with pytest.raises(RequestError, match=message):
        hardened(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"faces": 7}, {"rounds": 0}, {"steps": 0}, {"batch": 1}, {"attack": 0}, {"rate": 0.0}, {"rate": float("nan")},
        {"epsilon": 1.5}, {"epsilon": 0.0}, {"faces": True}, {"steps": 2.5},
        {"attacked": 1.1}, {"attacked": float("nan")}, {"attacked": "x"}, {"rate": "x"}, {"epsilon": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_are_none_are_refused(wrong):
    with pytest.raises(RequestError, match=f"{next(iter(wrong))}="):
        HardeningSettings(**wrong)


def test_a_folder_that_holds_something_else_is_left_alone(flat, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    with pytest.raises(RequestError, match=r"holds something else, 'config\.json' for one"):
        hardened(tmp_path / "out")
    hardened(tmp_path / "mine")
    with pytest.raises(RequestError, match="was hardened with by=standard, not random"):
        hardened(tmp_path / "mine", "random")

    shutil.copytree("pretrained/sex-classifier", tmp_path / "shipped")
    with pytest.raises(RequestError, match="shipped' holds a model that was not hardened there; choose another --out"):
        hardened(tmp_path / "shipped")


def test_a_label_that_nothing_reads_is_refused(tmp_path):
    with pytest.raises(RequestError, match="nothing reads the classes of 'net' off a face; say"):
        hardened(tmp_path / "out")
    with pytest.raises(
        RequestError, match="nothing reads 'nope', which 'smile-classifier' is told to predict, off a face"
    ):
        harden("smile-classifier", tmp_path / "out", label="nope:0.5")


def test_a_finished_audit_is_hardened_against_and_audited_again(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "JUDGED", 100)
    run = tmp_path / "run"
    audit(
        target="smile-classifier-planted", attributes=["light_azimuth"], faces=3, out=run, confirm=False,
        attack=SemanticImageAttack(steps=1),
    )  # fmt: skip
    settings = HardeningSettings(faces=8, rounds=1, steps=2, batch=8)
    found = harden(run=run, out=tmp_path / "mended", by="sia-joint", settings=settings)
    assert found.comparison["first"]["target"] == "smile-classifier-planted"
    assert found.comparison["second"]["target"] == "mended"
    assert found.figures["before"]["balanced"] == pytest.approx(0.526, abs=0.12)  # 0.526 of 2000
    assert load_target(tmp_path / "mended").label == load_target("smile-classifier-planted").label
    with pytest.raises(RequestError, match="name the audited target"):
        harden("smile-classifier", tmp_path / "other", run=run, by="sia-joint", settings=settings)
    again = harden("smile-classifier-planted", tmp_path / "mended", run=run, by="sia-joint", settings=settings)
    assert again.figures == found.figures  # named where it lies now
    page = found.page.read_text()
    assert [row["name"] for row in found.comparison["attributes"]] == ["light_azimuth"]
    assert "The first audit said: " in page
    assert "100 renders whose labels are exact" in page
    assert verdict(found.figures) in page


def test_a_model_that_is_shown_other_pictures_stays_so(tmp_path, flat, monkeypatch):
    generator = colours()
    settings = HardeningSettings(faces=8, rounds=1, steps=1, batch=8)
    found = harden(
        "smile-classifier?size=64&channels=bgr", tmp_path / "out", generator=generator,
        attributes=generator.attributes, settings=settings,
    )  # fmt: skip
    assert (found.target.form.size, found.target.form.channels) == (64, "bgr")


def test_a_model_in_hand_is_saved_with_the_processor_of_its_folder(tmp_path, flat):
    generator, settings = colours(), HardeningSettings(faces=8, rounds=1, steps=1, batch=8)
    given = {"generator": generator, "attributes": generator.attributes, "settings": settings}
    target = load_target("smile-classifier")
    found = harden(target, tmp_path / "out", **given)
    assert (tmp_path / "out" / PROCESSOR).is_file()
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(load_target(tmp_path / "out").predict(images), found.target.predict(images))
    small = harden(Adapted.of(target, Form(size=64), "small"), tmp_path / "small", **given)
    assert small.target.form.size == 64


def test_a_network_of_transformers_in_a_module_is_saved_as_tensors(tmp_path, flat):
    network = load_target("smile-classifier").model.network
    target, generator = ModuleTarget(network, CLASSES, "bare"), colours()
    settings = HardeningSettings(faces=8, rounds=1, steps=1, batch=8)
    for _ in range(2):  # once it is finished, it is found again
        found = harden(
            target, tmp_path / "out", generator=generator, attributes=generator.attributes, settings=settings
        )
        assert found.target.predict(torch.rand(1, 3, 128, 128)).shape == (1, 2)
    assert not (tmp_path / "out" / "config.json").exists()


def test_weights_that_are_tied_and_numbers_that_are_counted_are_saved(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
            self.second.weight = self.first.weight
            self.count = nn.Parameter(torch.tensor(3), requires_grad=False)

        def forward(self, images):
            return self.second(self.first(images.mean((2, 3))))

    target = ModuleTarget(Tied(), Classification(("a", "b", "c")), "tied")
    student = Trainable(target)
    student.save(tmp_path)
    images = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(student.found_again(tmp_path, target, "cpu").predict(images), target.predict(images))


def test_another_model_of_the_same_name_is_not_taken_for_the_first(tmp_path, flat):
    hardened(tmp_path / "out")
    other, generator = Net(), colours()
    other.out.weight.data += 1
    with pytest.raises(RequestError, match="was hardened with weights="):
        harden(
            ModuleTarget(other, CLASSES, "net"), tmp_path / "out", generator=generator,
            attributes=generator.attributes, settings=SMALL, by="standard",
        )  # fmt: skip


def test_renders_that_it_is_measured_on_are_not_learnt_from(tmp_path, flat, monkeypatch):
    for index in range(6):
        name = CLASSES.classes[index % 2]
        (tmp_path / "renders" / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (index,) * 3).save(tmp_path / "renders" / name / f"{index}.png")
    monkeypatch.setattr("sia_gen.hardening.labelled.shipped_renders", lambda: tmp_path / "renders")
    monkeypatch.setattr("sia_gen.hardening.resolve.JUDGED", 2)
    hardened(tmp_path / "out", data="faces-renders")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "4 labelled pictures from outside were learnt from besides. Left out: 2 measured on." in card
    assert "No face is moved" in card  # by the regimen "standard"
    hardened(tmp_path / "random", "random")
    assert "Moved along redness" in (tmp_path / "random" / "README.md").read_text()


def test_a_network_keeps_its_own_preprocessing():
    target = load_target("smile-classifier")
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    student = Trainable(target).eval()
    torch.testing.assert_close(student(images), target.predict(images))
    torch.testing.assert_close(student.put_into(target).predict(images), target.predict(images))


def test_labelled_pictures_are_learnt_from_besides(flat, tmp_path):
    for index in range(4):
        level = (40, 200)[index % 2]
        (tmp_path / "data" / CLASSES.classes[index % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (level,) * 3).save(tmp_path / "data" / CLASSES.classes[index % 2] / f"{index}.png")
    found = hardened(tmp_path / "out", data=tmp_path / "data")
    assert json.loads((tmp_path / "out" / TRAINING).read_text())["settings"]["data"][0] == 4
    assert "4 labelled pictures from outside were learnt from besides." in (tmp_path / "out" / "README.md").read_text()
    assert "4 labelled pictures were learnt from besides." in found.page.read_text()
    with pytest.raises(RequestError, match=r"was hardened with data=\[4, '\w+'\], not None"):
        hardened(tmp_path / "out")
    (tmp_path / "data" / "bright" / "1.png").rename(tmp_path / "data" / "dark" / "1.png")
    with pytest.raises(RequestError, match="was hardened with data="):
        hardened(tmp_path / "out", data=tmp_path / "data")


def test_labelled_pictures_have_the_targets_classes_or_say_which_are_which(flat, tmp_path):
    for name, level in (("a", 40), ("b", 200)):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (level,) * 3).save(tmp_path / "data" / name / "0.png")
    with pytest.raises(RequestError, match=r"unknown class 'a'.* name all classes of .* with --classes"):
        hardened(tmp_path / "out", data=tmp_path / "data")
    with pytest.raises(RequestError, match="classes=a do not fit the 2 of 'net'; name each, in the order dark, bright"):
        hardened(tmp_path / "out", data=tmp_path / "data", classes=["a"])
    for wrong in (["bright", "dark"], ["a", "a"], ["a", "a", "b"]):
        with pytest.raises(RequestError, match="do not fit the 2 of 'net'"):
            hardened(tmp_path / "out", data=tmp_path / "data", classes=wrong)
    with pytest.raises(RequestError, match="classes=a,b are what labelled pictures have; give these with --data"):
        hardened(tmp_path / "out", classes=["a", "b"])
    with pytest.raises(RequestError, match="classes='a,b' is one text"):
        hardened(tmp_path / "out", data=tmp_path / "data", classes="a,b")
    hardened(tmp_path / "out", data=tmp_path / "data", classes=["a", "b"])
    assert json.loads((tmp_path / "out" / TRAINING).read_text())["settings"]["data"][0] == 2


def test_a_model_without_classes_takes_no_labelled_pictures(tmp_path):
    with pytest.raises(RequestError, match="'landmarks-68' has no classes to be labelled; leave the data out"):
        harden("landmarks-68", tmp_path / "out", data=tmp_path)


def test_what_the_audit_was_asked_belongs_to_the_folder(flat, tmp_path, monkeypatch):
    hardened(tmp_path / "out")
    plain = resolve.SemanticImageAttack
    monkeypatch.setattr(resolve, "SemanticImageAttack", lambda: plain(box=0.5))
    with pytest.raises(RequestError, match="was hardened with moved="):
        hardened(tmp_path / "out")


@pytest.mark.parametrize(
    ("after", "said"),
    [((0.9, 0.8), "better"), ((0.5, 0.1), "worse"), ((0.9, 0.1), "not clearly better"), ((0.6, 0.2), "worse")],
)
def test_a_page_says_whether_a_model_is_better(after, said):
    shares = [{"balanced": balanced, "worst": worst} for balanced, worst in ((0.6, 0.2), after)]
    found = verdict({"measure": "balanced accuracy", "before": shares[0], "after": shares[1]})
    assert found.startswith(f"On renders it is {said} than before: balanced accuracy 60.0%")
