"""The imbalance suite: how long tails are cut, what rows say together, and one small run of all of it."""

import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from sia_gen.core.errors import RequestError
from sia_gen.core.files import read_tensors
from sia_gen.rebalancing import bench, case_rows, long_tail
from sia_gen.rebalancing.bench import QUICK, ROWS, Scale, imbalance_suite, scale_of
from sia_gen.rebalancing.case_rows import CaseRows
from sia_gen.rebalancing.faces_folder import Faces
from sia_gen.rebalancing.long_tail import CHOSEN_ON, TESTED, Tail, split
from sia_gen.rebalancing.measures import of_each
from sia_gen.rebalancing.rare_faces import TWICE
from sia_gen.rebalancing.remedies import TAUS, plan
from sia_gen.rebalancing.tally import difference, interval, tally
from sia_gen.service.commands.bench_tables import show_imbalance
from sia_gen.studio.renders import read_renders, shipped_renders

SMALL = Scale(labels=("glasses",), ratios=(10,), architectures=("resnet",), seeds=1, faces=6, steps=2, batch=8)


@pytest.fixture(scope="module")
def renders():
    return read_renders(shipped_renders(), 1400)


def test_a_long_tail_and_what_is_kept_from_it(renders):
    tail = Tail(label="glasses", ratio=10)
    parts = split(renders, tail, 50)
    most = parts.counts[0]
    assert parts.counts[1] == round(most / 10)
    assert parts.labels[parts.tail].bincount().tolist() == parts.counts
    assert parts.labels[parts.more].tolist() == [1] * min(50, most - parts.counts[1])
    assert parts.labels[parts.tested].bincount().tolist() == [TESTED] * 2
    assert parts.labels[parts.chosen_on].bincount().tolist() == [CHOSEN_ON] * 2
    rows = torch.cat([parts.tail, parts.more, parts.tested, parts.chosen_on])
    assert len(rows.unique()) == len(rows)  # nothing is both learnt from and measured on
    other = split(renders, replace(tail, ratio=50, seed=1), 50)
    assert torch.equal(other.tested, parts.tested)
    assert not torch.equal(other.tail[:most], parts.tail[:most])


def test_bands_between_fall_off_geometrically(monkeypatch, renders):
    monkeypatch.setattr(long_tail, "TESTED", 20)
    monkeypatch.setattr(long_tail, "CHOSEN_ON", 10)
    counts = split(renders, Tail(label="age", ratio=16), 10).counts
    assert counts == [round(counts[0] / ratio) for ratio in (1, 2, 4, 8, 16)]
    with pytest.raises(RequestError, match="too few for a ratio of 500"):
        split(renders, Tail(label="age", ratio=500), 10)


def test_two_labels_at_once_are_a_tail_of_four_classes_and_each_is_measured(monkeypatch, suite, tmp_path):
    monkeypatch.setattr(long_tail, "TESTED", 20)
    monkeypatch.setattr(long_tail, "CHOSEN_ON", 10)
    scale = replace(SMALL, labels=("glasses+smile",), remedies=("plain", "generated"))
    plain, generated = imbalance_suite(tmp_path, scale=scale)["rows"]
    assert plain["counts"] == [round(plain["counts"][0] / 10 ** (number / 3)) for number in range(4)]
    assert len(plain["recalls"]) == 4
    assert {*plain["each"]} == {"glasses", "smile"}
    assert generated["added"] == 24
    right = torch.tensor([[int(mark) for mark in marks] for marks in plain["right"]]).float()
    assert plain["balanced"] == pytest.approx(right.mean().item(), abs=1e-3)


def test_each_label_is_right_whatever_the_other_is():
    meant = Tail(label="glasses+smile", ratio=10).meant
    found = of_each(torch.eye(4), torch.tensor([0, 3, 2, 1]), meant)
    assert found == {"glasses": 0.5, "smile": 1.0}
    assert of_each(torch.tensor([[0.3, 0.3, 0.4, 0.0]]), torch.tensor([1]), meant)["glasses"] == 1.0


def test_how_many_faces_each_class_gets():
    assert plan([100, 30, 5], 50, beside=False) == {1: 50, 2: 50}
    assert plan([100, 80, 5], 50, beside=False) == {1: 20, 2: 50}
    assert plan([100, 80, 5], 500, beside=True) == {0: 95, 1: 95, 2: 95}
    assert plan([9, 9], 12, beside=False) == {0: 12, 1: 12}


