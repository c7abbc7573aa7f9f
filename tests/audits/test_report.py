import dataclasses
import html
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from sia_gen.attributes.attribute_space import Attribute
from sia_gen.audits.finished.audit_report import AuditReport
from sia_gen.audits.pages.report import write_report
from sia_gen.core.images import quantise, read_image
from sia_gen.core.seeds import face_seeds
from tests.audits.conftest import run

HOSTILE = "<script>alert('x')</script>"


@pytest.fixture
def page(finished):
    return (finished / "report.html").read_text(encoding="utf-8")


def test_needs_nothing_from_outside(page):
    assert re.findall(r'(?:src|href)="(?!data:image/png;base64,)[^"]*"', page) == []
    assert "<script" not in page
    assert "http" not in page


def test_every_picture_has_a_text(page):
    pictures = re.findall(r"<img [^>]*>", page)
    assert len(pictures) == 1 + 3 * 10 + 2 * 3 * 4  # curves, three of each face, two of three faces of each attribute
    assert all(re.search(r'alt="[^"]{10,}"', picture) for picture in pictures)


def test_tells_what_was_found_and_how(finished, page):
    report = AuditReport.load(finished)
    text = re.sub(r"<[^>]+>", " ", page)
    assert report.finding in text
    for row in report.histogram["attributes"]:
        counts = f"{row['successes']} of {row['attempted']} {row['interval'][0]:.0%}–{row['interval'][1]:.0%}"
        assert f"{row['success']:.0%} {counts}" in re.sub(r"\s+", " ", text)
    assert "the target's own prediction on the unedited face" in text
    assert "Left out: nothing" in text
    assert "sensitivity" in text
    assert "biased" not in text
    assert "steps 6, box 1, budget 1, epsilon 0.00392" in text


def test_each_bar_opens_the_faces_that_its_attribute_changed_most(finished, page):
    report = AuditReport.load(finished)
    bars = re.findall(r'<details name="bar".*?</details>', page, re.S)
    rows = report.histogram["attributes"]
    assert [re.search(r'"name">(?:▸ )?(\w+)', bar)[1] for bar in bars] == [row["name"] for row in rows]
    results = report.to_pandas()
    widest = max(max(row["output_interval"][1], row["control"]["output_change"]) for row in rows)
    for row, bar in zip(rows, bars, strict=True):
        assert float(re.search(r'<i style="width:([\d.e-]+)%', bar)[1]) == pytest.approx(
            100 * row["output_change"] / widest, rel=0.01
        )
        alone = results[results["arm"] == row["name"]]
        change = (alone["output_after"] - alone["output_before"]).abs()
        told = (alone["success"] + change / (1 + change)).sort_values(ascending=False, kind="stable").index[:3]
        assert [int(face) for face in re.findall(r"· face (\d+)", bar)] == alone["face"][told].tolist()
        assert bar.count("<img") == 6
    assert [" open>" in bar for bar in bars] == [True] + [False] * (len(bars) - 1)


def test_pictures_are_the_generators(finished, problem):
    for example in AuditReport.load(finished).histogram["examples"]:
        codes = problem.generator.sample(face_seeds(0, example["face"] + 1)[-1:])
        before = read_image(finished / example["images"]["before"])
        assert torch.equal(before, quantise(problem.generator.render(codes)[0]))
        if example["arm"] != "joint":
            omega = torch.tensor([[example["omega"].get(name, 0.0) for name in problem.space.names]])
            after = problem.generator.render(codes, problem.space.edits(omega), problem.space.space)[0]
            torch.testing.assert_close(read_image(finished / example["images"]["after"]), after, atol=0.004, rtol=0)


def test_an_older_run_without_an_attributes_faces_says_so(finished):
    report = AuditReport.load(finished)
    joint = [example for example in report.histogram["examples"] if example["arm"] == "joint"]
    write_report(report.histogram | {"examples": joint}, (), finished)
    assert (finished / "report.html").read_text().count("No pictures were kept.") == 4


def test_settings_are_in_words(finished, page):
    settings = html.unescape(re.sub(r"<[^>]+>", "", page[page.index("<h2>Settings") :]))
    assert re.search(r"^towardsnone$", settings, re.M)
    assert re.search(r"^pairsnone$", settings, re.M)
    assert "semantic step 0." in settings
    assert not re.search(r"None|\[|\{", settings.replace(AuditReport.load(finished).histogram["settings"]["task"], ""))


def test_names_are_escaped(problem):
    problem.target.name = HOSTILE
    attributes = (dataclasses.replace(problem.space.attributes[0], name=HOSTILE), *problem.space.attributes[1:])
    report = run(dataclasses.replace(problem, space=dataclasses.replace(problem.space, attributes=attributes)), faces=2)
    assert HOSTILE not in (report.folder / "report.html").read_text(encoding="utf-8")
    assert HOSTILE not in report._repr_html_()


@pytest.mark.parametrize(
    ("valid", "words"),
    [
        ({"valid": True}, ", fails, validly · face"),
        ({"valid": False}, ", fails, not validly · face"),
        ({"valid": None}, ", fails · face"),
        ({}, ", fails · face"),  # of a run that did not say
    ],
)
def test_a_pictured_failure_says_whether_it_is_valid(finished, valid, words):
    report = AuditReport.load(finished)
    example = {name: said for name, said in report.histogram["examples"][0].items() if name != "valid"}
    write_report(report.histogram | {"examples": [example | {"success": True, "omega": {}} | valid]}, (), finished)
    assert words in (finished / "report.html").read_text()


def test_captions_give_the_largest_changes_in_units(finished):
    report = AuditReport.load(finished)
    units = {"a0": ("years", 40.0), "a1": ("degrees", 30.0), "a2": ("EV", 2.0), "a3": ("", 1.0)}
    attributes = [
        Attribute(name, unit, -reach, reach, sd=1.0, slope=1.0, leakage=0.0) for name, (unit, reach) in units.items()
    ]
    example = report.histogram["examples"][0] | {"omega": {"a0": 38.0, "a1": -15.0, "a2": -0.26, "a3": 0.0}}
    write_report(report.histogram | {"examples": [example]}, attributes, finished)
    assert "<strong>a0 +38 years, a1 −15 degrees, a2 −0.26 EV</strong>" in (finished / "report.html").read_text()


def test_the_figure_of_one_face_has_room_for_its_bars(problem):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = run(problem, faces=1)
    assert report.histogram["attributes"][0]["output_interval"] is None
    assert report.histogram["attributes"][0]["output_change"] > 0


def test_charts_are_drawn_whatever_a_notebook_chose_for_its_own(tmp_path):
    script = (
        "from sia_gen.audits.pages.figure import new_figure; import os; figure = new_figure(); figure.add_subplot(); "
        f"figure.savefig({str(tmp_path / 'a.png')!r}); print(os.environ['MPLBACKEND'])"
    )
    chosen = "module://matplotlib_inline.backend_inline"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "MPLBACKEND": chosen},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == chosen
    assert (tmp_path / "a.png").stat().st_size > 100
