"""A generator of one long tail: what it sees, what it is asked, and that it is taught once."""

from dataclasses import replace

import pytest
import torch

from sia_gen.core.files import read_json
from sia_gen.generators.stylegan2 import StyleGAN2
from sia_gen.rebalancing import tail_generator
from sia_gen.rebalancing.long_tail import SIDE, Tail, split
from sia_gen.rebalancing.tail_generator import TAUGHT, tail_faces
from sia_gen.studio.factors import FACTORS, NAMES
from sia_gen.studio.renders import read_renders, shipped_renders
from sia_gen.training.network import shrunk

CPU = torch.device("cpu")
TAIL = Tail(label="glasses", ratio=10)


@pytest.fixture(scope="module")
def renders():
    return shrunk(read_renders(shipped_renders(), 1400), SIDE)


def test_it_sees_the_tail_alone_and_draws_what_it_is_told(monkeypatch, tmp_path, renders):
    monkeypatch.setattr(tail_generator, "STEPS", 2)
    seen, asked = [], []
    plain, codes = tail_generator.regress, StyleGAN2.codes

    def regress(pairs, lessons, *given, **named):
        seen.append(lessons)
        return plain(pairs, lessons, *given, **named)

    monkeypatch.setattr(tail_generator, "regress", regress)
    monkeypatch.setattr(StyleGAN2, "codes", lambda self, z, seeds=None: asked.append(z) or codes(self, z))
    parts = split(renders, TAIL, 6)
    made = tail_faces(tmp_path, renders, TAIL, parts, {0: 3, 1: 4}, CPU)
    (lessons,) = seen
    assert set(lessons.chosen.tolist()) == set(parts.tail.tolist())
    often = parts.labels[lessons.chosen].bincount()
    assert often[0] == often[1] == parts.counts[0]  # the rare ones more often
    items = [table[parts.tail] for table in lessons.tables]
    _, told, _ = lessons.prepare(torch.Generator().manual_seed(0), *items)
    added = (told.abs() - items[1].abs()).abs()  # a mirrored face's yaw has the other sign
    greatest = dict(zip(NAMES, added.amax(0).tolist(), strict=True))
    assert greatest["glasses"] == greatest["yaw"] == greatest["frame_size"] == 0
    assert min(greatest["age"], greatest["nose_width"]) > 0.5
    assert made.labels.tolist() == [0] * 3 + [1] * 4
    assert made.pictures.shape == (7, 3, SIDE, SIDE)
    column = NAMES.index("glasses")
    values = [FACTORS[column].value(latents[:, column]) for latents in asked]
    assert values[0].max() < 0.48 + 1e-3
    assert values[1].min() > 0.52 - 1e-3
    taught = read_json(tmp_path / TAUGHT)
    assert (taught["steps"], taught["pictures"]) == (2, sum(parts.counts))
    assert made.seconds >= taught["seconds"] > 0
    again = tail_faces(tmp_path, renders, TAIL, parts, {0: 3, 1: 4}, CPU)
    assert len(seen) == 1
    assert torch.equal(again.pictures, made.pictures)
    assert not (tmp_path / tail_generator.WORK).exists()
    other = tail_faces(tmp_path / "other", renders, replace(TAIL, seed=1), split(renders, TAIL, 6), {1: 4}, CPU)
    assert not torch.equal(other.pictures, made.pictures[3:])
