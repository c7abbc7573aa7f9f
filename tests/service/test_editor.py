"""B faces, F factors."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from sia_gen.core.errors import RequestError
from sia_gen.service.editor import Editor, Reading
from sia_gen.targets.verifier import Factor
from tests.standins import colours


@pytest.fixture
def editor():
    """A verifier that reads redness exactly, in points."""
    factors = (Factor("hue", "turns", 0.0, 1.0), Factor("redness", "points", 50.0, 10.0))
    read = lambda images: torch.stack([images.mean(dim=(1, 2, 3)), 100 * images[:, 0].mean(dim=(1, 2))], dim=1)  # noqa: E731
    generator = colours()
    return Editor(generator, generator.attributes, SimpleNamespace(factors=factors, read=read))


def test_reads_a_change_back_in_units(editor):
    edits = editor.change([3, 4], {"redness": 10.0})
    assert edits.before.dtype == edits.after.dtype == torch.uint8
    for (reading,) in edits.readings:  # hue is no attribute
        assert isinstance(reading, Reading)
        assert (reading.name, reading.unit) == ("redness", "points")
        assert reading.after - reading.before == pytest.approx(10, abs=0.4)  # an 8-bit step is 0.39 points


def test_a_face_does_not_depend_on_its_batch(editor):
    together, alone = editor.change([3, 4], {"redness": 10.0}), editor.change([4], {"redness": 10.0})
    assert torch.equal(together.after[1:], alone.after)


def test_faces_are_drawn_in_another_precision(editor, monkeypatch):
    seen, plain = [], type(editor.generator).render
    monkeypatch.setattr(
        type(editor.generator), "render",
        lambda self, *given: seen.append(torch.is_autocast_enabled("cpu")) or plain(self, *given),
    )  # fmt: skip
    exact, half = (
        editor.change([3], {"redness": 10.0}),
        replace(editor, precision="bf16").change([3], {"redness": 10.0}),
    )
    assert seen == [False, False, True, True]
    assert (half.after.int() - exact.after.int()).abs().max() <= 2


def test_no_change_is_the_face_itself(editor):
    edits = editor.change([3], {})
    assert torch.equal(edits.before, edits.after)


def test_refuses_what_is_not_safe(editor):
    with pytest.raises(
        RequestError, match=r"^blueness=-1 is outside the safe range \+0…\+40 points of 'colours'; raise"
    ):
        editor.change([3], {"blueness": -1.0})


def test_sweeps_within_the_safe_range(editor):
    sweep = editor.sweep(3, "redness")
    assert sweep.asked == (-20.0, -10.0, 0.0, 10.0, 20.0)
    assert torch.equal(sweep.images[2], editor.change([3], {}).before[0])
    assert [value - sweep.read[2] for value in sweep.read] == pytest.approx(sweep.asked, abs=0.4)
    assert editor.sweep(3, "blueness").asked == (0.0, 0.0, 0.0, 10.0, 20.0)
    assert editor.sweep(3, "blueness").read == ()  # this verifier does not read it
