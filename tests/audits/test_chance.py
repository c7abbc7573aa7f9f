import numpy as np
import pyarrow as pa
import pytest

from sia_gen.audits.evidence.control import EACH
from sia_gen.audits.finished.audit_report import AuditReport
from sia_gen.audits.run.results import SWEPT, Outcomes, outcomes
from sia_gen.audits.verdict.chance import Chance, _within, picture_change, points, typical
from tests.problems import linear_problem

CHANGES = [0.0, 0.2, 0.1, 0.4, 0.2, 0.6, 0.3]  # at 0, then up and down in turn
OUTPUTS = [1.0, 0.9, 1.3, 0.5, 1.2, 0.8, 1.6]
FAILURES = [False, False, False, True, False, False, True]


def arm(outputs=OUTPUTS, failures=FAILURES, changes=CHANGES):
    """One face's sweep."""
    rows = pa.table({name: [values] for name, values in zip(SWEPT, (outputs, failures, changes), strict=True)})
    return Outcomes(rows, np.zeros(1), np.ones(1, bool), np.zeros(1), np.ones(1, bool), np.zeros(1, int))


@pytest.mark.parametrize(
    ("up", "down", "largest", "failed"),
    [
        (0.0, 0.0, 0.0, False),
        (0.1, 0.0, 0.05, False),  # half of the way to the first point
        (0.4, 0.0, 0.5, True),
        (0.6, 0.0, 0.5, True),  # the way on does less, and what was found stays
        (9.0, 0.0, 0.5, True),  # the last point is as far as it goes
        (0.2, 0.1, 0.3, False),
        (0.2, 0.25, 0.45, True),  # nearer to the failing point, or as near
        (0.2, 0.24, 0.42, False),
    ],
)
def test_the_largest_effect_within_a_change_of_the_picture(up, down, largest, failed):
    effect, fails = _within([points(arm(), name) for name in SWEPT], np.array([[up, down]]))
    assert effect[0] == pytest.approx(largest)
    assert fails[0] == failed


def test_ways_are_those_of_the_attribute():
    np.testing.assert_allclose(picture_change(arm()), [[0.6, 0.3]])


def test_a_run_is_looked_at_within_any_change(finished):
    """A linear generator and classifier: logits move with the picture, so that the whole sweep can be foretold."""
    chance, problem = Chance(finished), linear_problem()
    count = len(chance.face)
    frame = AuditReport.load(finished).to_pandas().query("correct")
    everything = chance.within(np.full((count, 2), np.inf))
    for number in range(EACH):
        rows = frame[frame["arm"] == f"random direction {number + 1}"]
        part = slice(number * count, (number + 1) * count)
        changed = (rows["output_after"] - rows["output_before"]).abs().to_numpy()
        np.testing.assert_allclose(everything.change[part], changed, rtol=1e-5)
        assert everything.success[part].tolist() == rows["success"].tolist()
    assert chance.reached(np.zeros((count, 2))) == 1
    furthest = picture_change(chance.arms[0])
    assert chance.reached(100 * furthest) == pytest.approx(0.01, rel=0.5)  # directions reach nearly as far
    assert chance.within(np.zeros((count, 2))).change.max() == 0
    assert not chance.within(np.zeros((count, 2))).success.any()
    sizes = [picture_change(outcomes(finished, name, SWEPT)) for name in problem.space.names]
    assert np.allclose(sizes[0][:, 0] * 4, sizes[3][:, 0], rtol=0.1)  # ranges of 1.5 and 6 units
    changes = [chance.within(size).change.mean() for size in sizes]
    assert changes == sorted(changes)
    assert changes[0] < typical(finished, problem.space.names).change.mean() < changes[3]


def test_without_a_correct_face_there_is_nothing_to_look_at():
    empty = arm().rows.slice(0, 0)
    nothing = Outcomes(empty, np.zeros(0), np.zeros(0, bool), np.zeros(0), np.zeros(0, bool), np.zeros(0, int))
    effect, fails = _within([points(nothing, name) for name in SWEPT], picture_change(nothing))
    assert effect.shape == fails.shape == (0,)
