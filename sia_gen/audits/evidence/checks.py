"""What to look at before an audit is believed: each check says what is wrong and what would mend it.

Letters: B faces looked at.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sia_gen.audits.evidence.reference import VerifiedLabel
from sia_gen.audits.evidence.rendered import class_of
from sia_gen.core.errors import WorkError
from sia_gen.core.images import Images, from_bytes
from sia_gen.core.seeds import normals
from sia_gen.studio.renders import RenderSet
from sia_gen.targets.adapted import Adapted, Form
from sia_gen.targets.module import ModuleTarget
from sia_gen.targets.target import Target, ask, unanswered, within
from sia_gen.targets.task import Classification, Detection, Following, MultiLabel, Regression

ENOUGH = 32  # faces that an audit takes by default, where fewer may tell nothing
BATCH = 32  # renders at a time
LOOKED_AT, FEWEST = 32, 8  # faces, and how many can tell a classifier from a guess
SAME, BESIDE = 1e-4, 1e-3  # relative: what float32 leaves between two runs, and between batches of other sizes
UNLIKELY = 0.05  # chance of as many right answers by guessing


def in_training_mode(target: Target) -> list[str]:
    """What is to be said of a target that was handed over in training mode; ask before it is put into eval mode."""
    asked = within(target)
    network = asked.module if isinstance(asked, ModuleTarget) else asked
    if not (isinstance(network, nn.Module) and network.training):
        return []
    return ["it was in training mode and is audited in eval mode; call .eval() where it is used, too"]


def checks(target: Target, images: Images, reference: Tensor | None) -> list[str]:
    """What is to be said of a target by unedited 8-bit faces ``[B, 3, R, R]``: nothing where all is well.

    ``reference`` ``[B]`` is the true label where one is known.
    """
    with torch.no_grad():
        answers = [ask(target, images) for _ in range(2)]
        for answer in answers:
            target.task.check(answer.nan_to_num(), len(images))
        said, silent = [], unanswered(target, answers[0])
        if silent.any():
            count = int(silent.sum())
            said.append(
                f"it gave no answer (NaN) on {count} of {len(images)} unedited faces, which are not attacked; where an "
                "edited face has no answer, that counts as no change"
            )
            images, reference = images[~silent], None if reference is None else reference[~silent]
            answers = [answer[~silent].nan_to_num() for answer in answers]
        prediction, again = (_own(target, answer.float()) for answer in answers)
    size = prediction.abs().amax().clamp(min=1e-6)
    alike = len(images) > 1 and bool((prediction - prediction[:1]).abs().amax() <= SAME * size)
    apart = (prediction - again).abs().amax() / size
    if apart > SAME:
        said.append(
            f"it answers the same image differently, by up to {apart:.2g} of its outputs; fix its seed or switch its "
            "randomness off, or what succeeds may be chance"
        )
    elif len(images) > 1 and (apart := (prediction - _in_halves(target, images)).abs().amax() / size) > BESIDE:
        said.append(
            f"its answer to a face depends on the faces beside it, by up to {apart:.2g} of its outputs; put BatchNorm "
            "into eval mode and take no mean over the batch, or what succeeds may be the batch's doing"
        )
    elif alike:
        said.append("it says the same of every face; check its weights and that it looks at the image")
    if isinstance(target.task, MultiLabel) and (prediction >= 0).all() and (prediction <= 1).all():
        said.append("it seems to give probabilities, where above 0 means yes; return the logits before the sigmoid")
    if isinstance(target.task, Detection) and _all_found(target, images, prediction):
        said.append("its scores lie between 0 and 1, where above 0 means found; return them less the limit")
    if isinstance(target.task, Classification):
        said += _of_classes(target.task, prediction, reference, alike)
        if reference is not None:
            said += _in_another_form(target, images, reference)
    if target.differentiable:
        said += _of_gradients(target, images)
    return said


def outread(target: Target, verified: VerifiedLabel | None, renders: RenderSet) -> list[str]:
    """What is to be said where a target reads its own label off ``renders`` better than the verifier that judges it."""
    if verified is None or not isinstance(target.task, Classification):
        return []
    truth = class_of(target, renders.values)
    if truth is None:
        return []
    right = torch.zeros(2, len(renders), dtype=torch.bool)  # the target, the verifier
    with torch.no_grad():
        for start in range(0, len(renders), BATCH):
            part = slice(start, start + BATCH)
            images = from_bytes(renders.images[part]).to(verified.verifier.mean.device)
            said = torch.stack([target.task.decide(ask(target, images)), verified.read(images)])
            right[:, part] = said.cpu() == truth[part]
    alone = [int((right[row] & ~right[1 - row]).sum()) for row in range(2)]  # that only one of the two reads right
    if not sum(alone) or _tail(alone[0], sum(alone), 0.5) > UNLIKELY:
        return []
    share = right.float().mean(dim=1)
    return [
        f"it reads its label off {len(renders)} renders better ({share[0]:.1%} right) than the verifier that judges it "
        f"({share[1]:.1%}): where the two differ about an edited face either may be wrong, so go by what is confirmed"
    ]


def of_values(target: Target, verified: VerifiedLabel | None, images: Images) -> list[str]:
    """What is to be said of a regression whose values lie far from what the verifier reads off the same faces."""
    if (
        verified is None
        or not isinstance(target.task, Regression)
        or len(target.task.values) > 1
        or len(images) < FEWEST
    ):
        return []
    factor = verified.verifier.factors[verified.factor]
    with torch.no_grad():
        told = ask(target, images).float().cpu()[:, 0]
        read = verified.verifier.read(images)[:, verified.factor].float().cpu()
    off = float((told - read).abs().mean())
    if off <= 2 * factor.off or not told.std() > 0:  # as far as two readings of one thing lie apart
        return []
    alike = float(torch.corrcoef(torch.stack([told, read]))[0, 1])
    return [
        f"its values lie {off:.3g} {factor.unit} on average from what the verifier reads off the same faces (r = "
        f"{alike:.2f}), but what is right is said by itself: look whether it reads such faces at all"
    ]


def _in_halves(target: Target, images: Images) -> Tensor:
    """What the target says of the images asked from the last to the first, in two batches, in the order of images."""
    halves = [_own(target, ask(target, half).float()) for half in images.flip(0).chunk(2)]
    return torch.cat(halves).flip(0)


def few(correct: int, faces: int) -> list[str]:
    """What is to be said where too few faces were attacked to tell an attribute from chance."""
    if correct >= FEWEST:
        return []
    which = f"{correct}" if correct == faces else f"only {correct} of {faces}"
    return [f"{which} faces were right and could be attacked, too few to tell much; audit {ENOUGH} or more"]


def _own(target: Target, prediction: Tensor) -> Tensor:
    """What the target said itself, without the reference that may come along."""
    return prediction[:, 0] if isinstance(target.task, Following) else prediction


def _of_classes(task: Classification, prediction: Tensor, reference: Tensor | None, alike: bool) -> list[str]:
    said = []
    single = prediction.shape[1] == 2 and not prediction[:, 0].any()  # of one output, see `ModuleTarget`
    sure = prediction[:, 1] if single else prediction.sum(dim=1)
    what = "sigmoid, or log(p / (1 - p))" if single else "softmax, or the logarithms of what it gives"
    if not alike and (prediction >= 0).all() and (sure <= 1.001).all() and (single or (sure > 0.999).all()):
        said.append(
            "it seems to give probabilities, whose losses hardly differ where it is sure; return the logits before "
            f"the {what}"
        )
    decided = task.decide(prediction)
    if reference is None and len(decided) >= FEWEST and (decided == decided[0]).all():
        name = task.classes[int(decided[0])]
        said.append(f"it says '{name}' of all {len(decided)} unedited faces; check its weights and its normalisation")
    if reference is not None and len(reference) >= FEWEST:
        count, right = len(reference), int((decided == reference.to(prediction.device)).sum())
        commonest = int(torch.bincount(reference).amax())
        guessing = commonest / count
        if guessing < 1 and right < (1 + guessing) / 2 * count and _tail(right, count, guessing) > UNLIKELY:
            said.append(
                f"it is right on {right} of {count} unedited faces, where naming the commonest class each time would "
                f"be right on {commonest}; check its normalisation and the order of its classes, unless it was taught "
                "on other faces"
            )
    return said


FORMS = {
    "with their channels in the order blue, green, red; give --channels bgr": Form(channels="bgr"),
    "with values from 0 to 255; give --input-range 0,255": Form(high=255),
    "with values from -1 to 1; give --input-range -1,1": Form(low=-1),
    "normalised as ImageNet's are; give --input-range imagenet": Form(imagenet=True),
    **{f"at {side} px; give --size {side}": Form(size=side) for side in (64, 112, 160, 224)},
    **{f"only the middle {share:.0%} of each side; give --crop {share:g}": Form(crop=share) for share in (0.875, 0.7)},
}
"""Other ways to show a target pictures, and what to do where it is clearly more often right so."""


def _in_another_form(target: Target, images: Images, reference: Tensor) -> list[str]:
    """What is to be said where a classifier reads unedited faces better in a form that it is not shown them in."""

    def right(asked: Target) -> Tensor:
        return target.task.decide(ask(asked, images)).to(reference.device) == reference

    as_shown, said = right(target), []
    for how, form in FORMS.items():
        if _tail(missed := int((~as_shown).sum()), missed, 0.5) > UNLIKELY / len(FORMS):
            break  # no form could be clearly better
        try:
            so = right(Adapted.of(target, form, target.name))
        except WorkError:  # it takes pictures of one size, or a black box refuses such values
            continue
        better, worse = int((so & ~as_shown).sum()), int((~so & as_shown).sum())
        if better > worse and _tail(better, better + worse, 0.5) <= UNLIKELY / len(FORMS):
            said.append((int(so.sum()), how))
    if not said:
        return []
    count, how = max(said)
    return [f"it is right on {count} of {len(reference)} unedited faces, not on {int(as_shown.sum())}, if shown {how}"]


def _all_found(target: Target, images: Images, prediction: Tensor) -> bool:
    """Whether a detector's scores look like probabilities, for all pictures, even one without anything on it."""
    if not ((prediction > 0).all() and (prediction <= 1).all()):
        return False
    with torch.no_grad():
        return bool((ask(target, torch.full_like(images[:1], 0.5)) > 0).all())


def _of_gradients(target: Target, images: Images) -> list[str]:
    asked = images.clone().requires_grad_()
    prediction = ask(target, asked)
    if not prediction.requires_grad:
        return []  # the attack refuses it with its own words
    ways = normals([0], prediction.shape[1:], "checks").to(prediction.device)  # any mixture of the outputs
    (gradient,) = torch.autograd.grad((prediction.float() * ways).sum(), asked)
    dead = int((gradient.flatten(1).abs().amax(dim=1) == 0).sum())
    if not dead:
        return []
    return [
        f"its gradient is zero on {dead} of {len(images)} unedited faces, where an ascent learns nothing; return what "
        "comes before rounding, clipping or a saturated softmax, or set differentiable = False"
    ]


def _tail(right: int, count: int, share: float) -> float:
    """How likely guessing is right as often."""
    from scipy.stats import binom

    return float(binom.sf(right - 1, count, share))