def row(remedy, right, seed=0, worst=0.0, **more):
    shares = [marks.count("1") / len(marks) for marks in right]
    known = {"f1": 0.5, "ece": 0.1, "auroc": 0.5, "chosen_on": 0.5, "seconds": 1.0, "architecture": "resnet"}
    known |= {"label": "glasses", "ratio": 50, "remedy": remedy, "seed": seed, "right": right, "worst": worst}
    return known | {"balanced": sum(shares) / len(shares)} | more


def test_intervals_over_pictures_and_over_runs():
    low, high = interval([row("plain", ["1" * 50 + "0" * 50, "1" * 100])])
    assert (low + high) / 2 == pytest.approx(0.75, abs=1e-4)
    assert high - low == pytest.approx(2 * 1.96 * (0.25 / 100) ** 0.5 / 2, abs=1e-3)
    low, high = interval([{"balanced": value} for value in (0.5, 0.6, 0.7)])
    assert (low, high) == pytest.approx((0.6 - 4.3027 * 0.1 / 3**0.5, 0.6 + 4.3027 * 0.1 / 3**0.5), abs=1e-3)


def test_where_all_pictures_are_right_others_may_not_be():
    low, high = interval([row("plain", ["1" * 9, "1" * 9])])
    assert (low, high) == pytest.approx((1 - 1.96 * (0.05 * 0.95 / 10 / 2) ** 0.5, 1), abs=1e-4)
    found = difference([row("a", ["1" * 9])], [row("b", ["1" * 9])])
    assert found["interval"] == pytest.approx([-0.1960, 0.1960], abs=1e-4)  # a spread of 1 / 10


def test_a_difference_is_paired():
    first, second = row("a", ["1110", "1100"], worst=0.5), row("b", ["1100", "1000"], worst=0.25)
    found = difference([first], [second])
    assert (found["balanced"], found["worst"]) == (0.25, 0.25)
    assert found["interval"][0] < 0.25 < found["interval"][1]
    runs = [row("a", ["1", "1"], seed) for seed in range(3)]
    others = [row("b", ["1", "0"], seed) for seed in (2, 1, 0)]
    assert difference(runs, others) == {"balanced": 0.5, "interval": [0.5, 0.5], "worst": 0.0}
    assert difference(runs[:1], others[:1]) is None  # of other seeds


def test_what_the_rows_say_together():
    rows = [
        row("plain", ["11", "00"]), row("focal", ["11", "10"], chosen_on=0.9), row("erasing", ["11", "11"]),
        row("oracle", ["11", "11"]), row("generated", ["11", "10"]), row("sia-joint", ["11", "11"]),
    ]  # fmt: skip
    by = {entry["remedy"]: entry for entry in tally(rows)}
    assert [by[name]["gain"] for name in ("plain", "generated", "sia-joint")] == [0, 0.5, 1]
    assert by["sia-joint"]["rival"] == "focal"  # by what choices are made on, not by what is measured
    assert by["sia-joint"]["above_without"]["balanced"] == 0.25
    assert by["sia-joint"]["above_generated"]["balanced"] == 0.25
    assert by["focal"]["above_without"] is None


def test_what_is_asked_of_the_suite():
    assert scale_of(True) == QUICK
    assert scale_of(False, ratios=["10", "20"], labels=["age"], steps=None).ratios == (10, 20)
    with pytest.raises(RequestError, match="ratios=a are no whole numbers"):
        scale_of(False, ratios=["a"])


LIKE = [-1.0, 0.95, 0.6, 0.1, 0.2, 0.3, 0.95, *[0.1] * 5]  # the nearest before each of twelve people


@pytest.fixture
def suite(monkeypatch, renders):
    """Has noise in place of generated faces; gives what was made, and what was taught."""
    monkeypatch.setattr(bench, "read_renders", lambda folder: renders)
    made, taught = [], []

    def fill(folder, source, plan, hard, target, told, *, round_number=0, seed=0, progress=None):
        made.append((folder.name, dict(plan), hard, target is not None))
        folder.mkdir(parents=True, exist_ok=True)
        labels = torch.tensor([number for number, count in plan.items() for _ in range(count)])
        rows = [{"likeness": 0.1, "hard": hard != "generated"} for _ in labels]
        pictures = torch.randint(0, 256, (len(labels), 3, 128, 128), dtype=torch.uint8)
        return Faces(pictures, labels, rows, Counter({TWICE: 3}), 3.0), None

    plain = CaseRows._taught

    def counted(self, name, remedy, added):
        taught.append((name, 0 if added is None else len(added[1])))
        return plain(self, name, remedy, added)

    monkeypatch.setattr(bench, "fill", fill)
    judge = SimpleNamespace(alike=0.9, gate=SimpleNamespace(identity=SimpleNamespace(threshold=0.5)))
    monkeypatch.setattr(bench._Suite, "_source", lambda self, tail: judge)
    monkeypatch.setattr(bench, "nearest_before", lambda pictures, source: LIKE[: len(pictures)])
    monkeypatch.setattr(bench, "draw_people", lambda *given: None)
    monkeypatch.setattr(CaseRows, "_taught", counted)
    return made, taught


