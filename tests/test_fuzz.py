"""Anything may be typed and anything may be passed: it is done, or refused in one line."""

import math
import os
import sys
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sia_gen
from sia_gen import cli
from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.core.errors import RequestError, WorkError
from tests.standins import colours, is_blue, is_red

TYPED = [
    *("", " ", "-", "--", "0", "-1", "2", "1.5", "1e3", "nan", "inf", "-inf", "1e400", "99999999999999999999", "0x10"),
    *("1_0", "٣", "1/0", "1/255", "0/0", "1/nan", "a", "red", "redness", "blueness", "redness,redness", "+", ","),
    *(
        "redness+blueness",
        "None",
        "null",
        "[]",
        "{x}",
        "%s",
        "True",
        "🙂",
        "a" * 3000,
        "..",
        "/",
        "/dev/null",
        "/proc/x",
    ),
    *("~", "a/b", "a\\b", "a:b", "sys:exit", "builtins:exit", "os:getcwd", "hf:", "hf:/", "opencv:", "opencv:x", ":x"),
    *("module:", "?", "x?size=1", "smile:nan", "redness:0.5", "redness:", ":0.5", "redness:1,0", "cuda:99", "cpu:x"),
    *("meta", "auto", "cpu", "a=1", "redness=", "redness=+5", "redness=nan", "=", "0,255", "255,0", "bgr", "imagenet"),
]
OPTIONS = {
    "audit": (
        "--generator", "--target", "--faces", "--attributes", "--out", "--steps", "--box", "--budget", "--epsilon",
        "--queries", "--towards", "--label", "--pairs", "--seed", "--device", "--size", "--channels", "--input-range",
        "--classes",
    ),
    "attack": (
        "--generator", "--target", "--face", "--faces", "--attributes", "--out", "--steps", "--box", "--budget",
        "--epsilon", "--queries", "--seed", "--device", "--size", "--channels", "--input-range", "--classes",
    ),
    "edit": ("--generator", "--face", "--faces", "--set", "--out", "--seed", "--device"),
    "list": ("--generator", "--seed", "--device"),
    "compare": ("--seed", "--device"),
    "export": ("--out", "--generator", "--seed", "--device"),
}  # fmt: skip
MODELS = ("--generator", "tests.standins:colours", "--target", "tests.standins:is_red")
SMALL = {
    "audit": (*MODELS, "--faces", "2", "--steps", "2"),
    "attack": (*MODELS, "--steps", "2"),
    "edit": MODELS[:2],
    "list": ("attributes", "--generator", "tests.standins:colours"),
    "compare": ("nowhere", "nowhere"),
    "export": ("nowhere", "--out", "new"),
}  # fmt: skip
PASSED = [
    None, True, False, 0, 1, 2, -1, 1.5, math.nan, math.inf, -math.inf, 10**30, "", "a", "2", "cpu", "redness", (), [],
    {}, ["redness"], ["redness", "redness"], [1], ("redness", "blueness"), [("redness", "blueness")], [("a",)], [[]],
    object(), b"a", 1j, {"a": 1}, lambda: 1, "red", "redness:0.5", "auto", "../x",
]  # fmt: skip
ASKED = (
    "attributes",
    "faces",
    "seed",
    "towards",
    "label",
    "pairs",
    "confirm",
    "device",
    "attack",
    "generator",
    "target",
)
ANYHOW = settings(
    max_examples=int(os.environ.get("FUZZ", "40")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


@contextmanager
def one_line():
    """Refused or done."""
    try:
        yield
    except (RequestError, WorkError) as error:
        refused = str(error)
    else:
        return
    assert refused
    assert "\n" not in refused


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Without the shipped verifier, which takes seconds to load and reads no colours."""
    monkeypatch.setattr("sia_gen.audits.evidence.reference.shipped", lambda kind: [])


@ANYHOW
@given(
    command=st.sampled_from([*OPTIONS]),
    given_options=st.data(),
    count=st.integers(1, 2),
)
def test_whatever_is_typed_is_done_or_refused_in_one_line(
    command, given_options, count, tmp_path_factory, capsys, monkeypatch
):
    folder = tmp_path_factory.mktemp("typed")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    line = ["sia-gen", command, *SMALL[command]]
    for _ in range(count):
        line += [given_options.draw(st.sampled_from(OPTIONS[command])), given_options.draw(st.sampled_from(TYPED))]
    with patch.object(sys, "argv", line), pytest.raises(SystemExit) as stopped:
        cli.main()
    err = capsys.readouterr().err
    assert (stopped.value.code or 0) in (0, 1, 2), line
    assert "Traceback" not in err, line
    if stopped.value.code:
        assert len(err.splitlines()[-1]) > 10, line


@ANYHOW
@given(
    name=st.sampled_from(ASKED),
    value=st.sampled_from(PASSED),
    other=st.sampled_from(ASKED),
    second=st.sampled_from(PASSED),
)
def test_whatever_is_passed_to_an_audit_is_done_or_refused(name, value, other, second):
    asked = {
        "generator": colours(),
        "target": is_blue(),
        "attributes": colours().attributes,
        "faces": 2,
        "attack": ATTACK,
    }
    with one_line():
        sia_gen.audit(**asked | {name: value, other: second})


ATTACK = SemanticImageAttack(steps=2)
FIELDS = [*SemanticImageAttack.__dataclass_fields__]


@ANYHOW
@given(name=st.sampled_from(FIELDS), value=st.sampled_from(PASSED))
def test_whatever_is_set_of_an_attack_is_kept_or_refused(name, value):
    with one_line():
        made = SemanticImageAttack(**{name: value})
        assert eval(repr(made), {"SemanticImageAttack": SemanticImageAttack}) == made


@pytest.mark.parametrize("target", [is_red, is_blue])
def test_what_is_typed_in_full_is_done(target):
    assert sia_gen.audit(colours(), target(), colours().attributes, faces=2, attack=ATTACK).finding
