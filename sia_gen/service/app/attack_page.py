"""An attacked face as a piece of a page: pictures, bars and the loss, step by step; it needs nothing from elsewhere."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

from sia_gen.audits.pages.page import filled
from sia_gen.core.images import to_pil
from sia_gen.service.replay import Replay, Step
from sia_gen.service.words import in_words

SIDE = 320  # of pictures on the page, in pixels
BARS = 7  # attributes that are drawn; the rest are counted
LEAST = 0.02  # of an attribute's half range: less is no bar
WIDTH, HEIGHT = 300, 120  # of the curve of the loss


def page(shown: Replay, under_way: str = "") -> str:
    """The attack in HTML: all of its steps, or while it is ``under_way`` the last one alone."""
    numbers = list(range(len(shown.steps)))
    now = numbers[-1] if under_way else shown.worst
    content = {
        "shown": shown,
        "about": shown.about,
        "under_way": under_way,
        "now": now,
        "last": numbers[-1],
        "before": _picture(to_pil(shown.steps[0].semantic)),
        "steps": [_step(shown, number) for number in (numbers[-1:] if under_way else numbers)],
        "curve": _curve(shown),
        "marks": [] if under_way else marks(shown),
        "headline": under_way or headline(shown),
    }
    return filled("sia_gen.service.app", "attack.html.jinja", {"percent": _percent}, content)


def headline(shown: Replay) -> str:
    """What became of the face, in one sentence."""
    about = shown.about
    if not shown.correct:
        return f"The target is wrong on face {about['face']} as it is, so it was not attacked. Take another face."
    worst, first = shown.steps[shown.worst], shown.steps[0]
    if about["said_after"] is not None and shown.failed:
        return (
            f"Face {about['face']} fails: '{about['said_before']}' became '{about['said_after']}'. The probability of "
            f"the right class fell from {_percent(first.output)} to {_percent(worst.output)}."
        )
    what = about["measured"].split(",")[0] or "the output"
    return (
        f"Face {about['face']} {'fails' if shown.failed else 'holds'}: {what} went from {first.output:.2f} to "
        f"{worst.output:.2f}."
    )


def marks(shown: Replay) -> list[tuple[str, str, str]]:
    """What was asked of the worst step: a word, its answer, and what that means."""
    if not shown.correct:
        return []
    found = [("failed", "yes" if shown.failed else "no", "the target errs there")]
    if not shown.failed:
        return [("failed", "no", "the target did not err at any step")]
    if shown.valid is None:
        found.append(("valid", "not judged", "no verifier knows such faces"))
    else:
        why = "; ".join(shown.doubts) or "same label, same person, a likely face"
        found.append(("valid", "yes" if shown.valid else "no", why))
    if shown.confirmed is None:
        found.append(("confirmed", "not judged", "no studio renders these faces here"))
    else:
        does = "the target errs, too," if shown.confirmed else "the target does not err"
        why = f"{does} where the studio renders this person so, without the residual"
        found.append(("confirmed", "yes" if shown.confirmed else "no", why))
    return found


def _step(shown: Replay, number: int) -> dict[str, Any]:
    step, first = shown.steps[number], shown.steps[0]
    bars = _bars(shown, step)
    return {
        "number": number,
        "semantic": _picture(to_pil(step.semantic)),
        "adversarial": _picture(to_pil(step.adversarial)),
        "residual": _uri(shown.residual(number), "PNG") if shown.gain else "",
        "failed": step.failed,
        "shares": [(name, first.shares[name], share) for name, share in step.shares.items()],
        "output": (first.output, step.output),
        "spent": step.spent,
        "bars": bars[:BARS],
        "fewer": max(0, len(bars) - BARS),
    }


def _bars(shown: Replay, step: Step) -> list[dict[str, Any]]:
    """The attributes that moved, the furthest first: the change in units, and as a share −1…1 of the safe range."""
    found = []
    for attribute in shown.attributes:
        value = step.changes[attribute.name]
        share = value / (attribute.high if value > 0 else -attribute.low) if value else 0.0
        if abs(share) >= LEAST:
            text = (f"{value:+.0f}" if abs(value) >= 10 else f"{value:+.2g}").replace("-", "−")
            meaning = attribute.positive if value > 0 else attribute.negative
            bar = {"name": in_words(attribute.name), "text": f"{text} {attribute.unit}", "meaning": meaning}
            found.append(bar | {"share": share})
    return sorted(found, key=lambda bar: -abs(bar["share"]))


def _curve(shown: Replay) -> dict[str, Any]:
    """The loss over the steps as points of a picture ``WIDTH`` × ``HEIGHT``; y of 0, where a classifier errs."""
    losses = [step.loss for step in shown.steps]
    low, high = min(*losses, 0.0), max(*losses, 0.0)
    span, steps = (high - low) or 1.0, max(1, shown.about["attack"]["steps"])
    x = [WIDTH * number / steps for number in range(len(losses))]
    y = [HEIGHT - HEIGHT * (loss - low) / span for loss in losses]
    return {
        "points": list(zip(x, y, losses, strict=True)),
        "zero": HEIGHT - HEIGHT * (0 - low) / span,
        "low": low,
        "high": high,
        "width": WIDTH,
        "height": HEIGHT,
        "steps": steps,
    }


def _percent(share: float) -> str:
    return f"{share:.0%}" if 0.01 <= share <= 0.99 else f"{share:.1%}"


def _picture(image: Image.Image) -> str:
    side = max(SIDE, image.width)
    return _uri(image.resize((side, side), Image.Resampling.LANCZOS), "WEBP", quality=88)


def _uri(image: Image.Image, kind: str, **options: Any) -> str:
    data = io.BytesIO()
    image.save(data, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"
