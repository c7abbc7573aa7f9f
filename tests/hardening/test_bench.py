"""The suite that hardens copies of a model by every regimen and measures each."""

import json
from dataclasses import replace

import pytest

from sia_gen import load_target
from sia_gen.audits.evidence import validity
from sia_gen.audits.proof import baselines
from sia_gen.audits.proof import robustness as measuring
from sia_gen.audits.proof.suite import SETTINGS, require_same_suite
from sia_gen.core.errors import RequestError
from sia_gen.core.files import write_json
from sia_gen.hardening import bench as module
from sia_gen.hardening import harden as hardening
from sia_gen.hardening.bench import Cells, hardening_suite
from sia_gen.hardening.regimens import HardeningSettings
from sia_gen.hardening.tally import measures_of, tally
from sia_gen.service.commands.bench_tables import show_hardening


def rows(**values):
    """A row per seed for each regimen, of one measure and the seconds."""
    return [
        {"by": by, "seed": seed, "measures": {"clean": share, "seconds": seconds}}
        for by, told in values.items()
        for seed, (share, seconds) in enumerate(told)
    ]


def test_means_and_intervals_are_over_seeds():
    table = {
        each["by"]: each["measures"]
        for each in tally(rows(standard=[(0.5, 10), (0.6, 20)], pgd=[(0.7, 30), (0.9, 30)], alone=[(0.4, None)]))
    }
    assert table["pgd"]["clean"]["mean"] == pytest.approx(0.8)
    assert table["pgd"]["clean"]["interval"] == [0.0, 1.0]  # 0.8 ± 12.7 · 0.1, of a share
    assert table["pgd"]["seconds"]["interval"] == [30, 30]
    assert table["pgd"]["times standard"]["mean"] == pytest.approx((3 + 1.5) / 2)
    more = table["pgd"]["clean"]
    assert more["more"] == pytest.approx(0.25)
    assert more["more_interval"] == pytest.approx([0.25 - 12.706 * 0.05, 0.25 + 12.706 * 0.05], abs=1e-3)
    assert table["standard"]["clean"]["more"] is None
    assert table["alone"]["clean"] == {
        "mean": 0.4, "interval": None, "more": pytest.approx(-0.1), "more_interval": None,
    }  # fmt: skip
    assert table["alone"]["times standard"]["mean"] is None


def test_what_stood_is_of_all_faces_and_what_failed_of_those_read_right():
    arm = {"attempted": 4, "successes": 3, "success": 0.75, "valid": 0.25, "confirmed": {"of": 2, "confirmed": 1}}
    report = {
        "clean": {"balanced": 0.9, "worst": 0.8, "cells": {"yaw": [[0.9, 0.7], [None, 0.8]]}},
        "pixels": [{**arm, "epsilon": 2 / 255}], "semantic": arm, "joint": {**arm, "confirmed": None},
        "alone": {"yaw": {"success": 0.5}, "age": {"success": 0.0}},
        "extremes": {"yaw": {"low": {"of": 1, "failed": 1}, "high": {"of": 3, "failed": 0}}},
        "corruptions": {"fog": [0.5, 0.7]},
    }  # fmt: skip
    found = measures_of(report, 8, {"drawing": 1.0, "learning": 2.0})
    assert (found["clean"], found["worst group"], found["cause, worst side"]) == (0.9, 0.8, 0.7)
    assert (found["pixels 2/255 fail"], found["pixels 2/255 stood"]) == (0.75, 1 / 8)
    assert (found["semantic confirmed"], found["joint confirmed"]) == (0.5, None)
    assert (found["alone fail, mean"], found["extremes fail, mean"]) == (0.25, 0.25)
    assert found["corrupted"] == pytest.approx(0.6)
    assert found["seconds"] == 3
    bare = report | {"clean": None, "extremes": None, "corruptions": None, "pixels": []}
    found = measures_of(bare, 8, None)
    assert (found["clean"], found["extremes fail, mean"], found["corrupted"], found["seconds"]) == (None,) * 4


CELLS = Cells(
    by=("standard", "sia-semantic"), seeds=1, judged=4, radii=(), corrupt=False,
    hardening=HardeningSettings(faces=8, rounds=1, steps=2, batch=8),
)  # fmt: skip


@pytest.fixture
def quick(monkeypatch):
    """What is measured, small; gives how often each piece of work was done."""
    for name, count in (("CLEAN", 60), ("EXTREME", 1)):
        monkeypatch.setattr(measuring, name, count)
    monkeypatch.setattr(hardening, "JUDGED", 60)
    monkeypatch.setattr(validity, "COMPARED", 16)
    monkeypatch.setattr(module, "STEPS", 1)
    done = {"read": 0, "hardened": 0}
    read, harden = measuring.read_renders, module.harden

    def counting(name, work):
        def run(*given, **options):
            done[name] += 1
            return work(*given, **options)

        return run

    monkeypatch.setattr(measuring, "read_renders", counting("read", read))
    monkeypatch.setattr(module, "harden", counting("hardened", harden))
    return done


