"""Other people's code: what each odd target comes to, behind every door. B images.

The doors are an attack and an audit in Python, and the command line. A target that is legal gives what its plain twin
gives; any other ends in one line, and never as if all were done.
"""

import functools
import json
import sys
import types
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from sia_gen import audit, cli, load_target
from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.audits.evidence.checks import in_training_mode
from sia_gen.audits.run.plan import plan, run
from sia_gen.audits.run.resolve import resolve
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.targets.adapted import Adapted, Form
from sia_gen.targets.formats.pretrained import load_image_model
from sia_gen.targets.module import ModuleTarget
from sia_gen.targets.target import ask
from sia_gen.targets.task import Classification
from tests.standins import colours

CLASSES = Classification(("red", "not red"))
ATTACK = SemanticImageAttack(steps=2, epsilon=0.01, batch=8, pairs=1)

FINE = "as its twin"
WEIGHTS = torch.tensor([[4.0, -4.0], [1.0, -1.0], [0.5, -0.5]])


def plain(images):
    return images.mean(dim=(2, 3)) @ WEIGHTS.to(images) - torch.tensor([2.9, -2.9]).to(images)


def in_place(change):
    def answer(images):
        before = plain(images)
        change(images)
        return before

    return answer


def numpy_in_place(images):
    before, values = plain(images), images.numpy()
    values *= 0.2
    return before.numpy()


def raising(error):
    def answer(images):
        raise error

    return answer


def then(change):
    return lambda images: change(plain(images))


def without_gradient(guard):
    def answer(images):
        with guard():
            return plain(images)

    return answer


def switches_gradients_off(images):
    torch.set_grad_enabled(False)
    return plain(images)


def exits(images):
    sys.exit()


def endless(images):
    return endless(images)


def prints(images):
    print("hello from the target")
    return plain(images)


def out_of_memory(images):
    if len(images) > 2:
        raise torch.OutOfMemoryError("too many")
    return plain(images)


class Callable:
    def __call__(self, images):
        return plain(images)


class Module(nn.Module):
    def forward(self, images):
        return plain(images)


class Subclass(torch.Tensor):
    pass


def nan_when_edited(images):
    edited = (images.std(dim=(2, 3)).sum(dim=1) > 1e-3) | (images[:, 0, 0, 0] > 0.62)
    return torch.where(edited[:, None], torch.nan, plain(images))


def seeds(images):
    torch.manual_seed(0)
    return plain(images)


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is on its way out, and in use
        return torch.jit.script(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)))


def compressed(images):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it is new
        return plain(images).to_sparse_csr()


GRADIENT = "is called differentiable but its loss has no gradient"
COLUMNS, ROWS = "; return as many numbers per image as its task has", "; return one row per image"
DENSE = "; return a dense tensor of real numbers, one row per image"
BOX = {"differentiable": False}

