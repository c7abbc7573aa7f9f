import json
import math
import os
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from sia_gen import cli
from sia_gen.attributes.load import FILE
from sia_gen.attributes.ways.unlabelled import by_sefa
from sia_gen.core.errors import WorkError
from sia_gen.core.files import pretrained_folder
from sia_gen.core.images import to_pil
from sia_gen.generators.foreign.convert import convert
from sia_gen.service.commands import terminal
from sia_gen.studio.renders import read_renders, shipped_renders
from tests.generators.stylegan2_reference import Generator as Reference
from tests.generators.stylegan2_reference import persist

ROOT = Path(__file__).parent.parent
COLOURS = "tests.standins:colours"
IS_RED = "tests.standins:is_red"
COMMANDS = [
    *(["audit"], ["compare"], ["harden"], ["export"], ["attack"], ["edit"], ["list"], ["serve"], ["studio", "render"]),
    ["rebalance"],
    *(["bench", what] for what in ("planted", "rendering", "attacks", "robustness", "hardening", "imbalance")),
    *(["train", what] for what in ("generator", "verifier", "target", "attributes")),
]


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command line in an empty folder: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(terminal, "LOG_SECONDS", math.inf)  # however slow the machine is

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["sia-gen", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return (stop.value.code or 0, *capsys.readouterr())

    return call


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_the_common_options(run, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    status, out, _ = run(*command, "--help")
    assert status == 0
    assert all(option in out for option in ("--json", "--seed", "--device"))


def test_help_imports_nothing_heavy():
    code = """
import sys
sys.argv = ["sia-gen", "--help"]
from sia_gen.cli import main
try:
    main()
finally:
    heavy = {"torch", "numpy", "gradio", "transformers", "pydantic", "matplotlib", "PIL"} & set(sys.modules)
    assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, timeout=300)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["adit"], "No such command 'adit'. Did you mean 'audit', 'edit'?; see 'sia-gen --help'"),
        (
            ["edit", "--fase", "3"],
            "No such option: --fase (Possible options: --face, --faces, --set); see 'sia-gen edit --help'",
        ),
        (["audit", "--faces", "0"], "faces=0 is outside 1…100000; choose a number in that range"),
        (["audit", "--epsilon", "1/0"], "epsilon=1/0 is no number; write it as 1/255 or 0.004"),
        (["audit", "--epsilon", "1e400"], "epsilon=inf should be a finite number"),
        (
            ["audit", "--queries", "30"],
            "queries=30 is below 31, one pair a step; raise it or ask for fewer steps",
        ),
        (["audit", "--precision", "bf8"], "precision='bf8' should be 'no', 'bf16' or 'fp16'"),
        (["edit", "--precision", "bf8"], "precision=bf8 is none of no, bf16, fp16; choose one of these"),
        (["audit", "--seed", "-1"], "seed=-1 is outside 0…2147483647; choose a number in that range"),
        (["edit", "--seed", "2147483648"], "seed=2147483648 is outside 0…2147483647; choose a number in that range"),
        (["serve", "--seed", "-1"], "seed=-1 is outside 0…2147483647; choose a number in that range"),
        (["serve", "--port", "99999"], "Invalid value for '--port': "),
        (["attack", "--face", "-1"], "face=-1 is outside 0…99999; choose a number in that range"),
        (["attack", "--face", "1", "--faces", "2"], "--faces 2 and --face 1 exclude each other; give one of them"),
        (
            ["edit", "--faces", "65", "--generator", COLOURS],
            "65 faces are more than the 64 of one sheet; ask for fewer",
        ),
        (["edit", "--out", "face.jpg"], "'face.jpg' is no PNG; give --out a name that ends in .png"),
        (["edit", "--set", "redness"], "--set redness is no change; write it as attribute=+20"),
        (["edit", "--set", "a=1", "--set", "a=-2"], "--set a=-2: 'a' is already set to +1; set it once"),
        (["edit", "--set", "redness=inf"], "--set redness=inf is no change; write it as attribute=+20"),
        (
            ["edit", "--generator", COLOURS, "--set", "redness=+30"],
            "redness=+30 is outside the safe range -30…+20 points of 'colours'; lower it",
        ),
        (
            ["attack", "--generator", COLOURS, "--target", IS_RED, "--attributes", "redness,age"],
            "unknown attribute of 'colours' 'age': there are redness, blueness; choose one of these",
        ),
        (["edit", "--generator", COLOURS, "--device", "tpu9"], "device 'tpu9' cannot be used"),
        (
            ["audit", "--generator", COLOURS, "--target", IS_RED, "--pairs", "redness"],
            "'redness' is no pair of attributes; name two different ones",
        ),
        (
            ["audit", "--generator", COLOURS, "--target", IS_RED, "--pairs", "redness+age"],
            "unknown attribute of the audit 'age': there are redness, blueness; choose one of these",
        ),
        (["bench", "planted", "--steps", "0"], "steps=0 is below 1; train for at least one step"),
        (["bench", "planted", "--models", "0"], "models=0 is below 1; train at least one"),
        (["bench", "planted", "--renders", "absent"], "'absent' holds no renders; name a folder that"),
        (["bench", "rendering", "run", "--makehuman", "m", "--faces", "0"], "faces=0 is below 1; render one face or"),
        (["bench", "hardening", "--by", "magic"], "unknown regimen 'magic': there are standard, random"),
        (["bench", "hardening", "--by", ""], "by='' names no regimen; name one, as sia-semantic"),
        (["bench", "hardening", "--seeds", "0"], "seeds=0 is outside 1…1000"),
        (["bench", "hardening", "--radii", "two"], "radii=two is no number; write it as 1/255 or 0.004"),
        (["train", "target"], "Missing option '--renders'; see 'sia-gen train target --help'"),
        (
            ["train", "generator", "--renders", "r", "--out", "o", "--precision", "fp8"],
            "precision=fp8 is none of no, bf16; choose one of these",
        ),
        (["train", "all", "--makehuman", "m", "--out", "o", "--faces", "9"], "faces=9 are too few to train on; give"),
        (
            ["studio", "render", "--makehuman", "absent", "--faces", "2", "--out", "o", "--skew", "smile=age"],
            "--skew smile=age is no correlation; write it as factor=given:0.9",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_request_is_one_line_and_status_2(run, arguments, message):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_a_damaged_file_that_is_named_is_one_line_and_status_2(run, tmp_path, monkeypatch):
    monkeypatch.setenv("SIA_GEN_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    persist({"G_ema": Reference()}, tmp_path / "net.pkl", "")
    made = convert(tmp_path / "net.pkl", tmp_path / "mine")
    by_sefa(made, 2).save(tmp_path / "mine" / FILE)
    torch.save({"g_ema": {"a": torch.ones(99)}}, tmp_path / "net.pt")
    harmed = {name: tmp_path / name for name in ("net.pkl", "net.pt")}
    harmed |= {name: tmp_path / "mine" / name for name in ("model.safetensors", "config.json", FILE)}
    for name, path in harmed.items():
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        named = str(path) if path.suffix in (".pkl", ".pt") else "./mine"
        commands = [["edit", "--generator", named, "--out", "edit.png"]]
        commands += [["convert", named, "new"]] if named != "./mine" else []
        commands += [["find", "--by", "file", "--file", str(path), "--generator", "./mine"]] if name == FILE else []
        for command in commands:
            status, out, err = run(*command)
            assert (status, out, err.count("\n")) == (2, "", 1), (command, err)
            assert name in err or named in err
        path.write_bytes(whole)
    assert not {"new", "edit.png"} & {path.name for path in tmp_path.iterdir()}
    assert not [*tmp_path.glob("cache/converted/*")]


@pytest.mark.parametrize("name", ["smile-classifier/model.safetensors", "verifier/config.json", "net.onnx"])
def test_a_damaged_target_or_verifier_is_one_line_and_status_2(run, tmp_path, name):
    kind, harmed = name.split("/")[0], tmp_path / name
    if harmed.suffix == ".onnx":
        harmed.write_bytes(b"\x08\x07")
    else:
        shutil.copytree(pretrained_folder() / kind, tmp_path / kind)
        harmed.write_bytes(harmed.read_bytes()[:1000])
    told = ["--target", f"./{kind}"] if kind != "verifier" else ["--verifier", "./verifier"]
    status, out, err = run("audit", "--faces", "2", *told, "--out", "run")
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert kind in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "stopped; what was finished is kept where the command resumes\n"),
        (WorkError("the target gave NaN"), 1, "the target gave NaN\n"),
        (OSError(28, "No space left on device"), 1, "[Errno 28] No space left on device\n"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of"),
            1,
            "out of memory where no smaller batch helps (CUDA out of memory. Tried to allocate 2.00 GiB); "
            "use --device cpu or a smaller model\n",
        ),
    ],
)
def test_an_interruption_is_one_line(run, monkeypatch, error, status, message):
    def interrupt(*arguments):
        raise error

    monkeypatch.setattr("sia_gen.service.catalogue.attributes", interrupt)
    assert run("list", "attributes") == (status, "", message)


def test_lists_attributes(run):
    status, out, _ = run("list", "attributes", "--generator", COLOURS)
    assert status == 0
    assert "redness" in out
    status, out, _ = run("list", "attributes", "--generator", COLOURS, "--json")
    first = json.loads(out)["attributes"][0]
    assert (first["name"], first["unit"], first["low"], first["high"]) == ("redness", "points", -30.0, 20.0)


def test_finds_a_module_of_the_current_folder(run, tmp_path):
    (tmp_path / "my_faces.py").write_text("from tests.standins import colours")
    status, out, err = run("list", "attributes", "--generator", "my_faces:colours")
    assert (status, err) == (0, "")
    assert "redness" in out


@pytest.mark.parametrize("kind", ["generators", "targets"])
def test_lists_what_is_shipped(run, kind, monkeypatch, tmp_path):
    folder = tmp_path / "pretrained" / "tiny"
    folder.mkdir(parents=True)
    extra = {"kind": kind.removesuffix("s"), "label": {"attribute": "smile", "thresholds": [0.5]}}
    (folder / "config.json").write_text(json.dumps({"sia_gen": extra, "id2label": {"1": "smile", "0": "neutral"}}))
    (folder / "model.safetensors").write_bytes(b"0" * 1_500_000)
    for place in ("sia_gen.core.files", "sia_gen.service.catalogue"):
        monkeypatch.setattr(f"{place}.pretrained_folder", lambda: tmp_path / "pretrained")
    entries = json.loads(run("list", kind, "--json")[1])[kind]
    expected = {"name": "tiny", "size_mb": 1.5}
    if kind == "generators":
        expected["editable"] = False
    else:
        expected |= {"predicts": "smile", "classes": ["neutral", "smile"]}
    assert entries == [expected]
    assert "tiny" in run("list", kind)[1]


def test_edits_a_face(run, tmp_path):
    arguments = ["edit", "--generator", COLOURS, "--face", 7, "--set", "redness=+10", "--out", "new/edit.png"]
    status, out, err = run(*arguments)
    assert (status, err) == (0, "")
    assert out.endswith("Images: new/edit.png\n")
    with Image.open(tmp_path / "new" / "edit.png") as sheet:
        before, after = sheet.getpixel((sheet.width - 200, 60)), sheet.getpixel((sheet.width - 60, 60))
    assert abs(after[0] - before[0] - 25.5) <= 1
    assert after[1:] == before[1:]
    result = json.loads(run(*arguments, "--json")[1])
    assert result["changes"] == {"redness": 10.0}
    assert [(face["face"], face["seed"]) for face in result["faces"]] == [(7, 7)]


def test_draws_a_sheet_of_every_attribute(run, tmp_path):
    arguments = ["edit", "--generator", COLOURS, "--faces", 2, "--seed", 3]
    assert run(*arguments)[0] == 0
    with Image.open(tmp_path / "edit.png") as sheet:
        assert sheet.height == 16 + 4 * 128
    result = json.loads(run(*arguments, "--json")[1])
    assert [face["seed"] for face in result["faces"]] == [3_000_000, 3_000_001]
    redness, blueness = result["faces"][0]["attributes"]
    assert redness["asked"] == [-20.0, -10.0, 0.0, 10.0, 20.0]
    assert blueness["asked"] == [0.0, 0.0, 0.0, 10.0, 20.0]  # its safe range has no negative side


def test_attacks_a_few_faces(run, tmp_path):
    arguments = ["attack", "--generator", COLOURS, "--target", IS_RED, "--face", 1, "--face", 4, "--epsilon", "0"]
    status, out, err = run(*arguments)
    assert (status, err) == (0, "")
    assert out.endswith("Images: attack.png\n")
    with Image.open(tmp_path / "attack.png") as sheet:
        assert sheet.height == 16 + 2 * 128
    result = json.loads(run(*arguments, "--json")[1])
    assert (result["reference"], result["units"]) == (
        "target's own prediction",
        {"redness": "points", "blueness": "points"},
    )
    for row, number in zip(result["faces"], [1, 4], strict=True):
        assert (row["face"], row["before"], row["correct"]) == (number, "not red", True)
        assert row["changes"]["redness"] > 0
        assert row["changes"]["blueness"] == 0
        assert row["after"] == ("red" if row["success"] else "not red")
    gentle = json.loads(run(*arguments, "--gentle", "--json")[1])
    for row, before in zip(gentle["faces"], result["faces"], strict=True):
        assert row["queries"] == row["steps"] + 1 < before["queries"]


def test_leaves_out_what_the_target_predicts(run):
    arguments = ["attack", "--generator", COLOURS, "--target", "tests.standins:is_blue", "--json"]
    assert list(json.loads(run(*arguments)[1])["units"]) == ["redness"]
    assert list(json.loads(run(*arguments, "--attributes", "blueness")[1])["units"]) == ["blueness"]


def test_audits_and_resumes(run, tmp_path):
    arguments = ["audit", "--generator", COLOURS, "--target", IS_RED, "--faces", 4, "--epsilon", 0]
    status, out, err = run(*arguments)
    assert (status, err) == (0, "")
    folder = tmp_path / "runs" / "tests-standins-is-red"
    assert out.endswith("Report: runs/tests-standins-is-red/report.html\n")
    assert (folder / "report.html").is_file()
    assert "redness" in out
    written = (folder / "histogram.json").read_bytes()
    result = json.loads(run(*arguments, "--json")[1])
    assert (folder / "histogram.json").read_bytes() == written
    assert result["out"] == "runs/tests-standins-is-red"
    assert result["attributes"][0]["name"] == "redness"
    status, out, err = run("export", folder, "--out", "data")  # the run knows where its generator came from
    images = len(list((tmp_path / "data" / "images").iterdir()))
    assert (status, out, err) == (0, f"{images} images, written to data\n", "")
    status, out, err = run("compare", folder, folder)
    assert (status, err) == (0, "")
    assert out.startswith("4 faces that both read right are too few to say what differs between ")
    assert json.loads(run("compare", folder, folder, "--json")[1])["faces"] == result["correct"]
    status, _, err = run(*arguments, "--seed", 1)
    assert (status, err.count("\n")) == (2, 1)
    assert "seed=0, not 1; choose another --out" in err


def test_a_checkpoint_is_converted_its_attributes_found_and_audited(run, tmp_path):
    network = Reference()
    persist({"G_ema": network}, tmp_path / "net.pkl", "raise SystemExit")
    status, out, _ = run("convert", "net.pkl", "mine", "--json")
    assert status == 0
    assert json.loads(out)["resolution"] == 32
    status, out, _ = run("find", "--generator", "./mine", "--by", "sefa", "--count", "2", "--json")
    assert status == 0
    assert json.loads(out)["attributes"] == ["sefa-1", "sefa-2"]
    status, out, _ = run("find", "--generator", "./mine", "--by", "sefa", "--count", "1")
    assert out.startswith("1 attribute in 'w'\n")
    assert "not measured" in out
    status, out, _ = run("find", "--generator", "./mine", "--by", "sefa", "--count", "2", "--scorer", IS_RED)
    assert status == 0
    assert out.startswith("2 attributes in 'w'\n")
    channels = ["--by", "channels", "--scorer", IS_RED, "--beta", "0.5", "--out", "styles", "--json"]
    status, out, _ = run("find", "--generator", "./mine", *channels)
    assert status == 0
    assert json.loads(out)["space"] == "s"
    status, out, _ = run("audit", "--generator", "./mine", "--target", IS_RED, "--faces", "2", "--out", "run", "--json")
    assert status == 0
    assert {row["name"] for row in json.loads(out)["attributes"]} == {"sefa-1", "sefa-2"}
    assert run("edit", "--generator", "./mine?psi=9")[::2] == (
        2,
        "psi=9 is outside 0…2; choose a truncation in that range\n",
    )
    status, _, err = run("convert", "net.pkl", "mine")
    assert (status, err.count("\n")) == (2, 1)
    assert "'mine' is not empty; choose another folder" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--by", "sefa"], "'colours' has no styles to factorise; find directions by a scorer"),
        (["--by", "channels", "--scorer", IS_RED], "'colours' has no style channels to rank; find directions by a"),
        (["--by", "contrast", "--those", "1,x"], "--those 1,x are no numbers of faces; write them as 1,5,7"),
        (["--by", "contrast", "--those", "1,-2"], "--those 1,-2 holds a number below 0"),
        (["--by", "file"], "--by file wants --file, the attributes that somebody found; give it"),
        (["--faces", "0"], "faces=0 is outside 1…100000"),
        (["--by", "magic"], "Invalid value for '--by'"),
    ],
)
def test_a_wrong_way_to_find_attributes_is_one_line(run, arguments, message):
    status, _, err = run("find", "--generator", COLOURS, "--out", "found", *arguments)
    assert status == 2
    assert message in err


def test_what_an_encoding_lacks_ends_nothing(run, monkeypatch, capsys):
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-m", "sia_gen.cli", "list", "attributes", "--generator", "faces-stylegan2"]
    for extra in ([], ["--json"]):
        done = subprocess.run(command + extra, env=environment, cwd=ROOT, capture_output=True, check=True)
        text = done.stdout.decode("latin-1")
        assert "skin_tone" in text
        if extra:
            assert json.loads(text)["attributes"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", COLOURS], "'tests.standins:colours' gave a"),
        ([], "give a finished audit or a target"),
        (["--run", "none", "--target", IS_RED], "'none' holds no finished audit"),
        (["--run", "none", "--attributes", "redness"], "the audit 'none' has its own attributes and label; leave"),
        (["--run", "none"], "'none' holds no finished audit"),
        (["--target", IS_RED, "--by", "magic"], "unknown regimen 'magic'"),
        (["--target", IS_RED, "--faces", "2"], "faces=2 is outside 8"),
        (["--target", IS_RED, "--rate", "nan"], "rate=nan is outside"),
        (["--target", IS_RED, "--epsilon", "x"], "epsilon=x is no number"),
        (["--target", IS_RED, "--precision", "fp8"], "precision=fp8 is none of no, bf16;"),
        (["--target", IS_RED, "--label", "smile:0.5,0.7"], "needs 1"),
    ],
)
def test_a_wrong_hardening_is_one_line(run, arguments, message):
    status, out, err = run("harden", "--out", "mended", *arguments)
    assert (status, out) == (2, "")
    assert message in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "none"], "data 'none' is no folder"),
        (["--data", ".", "--class", "hats"], "unknown class attribute 'hats'"),
        (["--data", ".", "--class", "age:x"], "class age:x is no attribute with rising cuts"),
        (["--data", "."], "'.' holds neither images in a folder for each class nor"),
        (["--data", ".", "--by", "focal"], "unknown remedy 'focal'"),
        (["--data", ".", "--faces", "0"], "faces=0 is outside 1"),
        (["--data", ".", "--precision", "fp8"], "precision=fp8 is none of no, bf16;"),
    ],
)
def test_a_wrong_rebalancing_is_one_line(run, arguments, message):
    status, out, err = run("rebalance", "--class", "glasses", "--out", "mended", *arguments)
    assert (status, out) == (2, "")
    assert message in err.splitlines()[-1]


def test_a_model_learns_from_faces_of_a_rare_class(run, tmp_path, monkeypatch):
    monkeypatch.setattr("sia_gen.rebalancing.rebalance.JUDGED", 60)
    renders = read_renders(shipped_renders(), 60)
    worn = (renders.value("glasses") >= 0.5).long().tolist()
    feature = {"info": {"features": {"label": {"names": ["no glasses", "glasses"], "_type": "ClassLabel"}}}}
    pictures = []
    for image in renders.images:
        to_pil(image).save(data := BytesIO(), format="PNG")
        pictures.append({"bytes": data.getvalue(), "path": None})
    kept = [index for index, label in enumerate(worn) if not label or sum(worn[: index + 1]) <= 3]
    table = pa.table({"image": [pictures[index] for index in kept], "label": [worn[index] for index in kept]})
    (tmp_path / "data").mkdir()
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(feature)}), tmp_path / "data" / "a.parquet")
    few = ["--faces", "4", "--rounds", "1", "--steps", "2", "--batch", "8"]
    arguments = ["rebalance", "--data", "data", "--class", "glasses", "--target", "glasses-classifier", *few]
    status, out, _ = run(*arguments, "--out", "more")
    assert status == 0
    assert "balanced accuracy" in out
    assert "without 'glasses': of fewer than 5" in out
    told = json.loads(run(*arguments, "--out", "more", "--json")[1])
    assert told["added"] == [4, 4]
    assert set(told["figures"]["renders"]) == {"before", "after"}


def test_a_data_set_that_is_balanced_is_told_so(run, tmp_path):
    for name in ("no glasses", "glasses"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "data" / name / "0.png")
    status, out, _ = run("rebalance", "--class", "glasses", "--data", "data", "--out", "mended")
    assert status == 0
    assert "Note: the classes are balanced already" in out
    assert not (tmp_path / "mended").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "hats"], "unknown label 'hats'"),
        (["--ratios", "x"], "ratios=x are no whole numbers"),
        (["--ratios", "1"], "ratio=1 is outside 2"),
        (["--networks", "mlp"], "unknown network 'mlp'"),
        (["--seeds", "0"], "seeds=0 is outside"),
        (["--remedies", "magic"], "unknown remedy 'magic'"),
        (["--steps", "0"], "steps=0 is outside"),
        (["--faces", "1"], "faces=1 is outside"),
    ],
)
def test_a_wrong_imbalance_suite_is_one_line(run, arguments, message):
    status, out, err = run("bench", "imbalance", "--out", "suite", *arguments)
    assert (status, out) == (2, "")
    assert message in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--norm", "l1"], "norm=l1 is neither linf nor l2"),
        (["--baselines", "magic"], "no baseline 'magic'"),
        (["--target", "nobody"], "unknown target 'nobody'"),
        (["--steps", "0"], "steps"),
        (["--faces", "0"], "faces=0 is outside"),
        (["--epsilon", "1.5"], "epsilon=1.5 is more than 1"),
    ],
)
def test_a_wrong_comparison_of_attacks_is_one_line(run, arguments, message):
    status, out, err = run("bench", "attacks", *arguments)
    assert (status, out) == (2, "")
    assert message in err


def test_attacks_are_compared_on_stdout(run):
    given = ("--generator", COLOURS, "--target", IS_RED, "--faces", 4, "--steps", 2, "--baselines", "FGSM")
    status, out, _ = run("bench", "attacks", *given, "--out", "a.json")
    assert status == 0
    assert [name for name in ("FGSM", "semantic", "joint") if name in out] == ["FGSM", "semantic", "joint"]
    assert json.loads(Path("a.json").read_text())["rows"][0]["attack"] == "FGSM"


def test_the_attributes_of_a_shipped_generator_stay_as_they_are(run):
    status, _, err = run("find", "--by", "sefa")
    assert status == 2
    assert "the attributes of 'faces-stylegan2' come with it and stay as they are; give --out" in err


@pytest.mark.parametrize(
    "command",
    [
        "audit --generator nobody --target nobody --out file/run",
        "attack --generator nobody --target nobody --out file/face.png",
        "edit --generator nobody --out file/face.png",
        "bench attacks --generator nobody --baselines= --out file/table.json",
        "bench robustness --generator nobody --radii= --out file/table.json",
        "bench planted --generator nobody --out file/suite",
        "bench imbalance --quick --renders nobody --out file/suite",
        "harden --target nobody --out file/model",
        "find --generator nobody --by sefa --out file/attributes",
        "rebalance --generator nobody --data nobody --class glasses --out file/more",
        "export nobody --out file/faces",
        "train attributes --generator nobody --verifier nobody --out file/attributes",
        "bench hardening --target nobody --out file/suite",
        *(
            f"train {what} --renders nobody --out file/model"
            for what in ("generator", "generator --family ddpm", "verifier", "identity", "landmarks", "target")
        ),
    ],
)
def test_a_place_that_will_not_do_is_refused_before_anything_is_loaded(run, command):
    Path("file").write_text("in the way")
    status, _, err = run(*command.split())
    assert status == 2
    assert err.startswith("cannot write to 'file"), err
