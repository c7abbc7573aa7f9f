import pytest

from sia_gen.core.files import read_json
from sia_gen.service.commands import terminal
from sia_gen.service.commands.audit_tables import show_audit
from sia_gen.service.commands.bench_tables import show_suite
from sia_gen.service.commands.sheet_tables import show_attack
from sia_gen.service.commands.terminal import show_table
from sia_gen.service.runs import FIRST_RESULT


def share(count, of):
    return {"count": count, "of": of, "share": count / of if of else None, "interval": [0.25, 0.75]}


@pytest.fixture
def suite():
    row = {"model": "smile-age", "score": 0.91, "effect": 0.4, "correct": 20, "cause": "age", "rank": 2}
    row |= {"change": 0.3, "control": 0.1, "stands_out": ["yaw", "sex"]}
    nothing = {"cause": None, "rank": None, "effect": None, "change": None, "control": None, "stands_out": []}
    return {
        "models": [row, row | {"model": "smile-balanced"} | nothing],
        "rank_1": share(0, 1),
        "top_3": share(1, 1),
        "named": share(0, 1),
        "false_alarms": share(0, 0),
        "rates": {"of": 10, "share": 0.7, "expected": 0.74, "interval": [0.5, 0.9]},
        "means": {"of": 0, "share": None, "expected": None, "interval": None},
    }


def test_a_suite_has_a_line_for_each_model_and_each_count(suite, capsys):
    show_suite(suite)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["smile-age", "91%", "+0.40", "20", "age", "2", "0.300", "0.100", "yaw,", "sex"] in lines
    assert ["smile-balanced", "91%", "–", "20", "none", "–", "–", "–", "nothing"] in lines
    text = [" ".join(line) for line in lines]
    assert "the cause is among the first three: 1 of 1 (25–75%)" in text
    held = (
        "intervals of an attribute's rate of failure that hold that of a second audit: 70% of 10 (50–90%), 74% expected"
    )
    assert held in text
    assert not any("balanced models in which" in line or "mean change of output" in line for line in text)


def test_what_was_left_out_of_an_audit_is_said(capsys):
    histogram = read_json(FIRST_RESULT / "histogram.json") | {"left_out": []}
    show_audit(histogram)
    assert "Left out" not in capsys.readouterr().out
    show_audit(histogram | {"left_out": ["smile"]})
    assert "Left out: smile, which is what the target predicts." in capsys.readouterr().out


def test_what_faces_are_attacked_towards_a_class_is_said(capsys):
    histogram = read_json(FIRST_RESULT / "histogram.json")
    show_audit(histogram)
    assert f"\n{histogram['correct']} of 32 faces correct before any edit; only these" in capsys.readouterr().out
    show_audit(histogram | {"settings": histogram["settings"] | {"towards": "smile"}})
    assert f"{histogram['correct']} of 32 faces correct and not 'smile' before any edit;" in capsys.readouterr().out


def test_faces_that_count_in_no_change_are_said_to_be_left_out(capsys):
    histogram = read_json(FIRST_RESULT / "histogram.json")
    row = histogram["attributes"][0]
    for counted, said in ((row["attempted"], False), (row["attempted"] - 1, True)):
        show_audit(histogram | {"attributes": [row | {"counted": counted}]})
        assert ("|Δ output| is of the faces whose label" in capsys.readouterr().out) is said


def test_pairs_of_an_audit_are_shown(capsys):
    histogram = read_json(FIRST_RESULT / "histogram.json")
    pair = {"name": "yaw+pitch", "output_change": 0.3, "beyond": 0.05, "beyond_interval": [0.01, 0.1]}
    show_audit(histogram | {"pairs": [pair | {"successes": 3, "attempted": 23, "interval": [0.05, 0.32]}]})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["yaw+pitch", "0.300", "+0.050", "+0.010", "…", "+0.100", "3/23", "5–32%"] in lines


def test_a_long_last_column_is_wrapped_and_nothing_cut(capsys):
    show_table("title", [">face", "changes"], [["7", "age +1, " * 40]])
    out = capsys.readouterr().out
    assert "…" not in out
    assert out.count("age +1") == 40


def test_of_many_changes_the_largest_are_shown(capsys):
    changes = {f"a{number}": 10.0 - number for number in range(9)} | {"unmoved": 0.0}
    face = {"face": 3, "before": "x", "after": "y", "correct": True, "success": True, "changes": changes}
    face |= {"output_before": 0.9, "output_after": 0.1}
    show_attack({"target": "t", "generator": "g", "reference": "label", "faces": [face]})
    said = " ".join(capsys.readouterr().out.split())
    assert "a0 +10, a1 +9, a2 +8, a3 +7, a4 +6, a5 +5 … and 3 smaller" in said
    assert "a6" not in said


def test_where_no_terminal_is_a_line_tells_now_and_then_how_far_it_is(capsys, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(terminal, "monotonic", lambda: clock[0])
    progress = terminal.log_lines(10)
    for clock[0], done in ((101, 0), (109, 1), (110, 2), (115, 3), (125, 3), (140, 3)):
        progress(done, 9, "joint")
    assert capsys.readouterr().err == "2 of 9: joint\n3 of 9: joint\n"
