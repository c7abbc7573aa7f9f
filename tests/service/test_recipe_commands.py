"""The recipes themselves are tested in tests/studio and tests/training; here, what the command line hands them."""

import json
import sys
from pathlib import Path

import pytest

from sia_gen import cli
from sia_gen.studio.sampling import Skew
from tests.standins import colours

TAIL = ["--out", "out", "--seed", "5", "--device", "cpu"]
COMMON = {"seed": 5, "device": "cpu"}
RENDERS, OUT = Path("renders"), Path("out")
RECIPES = {
    "studio render --makehuman m --faces 9 --resolution 32 --pictures 3 --spread 0.8 --workers 2 --skew age=sex:0.9": (
        "sia_gen.studio.renders.write_renders",
        (
            (Path("m"), OUT, 9),
            {
                "resolution": 32,
                "workers": 2,
                "pictures": 3,
                "spread": 0.8,
                "skews": [Skew("age", "sex", 0.9)],
            },
        ),
        OUT,
        {"faces": 9},
    ),
    "train generator --renders renders --steps 7 --precision bf16": (
        "sia_gen.training.generators.stylegan2.train_generator",
        ((RENDERS, OUT), {"steps": 7, "adversarial": 0, "batch": None, "precision": "bf16"}),
        {"psnr_db": 30.1},
        {"psnr_db": 30.1},
    ),
    "train verifier --renders renders --steps 7 --batch 128 --precision bf16": (
        "sia_gen.training.verifier.train_verifier",
        ((RENDERS, OUT), {"steps": 7, "batch": 128, "precision": "bf16"}),
        {"age": {"mae": 3.0, "r2": 0.9}},
        {"age": {"mae": 3.0, "r2": 0.9}},
    ),
    "train target --renders renders --planted light_strength --strength 0.8 --steps 7": (
        "sia_gen.training.target.train_target",
        (
            (RENDERS, OUT),
            {
                "label": "smile",
                "thresholds": None,
                "architecture": "resnet",
                "planted": "light_strength",
                "strength": 0.8,
                "steps": 7,
                "batch": None,
                "precision": "no",
            },
        ),
        {"accuracy": 0.97},
        {"accuracy": 0.97},
    ),
    "train target --renders renders --label age --thresholds 21,37 --architecture vit": (
        "sia_gen.training.target.train_target",
        (
            (RENDERS, OUT),
            {
                "label": "age",
                "thresholds": [21.0, 37.0],
                "architecture": "vit",
                "planted": None,
                "strength": 0.95,
                "steps": 4000,
                "batch": None,
                "precision": "no",
            },
        ),
        {"accuracy": 0.7},
        {"accuracy": 0.7},
    ),
    "train all --makehuman m --faces 64 --jobs 3": (
        "sia_gen.training.everything.train_everything",
        ((Path("m"), OUT), {"faces": 64, "jobs": 3}),
        {"faces-stylegan2": {"psnr_db": 26.0}, "smile-classifier": {"accuracy": 0.97}},
        {"faces-stylegan2": {"psnr_db": 26.0}, "smile-classifier": {"accuracy": 0.97}},
    ),
    "train attributes --generator g --verifier v --faces 64": (
        "sia_gen.training.attributes.fit_attributes",
        (("g", "v", OUT), {"identity": None, "names": None, "faces": 64, "trials": 64}),
        colours().attributes.select(["redness"]),
        {"redness": {"slope": 1.0, "leakage": 0.0}},
    ),
}


@pytest.mark.parametrize("command", RECIPES)
def test_hands_a_recipe_what_was_asked_and_prints_its_figures(command, monkeypatch, capsys):
    name, expected, given, figures = RECIPES[command]
    calls = []

    def recipe(*arguments, progress, **options):
        assert (progress is None) == ("--json" in sys.argv)  # a program does not look
        calls.append((arguments, options))
        return given

    monkeypatch.setattr(name, recipe)
    for extra in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", ["sia-gen", *command.split(), *TAIL, *extra])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code
    shown, _, printed = capsys.readouterr().out.partition("Written to out\n")
    assert json.loads(printed) == {**figures, "out": "out"}
    for name, values in figures.items():
        assert name in shown
        for key, value in values.items() if isinstance(values, dict) else [(name, values)]:
            assert f"{value:.3g}" in shown or str(value) in shown, key
    arguments, options = expected
    assert calls == [(arguments, {**options, **COMMON})] * 2


def test_an_unknown_factor_is_named(monkeypatch, capsys):
    command = "studio render --makehuman m --faces 2 --out out --skew nose=smile:0.9"
    monkeypatch.setattr(sys, "argv", ["sia-gen", *command.split()])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("unknown factor 'nose', did you mean 'noise'? there are ")


def test_of_several_processes_the_first_one_tells(monkeypatch, capsys):
    monkeypatch.setattr("sia_gen.training.verifier.train_verifier", lambda *arguments, **options: {"age": {"r2": 0.9}})
    monkeypatch.setattr(sys, "argv", ["sia-gen", "train", "verifier", "--renders", "renders", *TAIL])
    for rank, told in (("0", "Written to out"), ("1", "")):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code
        assert told in (shown := capsys.readouterr().out)
        assert bool(shown) == bool(told)


def test_an_unknown_precision_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sia-gen", "train", "verifier", "--renders", "r", "--precision", "fp8", *TAIL])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == "precision=fp8 is none of no, bf16; choose one of these\n"