def test_the_suite_is_taught_measured_and_goes_on(monkeypatch, tmp_path, suite):
    made, taught = suite
    before, measure = {}, CaseRows._measured

    def timed(self, name, remedy, added, seconds):
        before[name] = seconds
        return measure(self, name, remedy, added, seconds)

    monkeypatch.setattr(CaseRows, "_measured", timed)
    found = imbalance_suite(tmp_path, scale=SMALL)
    names = [row["remedy"] for row in found["rows"]]
    assert names == [*before]
    assert sorted(names) == sorted(ROWS)
    assert {"logit-adjusted", "tau-normalised"}.isdisjoint(name for name, _ in taught)  # made of the plain one
    assert before["generated"] == before["generated-best"] == 3
    assert before["sia-best"] >= 6  # what it attacks was taught before
    added = dict(taught)
    assert [added[name] for name in ("oracle", "generated-rare")] == [6, 6]
    assert [added[name] for name in ("generated", "generated-alone", "sia-semantic", "sia-joint", "sia-best")] == [
        12
    ] * 5
    assert made[0] == ("faces-glasses-0", {1: 6, 0: 6}, "generated", False)
    assert [each[1:] for each in made[1:]] == [({0: 3, 1: 3}, "semantic", True), ({0: 3, 1: 3}, "joint", True)]
    assert (tmp_path / "glasses.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "imbalance.json").read_text())["table"] == found["table"]
    alone = next(row for row in found["rows"] if row["remedy"] == "tau-normalised")
    assert alone["tau"] in TAUS
    count = len(taught)
    (tmp_path / "glasses-10-resnet-0" / "oracle" / "row.json").unlink()
    again = imbalance_suite(tmp_path, scale=SMALL)
    assert [name for name, _ in taught[count:]] == ["oracle"]
    assert [row["balanced"] for row in again["rows"]] == [row["balanced"] for row in found["rows"]]
    with pytest.raises(RequestError, match="holds a suite with steps=2, not 3"):
        imbalance_suite(tmp_path, scale=replace(SMALL, steps=3))


def test_those_rows_alone_that_are_asked_for_and_what_they_need(tmp_path, suite):
    made, taught = suite
    some = imbalance_suite(tmp_path, scale=replace(SMALL, remedies=("tau-normalised", "sia-joint")))
    assert [row["remedy"] for row in some["rows"]] == ["plain", "tau-normalised", "generated", "sia-joint"]
    assert [name for name, _ in taught] == ["plain", "generated", "sia-joint"]
    assert [name for name, *_ in made] == ["faces-glasses-0", "faces-sia-joint"]
    assert [told["faces"] for told in some["faces"]] == ["generated", "sia-joint"]
    bare = imbalance_suite(tmp_path / "bare", scale=replace(SMALL, remedies=("plain",)))
    assert (len(bare["rows"]), bare["faces"], len(made)) == (1, [], 2)
    # A second call with the folder adds to what the first one found, and a ratio named twice is one.
    more = imbalance_suite(tmp_path, scale=replace(SMALL, remedies=("plain", "focal"), ratios=(*SMALL.ratios,) * 2))
    assert [row["remedy"] for row in more["rows"]] == [*(row["remedy"] for row in some["rows"]), "focal"]
    assert [(row["remedy"], row["runs"]) for row in more["table"]][-1] == ("focal", 1)
    assert more["faces"] == some["faces"]


def test_a_generator_of_the_tail_is_asked_for_as_many_faces(monkeypatch, tmp_path, suite):
    made, taught = suite
    asked = []

    def tail_faces(folder, data, tail, parts, wanted, place, progress):
        asked.append((folder.name, data.images.shape[-1], wanted))
        labels = torch.tensor([number for number, count in wanted.items() for _ in range(count)])
        pictures = torch.randint(0, 256, (len(labels), 3, 64, 64), dtype=torch.uint8)
        return Faces(pictures, labels, [{"hard": False} for _ in labels], Counter(), 7.0)

    monkeypatch.setattr(bench, "tail_faces", tail_faces)
    monkeypatch.setattr(bench, "read_as_told", lambda faces, source: 0.75)
    scale = replace(scale_of(True, tail=True, remedies=["oracle"]), ratios=(10,), faces=6, steps=2, batch=8)
    found = imbalance_suite(tmp_path, scale=scale)
    assert asked == [("generator-glasses-10-0", 64, {0: 6, 1: 6})]
    assert [row["remedy"] for row in found["rows"]] == ["oracle", "generated-tail", "generated-tail-alone"]
    assert dict(taught) == {"oracle": 6, "generated-tail": 12, "generated-tail-alone": 12}
    assert all(row["seconds"] >= 7 for row in found["rows"][1:])
    (told,) = found["faces"]
    assert (told["faces"], told["made"], told["read"], made) == ("generated-tail", 12, 0.75, [])
    assert (told["filtered"], told["compared"], told["twice"]) == (False, 12, round(2 / 12, 4))


def test_faces_that_were_refused_as_one_person_count_as_twice(monkeypatch, tmp_path, suite):
    monkeypatch.setattr(bench, "people_of", lambda real: torch.arange(7))  # fewer than the faces
    scale = replace(SMALL, remedies=("generated", "sia-joint"))
    plain, hard = imbalance_suite(tmp_path, scale=scale)["faces"]
    assert (plain["filtered"], plain["twice"], hard["twice"]) == (True, 3 / 15, round(3 / 9, 4))
    assert (plain["compared"], plain["above_threshold"]) == (7, 0)
    assert (hard["compared"], hard["renders"]["twice"]) == (6, round(1 / 6, 4))
    assert (plain["renders"]["twice"], plain["renders"]["above_threshold"]) == (round(2 / 7, 4), round(3 / 7, 4))


def test_each_row_learns_at_the_best_of_three_rates(monkeypatch, tmp_path, suite):
    tried, scores, teach = [], iter((0.5, 0.7, 0.6, 0.5, 0.6, 0.7)), case_rows.teach

    def taught(*given, rate, **named):
        tried.append((rate, teach(*given, rate=rate, **named)))
        return tried[-1][1]

    monkeypatch.setattr(case_rows, "teach", taught)
    monkeypatch.setattr(CaseRows, "_score", lambda self, model, remedy: next(scores))
    found = imbalance_suite(tmp_path, scale=replace(SMALL, remedies=("tau-normalised",), search=True))
    assert [rate for rate, _ in tried] == [0.002, 0.001, 0.004] * 2
    assert [(row["remedy"], row["rate"]) for row in found["rows"]] == [("plain", 0.5), ("tau-normalised", 2.0)]
    kept, _ = read_tensors(tmp_path / "glasses-10-resnet-0" / "plain" / case_rows.WEIGHTS)
    assert all(torch.equal(kept[name], value) for name, value in tried[1][1].state_dict().items())
    with pytest.raises(RequestError, match=r"holds a suite with rates=\[1.0, 0.5, 2.0\], not None"):
        imbalance_suite(tmp_path, scale=SMALL)


def test_what_is_printed_says_how_rows_were_chosen_and_what_renders_give(capsys):
    told = {"case": "glasses-50-resnet-0", "faces": "generated-tail", "made": 12, "hard": 0, "a_minute": 5.0}
    told |= {"twice": 0.25, "above_threshold": 0.98, "renders": {"twice": 0.125, "above_threshold": 0.93}, "read": 0.8}
    told |= {"filtered": False, "compared": 8}
    other = told | {"faces": "generated", "filtered": True}
    table = tally([row("plain", ["11", "00"])])
    show_imbalance({"table": table, "faces": [told, other], "settings": {"rates": [1.0, 0.5, 2.0]}})
    printed = " ".join(capsys.readouterr().out.split())
    assert "each row at the best of three learning rates" in printed
    assert "25.0% look like one before; 98% of the first 8 by the identity model's own threshold" in printed
    assert "(as many renders of different people: 12.5% look like one before, 93% by that threshold)" in printed
    assert "threshold); the verifier reads 80% as told" in printed
    assert "25.0% refused as one person twice; 98% of the first 8" in printed
    show_imbalance({"table": table, "faces": [], "settings": {}})
    assert "learning rates" not in capsys.readouterr().out
    two = [
        row("plain", ["11", "00"], seed=seed) | {"each": {"glasses": 0.5 + seed / 5, "smile": 0.75}} for seed in (0, 1)
    ]
    show_imbalance({"table": tally(two), "faces": [], "settings": {}})
    printed = " ".join(capsys.readouterr().out.split())
    assert "balanced 95 % glasses smile worst" in printed
    assert "60.0% 75.0%" in printed


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(RequestError, match=r"holds something else, 'mine\.txt' for one; choose another --out"):
        imbalance_suite(tmp_path, scale=SMALL)
