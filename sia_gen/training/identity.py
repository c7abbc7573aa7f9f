"""Trains the identity model: pictures of one person come together on a sphere, those of others lie apart.

The loss is cross-entropy over the people trained on, of cosines less a margin (Wang et al., "CosFace", CVPR 2018).

Letters: B images, N faces, P people, E numbers of an embedding.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sia_gen.core.errors import RequestError
from sia_gen.core.executors import Precision, Progress
from sia_gen.core.files import read_json, writable_folder, write_json
from sia_gen.core.images import from_bytes
from sia_gen.core.modules import one_seed
from sia_gen.core.seeds import normals
from sia_gen.studio.renders import HELD_OUT, RenderSet, read_renders
from sia_gen.targets.identity import load_identity
from sia_gen.training.card import SHEET, draw_sheet, table, write_card
from sia_gen.training.groups import groups
from sia_gen.training.loop import learn, scaled_rate
from sia_gen.training.network import SIDE, SIZES, augment, make_resnet, mirrored_at_random, network_input, save_network
from sia_gen.training.processes import TRAINING, first_writes, training_device

BATCH, RATE, EMBEDDING = 64, 2e-3, 64
SCALE, MARGIN = 20.0, 0.2
GROUP = "equal error rate where "
SHOWN = 6  # people on the sheet
FALSELY = 0.01  # of the pairs of two people, how many the threshold takes for one


class Centres(nn.Module):
    """An embedding network and, for the time of its training, a point on the sphere for each of P people."""

    def __init__(self, network: nn.Module, points: Tensor) -> None:
        super().__init__()
        self.network, self.points = network, nn.Parameter(points)

    def forward(self, pixels: Tensor, who: Tensor) -> Tensor:
        """The loss, a scalar, of pictures ``[B, 3, R, R]`` of the people ``who`` ``[B]``."""
        embedded = F.normalize(self.network(pixels).logits.float(), dim=1)
        cosines = embedded @ F.normalize(self.points, dim=1).T  # [B, P]
        theirs = who[:, None] == torch.arange(len(self.points), device=who.device)
        return F.cross_entropy(SCALE * (cosines - MARGIN * theirs), who)


def train_identity(
    renders: str | Path,
    out: str | Path,
    *,
    steps: int = 4000,
    batch: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    precision: Precision = "no",
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train on ``renders`` that show each person several times; write a transformers folder to ``out``.

    Returns what it does on pairs of pictures of people that it has not seen: the threshold at which as large a share
    of the pairs of one person is missed as of the pairs of two people passes, that share ("equal_error"), how many
    pairs of one person reach what 1 % of the others do ("recognised"), the mean cosine of both kinds, and the equal
    error rate within subgroups. ``batch`` is 64 unless given, on a GPU 256; ``precision`` "bf16" trains in mixed
    precision. Interrupted, the same call goes on. Raises `RequestError` for renders that show each person once.
    """
    data = read_renders(renders)
    if data.settings["pictures"] < 2:
        raise RequestError(f"'{renders}' shows each person once; render with --pictures 8")
    out, place = writable_folder(out), training_device(device)
    training = data.training
    people, who = data.identity[:training].unique(return_inverse=True)
    strangers = training + (~torch.isin(data.identity[training:], people)).nonzero().squeeze(1)
    shown = data.identity[strangers].unique(return_counts=True)[1]
    if len(shown) < 2 or shown.amax() < 2:
        raise RequestError(f"{len(data)} renders hold out fewer than two people and a pair to try it on; render more")
    extra = {"kind": "identity", "threshold": 0.0}
    with one_seed(seed):
        network = make_resnet([f"embedding {i}" for i in range(EMBEDDING)], SIZES, True, extra)
    model = Centres(network, normals([seed], (len(people), EMBEDDING), "centres")[0])
    model = model.to(place, memory_format=torch.channels_last)

    def prepare(random: torch.Generator, images: Tensor, shown: Tensor) -> tuple[Tensor, ...]:
        images, _ = mirrored_at_random(augment(images, random), random)
        return images, shown

    def loss(centres: nn.Module, kind: object, images: Tensor, shown: Tensor) -> Tensor:
        return centres(network_input(images, SIDE), shown)

    tables = (data.images[:training], who)
    made, settings = learn(
        "identity",
        model,
        data,
        tables,
        prepare,
        loss,
        out,
        usual=BATCH,
        rate=RATE,
        steps=steps,
        batch=batch,
        seed=seed,
        precision=precision,
        progress=progress,
    )
    assert isinstance(made, Centres)

    def finish() -> dict[str, float]:
        save_network(made.network.cpu(), out, SIDE)
        figures = evaluate(out, data, strangers, place)
        config = read_json(out / "config.json")
        config["sia_gen"]["threshold"] = figures["threshold"]
        write_json(out / "config.json", config)
        figures |= {"people": len(people), "held_out": len(strangers)}
        _, which = data.identity[strangers].unique(return_inverse=True)
        rows = [
            from_bytes(data.images[strangers[which == person]]) for person in range(min(SHOWN, int(which.max()) + 1))
        ]
        draw_sheet(out / SHEET, rows)
        write_json(out / TRAINING, {"settings": settings, "figures": figures})
        describe(out)
        return figures

    return first_writes(finish, out)