# name: what it answers, how it is wrapped, what comes of it
ODD = {
    # It may write into its input.
    "subtracts in place": (in_place(lambda x: x.data.sub_(0.5).div_(0.5)), {}, FINE),
    "zeroes its input": (in_place(lambda x: x.data.zero_()), {}, FINE),
    "clamps in place": (in_place(lambda x: x.data.clamp_(0.4, 0.41)), {}, FINE),
    "fills its input": (in_place(lambda x: x.data.fill_(7)), {}, FINE),
    "numpy in place": (numpy_in_place, BOX, FINE),
    "box zeroes its input": (in_place(lambda x: x.zero_()), BOX, FINE),
    "box reshapes its input": (in_place(lambda x: x.squeeze_(0).resize_(1)), BOX, FINE),
    "pictures in place": (
        lambda x: plain(torch.tensor(x).permute(0, 3, 1, 2).float() / 255) + 0 * x.__imul__(0).sum(),
        BOX | {"pictures": True}, FINE,
    ),
    # It may answer in any floating point, and in any way to be called.
    "float64": (then(lambda y: y.double()), {}, FINE),
    "float16": (then(lambda y: y.half()), {}, FINE),
    "bfloat16": (then(lambda y: y.bfloat16()), {}, FINE),
    "tensor subclass": (then(lambda y: y.as_subclass(Subclass)), {}, FINE),
    "not contiguous": (then(lambda y: y.T.contiguous().T), {}, FINE),
    "output class": (then(lambda y: types.SimpleNamespace(logits=y)), {}, FINE),
    "object": (Callable(), {}, FINE),
    "module": (Module(), {}, FINE),
    "scripted": (scripted(), {}, None),
    "partial": (functools.partial(lambda extra, x: plain(x), 1), {}, FINE),
    "box in numpy": (then(lambda y: y.numpy()), BOX, FINE),
    "box in lists": (then(lambda y: y.tolist()), BOX, FINE),
    "box in float64": (then(lambda y: y.double().numpy()), BOX, FINE),
    "box in inference mode": (without_gradient(torch.inference_mode), BOX, FINE),
    "box with gradients": (plain, BOX, FINE),
    "huge": (then(lambda y: y * 1e30), {}, None),
    "tiny": (then(lambda y: y * 1e-30), {}, None),
    "seeds the world": (seeds, {}, FINE),
    "prints": (prints, {}, FINE),
    "memory for two": (out_of_memory, {}, FINE),
    # It may fail in every way.
    "exits": (exits, {}, "fails (SystemExit); mend it and run the same again"),
    "exits with 3": (raising(SystemExit(3)), {}, "fails (SystemExit: 3); mend it"),
    "box exits": (exits, BOX, "fails (SystemExit); mend it"),
    "box exits in time": (exits, BOX | {"timeout": 5}, "fails (SystemExit); mend it"),
    "raises": (raising(ValueError("no such thing")), {}, "fails (ValueError: no such thing); mend it"),
    "raises many lines": (raising(ValueError("one\ntwo\nthree")), {}, "fails (ValueError: one); mend it"),
    "raises after an empty line": (raising(ValueError("\n \ntwo")), {}, "fails (ValueError: two); mend it"),
    "raises nothing": (raising(AssertionError()), {}, "fails (AssertionError); mend it"),
    "raises a key": (raising(KeyError("a")), {}, "fails (KeyError: 'a'); mend it"),
    "raises the end": (raising(StopIteration()), {}, "fails (StopIteration); mend it"),
    "runs out of memory": (raising(MemoryError()), {}, "fails (MemoryError); mend it"),
    "never returns": (endless, {}, "fails (RecursionError: maximum recursion depth exceeded"),
    "is missing a package": (raising(ModuleNotFoundError("No module named 'timm'")), {}, "No module named 'timm'"),
    "too slow": (raising(TimeoutError("30 s")), BOX, "fails (TimeoutError: 30 s); mend it"),
    # It may answer with anything.
    "none": (then(lambda y: None), {}, "gave a NoneType" + DENSE),
    "text": (then(lambda y: "red"), {}, "gave a str" + DENSE),
    "number": (then(lambda y: 3.0), {}, "gave a float" + DENSE),
    "dictionary": (then(lambda y: {"scores": y}), {}, "gave a dict" + DENSE),
    "tuple": (then(lambda y: (y, y)), {}, "gave a tuple" + DENSE),
    "numpy with gradients": (then(lambda y: y.detach().numpy()), {}, "gave a ndarray" + DENSE),
    "ragged box": (then(lambda y: [[1.0], [1.0, 2.0]] * (len(y) // 2) + [[1.0]]), BOX, "fails (ValueError: "),
    "texts box": (then(lambda y: [["a", "b"]] * len(y)), BOX, "fails (TypeError: "),
    "nothing box": (then(lambda y: [None] * len(y)), BOX, "fails (TypeError: "),
    "sparse": (then(lambda y: y.to_sparse()), {}, "gave a tensor of layout sparse_coo" + DENSE),
    "compressed": (compressed, {}, "gave a tensor of layout sparse_csr" + DENSE),
    "complex": (then(lambda y: torch.complex(y, y)), {}, "gave complex numbers" + DENSE),
    "meta": (then(lambda y: y.to("meta")), {}, "gave a tensor without numbers (device meta)" + DENSE),
    "whole numbers": (then(lambda y: y.long()), {}, GRADIENT),
    "truth values": (then(lambda y: y > 0), {}, GRADIENT),
    "detached": (then(lambda y: y.detach()), {}, GRADIENT),
    "without gradients": (without_gradient(torch.no_grad), {}, GRADIENT),
    "inference mode": (without_gradient(torch.inference_mode), {}, GRADIENT),
    "three classes": (then(lambda y: y[:, [0, 1, 1]]), {}, COLUMNS),
    "no class": (then(lambda y: y[:, :0]), {}, COLUMNS),
    "a row too many": (then(lambda y: torch.cat([y, y[:1]])), {}, ROWS),
    "one row": (then(lambda y: y[:1]), {}, ROWS),
    "one number": (then(lambda y: y.sum()), {}, ROWS),
    "three dimensions": (then(lambda y: y[..., None]), {}, ROWS),
    "transposed": (then(lambda y: y.T), {}, ROWS),
    "its input": (lambda images: images, {}, ROWS),
    "NaN": (then(lambda y: y * torch.nan), {}, "NaN or Inf"),
    "Inf": (then(lambda y: y + torch.inf), {}, "NaN or Inf"),
    "NaN once edited": (nan_when_edited, {}, "is NaN or Inf on the face with seed"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Without the shipped verifier, which reads no colours; with gradients as they were, whatever a target switches."""
    monkeypatch.setattr("sia_gen.audits.evidence.reference.shipped", lambda kind: [])
    yield
    torch.set_grad_enabled(True)


def quiet(*told): ...


def made(name):
    answer, options, _ = ODD[name]
    return ModuleTarget(answer, CLASSES, name="odd", **options)


def attacked(target):
    generator = colours()
    codes = generator.sample(range(8))
    return ATTACK.suited(target)(generator, generator.attributes, target, codes)


def audited(target, out):
    request = resolve(
        colours(), target, colours().attributes, faces=8, seed=0, attack=ATTACK, towards=None, label=None, pairs=(),
        quick=False, confirm=False, verifier="verifier", device="cpu",
    )  # fmt: skip
    done = run(plan(request, out, quiet), quiet)
    return [done.folder.read(0, arm) for arm in range(len(done.arms))]


def same(found, twin):
    """Whether two results agree but for what answers in half precision round."""
    return all(
        torch.allclose(found[name].float(), twin[name].float(), atol=0.02, equal_nan=True)
        for name in ("output_before", "output_after")
    )


@pytest.mark.parametrize("name", ODD)
def test_an_attack(name):
    expected = ODD[name][2]
    if expected in (FINE, None):
        found = attacked(made(name))
        twin = attacked(ModuleTarget(plain, CLASSES, differentiable=made(name).differentiable))
        assert torch.equal(found.original, twin.original)  # nothing that a target does reaches the pictures
        assert expected is None or same(vars(found), vars(twin))
        return
    with pytest.raises(WorkError) as caught:
        attacked(made(name))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ODD)
def test_an_audit(name, tmp_path):
    expected = ODD[name][2]
    if expected in (FINE, None):
        found = audited(made(name), tmp_path / "odd")
        if expected is FINE:
            twin = audited(ModuleTarget(plain, CLASSES, differentiable=made(name).differentiable), tmp_path / "twin")
            assert all(map(same, found, twin))
        return
    with pytest.raises(WorkError) as caught:
        audited(made(name), tmp_path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("door", ["attack", "audit"])
@pytest.mark.parametrize(
    "name", ["subtracts in place", "numpy in place", "prints", "exits", "raises", "none", "sparse", "NaN", "ragged box"]
)
def test_the_command_line(name, door, monkeypatch, capsys, tmp_path):
    module = types.ModuleType("odd")
    module.build = lambda: made(name)
    monkeypatch.setitem(sys.modules, "odd", module)
    monkeypatch.chdir(tmp_path)
    size = ["--faces", "8", "--steps", "2", "--epsilon", "0.01"]
    command = ["sia-gen", door, "--generator", "tests.standins:colours", "--target", "odd:build", "--json", *size]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out, err = capsys.readouterr()
    if ODD[name][2] is FINE:
        assert not stopped.value.code
        json.loads(out)  # and nothing else on stdout
        assert ("hello from the target" in err) == (name == "prints")
    else:
        assert stopped.value.code == 1
        assert out == ""
        assert "Traceback" not in err
        assert len(err.splitlines()) == 1


def test_a_target_that_switches_gradients_off_is_told_so():
    with pytest.raises(WorkError, match=GRADIENT):
        attacked(ModuleTarget(switches_gradients_off, CLASSES, name="odd"))


def loud():
    print("hello from the builder")
    return made("object")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: sys.exit(), r"^target 'odd:build' fails \(SystemExit\)"),
        (lambda: Path("nowhere").read_text(), r"^target 'odd:build' fails \(FileNotFoundError: "),
        (lambda: 3, "gave a int; return a target"),
        (lambda: None, "gave a NoneType; return a target"),
        (loud, None),
    ],
)
def test_what_builds_a_target_may_do_anything_too(build, message, monkeypatch, capsys):
    module = types.ModuleType("odd")
    module.build = build
    monkeypatch.setitem(sys.modules, "odd", module)
    if message is None:
        assert load_target("odd:build").task == CLASSES
        assert capsys.readouterr().out == ""
    else:
        with pytest.raises((WorkError, RequestError), match=message):
            load_target("odd:build")


class Reusing:
    """A black box that writes every answer into the same memory."""

    name, differentiable, label = "reusing", False, None
    task = Classification(("no", "yes"))

    def __init__(self):
        self.out = torch.zeros(64, 2)

    def predict(self, images):
        answer = self.out[: len(images)]
        answer[:, 1] = images.mean(dim=(1, 2, 3)) - 0.5
        return answer


def test_an_answer_that_is_written_over_later_is_kept():
    images, target = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), Reusing()
    first = ask(target, images)
    ask(target, torch.ones(2, 3, 8, 8))
    torch.testing.assert_close(first[:, 1], images.mean(dim=(1, 2, 3)) - 0.5)


class Training(torch.nn.Module):
    """A module that is a target itself, and was left in training mode."""

    name, differentiable, label = "training", True, None
    task = Classification(("no", "yes"))

    def __init__(self):
        super().__init__()
        self.head, self.drop = torch.nn.Linear(3, 2), torch.nn.Dropout(0.5)

    def predict(self, images):
        return self.head(self.drop(images.mean(dim=(2, 3))))


def test_a_module_is_asked_in_eval_mode_and_that_it_trained_is_said_however_it_is_wrapped():
    target, images = Training(), torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for wrapped in (target, Adapted.of(target, Form(size=4), "small")):
        assert torch.equal(ask(wrapped, images), ask(wrapped, images))
        assert "it was in training mode" in in_training_mode(wrapped)[0]
    assert target.training


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architecture": "resnet10t", "model_args": {"checkpoint_path": "evil/w.bin"}}, "model_args with 'checkpoint"),
        ({"architecture": "hf-hub:some/body"}, "no name of timm's"),
        ({"architecture": "resnet10t", "model_args": ["pretrained"]}, "model_args with 'model_args'"),
    ],
)
def test_a_timm_config_cannot_name_weights_of_its_own(tmp_path, config, message):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "timm_wrapper", **config}))
    with pytest.raises(WorkError, match=message):
        load_image_model(tmp_path)


def of_most(images):
    """A black box that finds no face where red is strong, edited or not."""
    return torch.where((images[:, 0].mean(dim=(1, 2)) > 0.55)[:, None], torch.nan, plain(images))


def test_faces_without_an_answer_are_left_out(tmp_path):
    target = ModuleTarget(of_most, CLASSES, name="odd", differentiable=False)
    twin = ModuleTarget(plain, CLASSES, name="odd", differentiable=False)
    generator = colours()
    silent = of_most(generator.render(generator.sample(range(8)))).isnan().any(dim=1)
    assert 0 < int(silent.sum()) < 8
    found, whole = attacked(target), attacked(twin)
    assert torch.equal(found.correct, whole.correct & ~silent)
    assert all(torch.isfinite(getattr(found, name)).all() for name in ("output_before", "output_after", "loss_after"))
    assert not torch.isnan(of_most(found.adversarial[found.success].float() / 255)).any()  # what failed was answered
    report = audit(generator, target, generator.attributes, faces=8, attack=ATTACK, out=tmp_path)
    assert report.histogram["correct"] == int((whole.correct & ~silent).sum())
    told = f"it gave no answer (NaN) on {int(silent.sum())} of 8 unedited faces"
    assert any(told in said for said in report.histogram["checks"])
    assert any("edited faces: each counts as no change" in said for said in report.histogram["checks"])