def test_every_regimen_has_a_cell_and_the_suite_goes_on(quick, tmp_path, capsys):
    found = hardening_suite(tmp_path, cells=CELLS, attributes=["light_azimuth"])
    assert json.loads((tmp_path / "hardening.json").read_text()) == json.loads(json.dumps(found))
    assert [(row["by"], row["seed"]) for row in found["rows"]] == [
        ("untouched", None), ("standard", 0), ("sia-semantic", 0),
    ]  # fmt: skip
    assert found["settings"]["cause"] == "light_azimuth"  # as the target's own folder says
    plain, standard, semantic = (row["measures"] for row in found["rows"])
    assert plain["cause, worst side"] < 0.3
    assert plain["seconds"] is None
    assert standard["seconds"] > 0
    assert found["table"][1]["measures"]["times standard"]["mean"] == 1
    assert standard["clean"] != plain["clean"]
    assert semantic["semantic stood"] is not None
    assert quick == {"read": 1, "hardened": 2}  # renders are read once for all models
    assert load_target(tmp_path / "standard-0" / "model").label.attribute == "smile"
    show_hardening(found)
    shown = capsys.readouterr().out
    assert "seconds, times standard" in shown
    assert "cause, worst side: share right on renders of a class on the worse side of the planted cause" in shown
    assert "in pixels by" not in shown
    show_hardening({**found, "settings": found["settings"] | {"pixel_attacks": ["APGD-CE", "Square"]}})
    assert "in pixels by APGD-CE, Square" in " ".join(capsys.readouterr().out.split())
    assert "sia-semantic over standard, points: clean" in shown

    (tmp_path / "standard-0" / "row.json").unlink()
    assert hardening_suite(tmp_path, cells=CELLS, attributes=["light_azimuth"]) == found
    assert quick["hardened"] == 3
    with pytest.raises(RequestError, match="holds a suite with judged=4, not 5; choose another --out"):
        hardening_suite(tmp_path, cells=replace(CELLS, judged=5), attributes=["light_azimuth"])


def test_attacks_in_pixels_stay_those_that_a_folder_began_with(monkeypatch, tmp_path):
    class Reached(Exception):
        pass

    def reached(*given, **options):
        raise Reached

    more = [False]
    monkeypatch.setattr(baselines, "find_spec", lambda name: object() if more[0] or name == "art" else None)
    monkeypatch.setattr(module, "Robustness", reached)
    cells = replace(CELLS, by=("standard",), radii=(1 / 255,))
    opened = []
    monkeypatch.setattr(module, "require_same_suite", lambda out, settings, **given: opened.append(settings))
    with pytest.raises(Reached):
        hardening_suite(tmp_path, cells=cells)
    (settings,) = opened
    assert settings["pixel_attacks"] == ["APGD-CE", "DeepFool", "Square"]
    old = {name: value for name, value in settings.items() if name != "pixel_attacks"}
    write_json(tmp_path / SETTINGS, old)  # as older versions wrote it
    monkeypatch.setattr(module, "require_same_suite", require_same_suite)
    with pytest.raises(Reached):
        hardening_suite(tmp_path, cells=cells)
    more[0] = True
    with pytest.raises(RequestError, match=r"pixel_attacks=\['APGD-CE', 'DeepFool', 'Square'\], not .*'FAB-T'"):
        hardening_suite(tmp_path, cells=cells)
    write_json(tmp_path / SETTINGS, settings)
    with pytest.raises(RequestError, match="pixel_attacks="):
        hardening_suite(tmp_path, cells=cells)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": ("magic",)}, "unknown regimen 'magic'"),
        ({"judged": 0}, "judged=0 is outside"),
        ({"radii": (2.0,)}, "radius 2.0 is outside"),
    ],
    ids=str,
)
def test_wrong_requests_are_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(RequestError, match=message):
        hardening_suite(tmp_path / "out", cells=Cells(**options))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": ()}, "names no regimen"),
        ({"by": ("pgd", "pgd")}, "by=pgd,pgd names a regimen twice"),
        ({"seeds": 0}, "seeds=0 is outside"),
    ],
    ids=str,
)
def test_cells_that_are_none_are_refused(options, message):
    with pytest.raises(RequestError, match=message):
        Cells(**options)