def describe(folder: Path) -> None:
    """Write the card of a trained identity model."""
    training = read_json(folder / TRAINING)
    settings, figures = training["settings"], training["figures"]
    renders, batch = settings["renders"], settings["batch"]
    parts = {name.removeprefix(GROUP): share for name, share in figures.items() if name.startswith(GROUP)}
    write_card(
        folder,
        "identity",
        renders,
        figures.pop("held_out", int(HELD_OUT * renders["faces"])),
        steps=settings["steps"],
        batch=batch,
        rate=scaled_rate(RATE, batch, BATCH),
        seed=settings["seed"],
        precision=settings["precision"],
        scale=SCALE,
        margin=MARGIN,
        embedding=EMBEDDING,
        falsely=FALSELY,
        pictures=renders["pictures"],
        errors=table(["people", "equal error rate"], [(name, f"{share:.1%}") for name, share in parts.items()]),
        **{name: value for name, value in figures.items() if not name.startswith(GROUP)},
    )


def evaluate(folder: Path, data: RenderSet, strangers: Tensor, device: torch.device | str = "cpu") -> dict[str, float]:
    """How a saved model tells the people of these faces, an int64 index, apart; see `train_identity`."""
    model = load_identity(folder, device)
    with torch.inference_mode():
        embedded = torch.cat(
            [model.embed(from_bytes(data.images[part].to(device))) for part in strangers.split(64)]
        ).cpu()
    cosines = embedded @ embedded.T
    who = data.identity[strangers]
    figures = _told_apart(cosines, who)
    start = int(strangers.amin())
    for name, member in groups(data, start).items():
        inside = member[strangers - start]
        part = _told_apart(cosines[inside][:, inside], who[inside])
        if part["pairs"] and part["other_pairs"]:
            figures[GROUP + name] = part["equal_error"]
    return figures


def _told_apart(cosines: Tensor, who: Tensor) -> dict[str, float]:
    """The figures of pictures ``[N]`` of the people ``who``, whose cosines are ``[N, N]``."""
    one = who[:, None] == who
    upper = torch.ones_like(one).triu(diagonal=1)
    same, other = cosines[one & upper].sort().values, cosines[~one & upper].sort().values
    if not len(same) or not len(other):
        return {"pairs": len(same), "other_pairs": len(other)}
    strict = other[min(int((1 - FALSELY) * len(other)), len(other) - 1)]
    missed = torch.arange(1, len(same) + 1) / len(same)  # were the threshold just above each of these
    passed = 1 - torch.searchsorted(other, same) / len(other)
    at = (missed - passed).abs().argmin()
    return {
        "threshold": round(same[at].item(), 4),
        "recognised": round((same >= strict).float().mean().item(), 4),
        "cosine": round(same.mean().item(), 4),
        "cosine_others": round(other.mean().item(), 4),
        "equal_error": round((missed[at] + passed[at]).item() / 2, 4),
        "pairs": len(same),
        "other_pairs": len(other),
    }
