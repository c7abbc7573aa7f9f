"""Faces of a rare class, from the shipped generator: what they are asked, judged and told; and how they are kept."""

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch

from sia_gen.attack.sia import SemanticImageAttack
from sia_gen.attributes.load import load_attributes
from sia_gen.audits.evidence.validity import identity_for
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.images import from_bytes, quantise, read_image
from sia_gen.generators.load import load_generator
from sia_gen.hardening.labelled import read_labelled
from sia_gen.rebalancing import faces_folder
from sia_gen.rebalancing.faces_folder import PARTS, TABLE, fill, finish
from sia_gen.rebalancing.likeness import likeness_of, nearest_before, people_of
from sia_gen.rebalancing.meaning import MARGIN, Meant, described, reader
from sia_gen.rebalancing.pictures import draw_people
from sia_gen.rebalancing.rare_faces import Drawn, Moved, RareFaces
from sia_gen.studio.renders import read_renders, shipped_renders
from sia_gen.studio.sampling import drawn_evenly, sample
from sia_gen.targets.load import load_target
from sia_gen.targets.target import Label
from tests.standins import colours

CPU = torch.device("cpu")
GLASSES = Label("glasses", (0.5,))
CLASSES = ("no glasses", "glasses")


@pytest.fixture(scope="module")
def source():
    generator, space = load_generator("faces-stylegan2"), load_attributes("faces-stylegan2")
    verified, attack = (reader("glasses", space, generator, CPU),), SemanticImageAttack(steps=2, epsilon=1 / 255)
    identity = identity_for(described(CLASSES, GLASSES), CPU)
    return RareFaces.of(generator, space, verified, Meant((GLASSES,)), attack, identity)


def test_codes_that_bring_an_edit_along_are_edited_from_there(source):
    generator, space = source.generator, source.space
    moved = Moved(generator, space.space, generator.sample([1]).shape[1:])
    one, other = (space.omega({name: change}) for name, change in (("glasses", 0.3), ("yaw", 10.0)))
    packed = moved.pack(generator.sample([1, 2]), space.edits(one.expand(2, -1)))
    made = moved.render(packed, space.edits(other.expand(2, -1)), space.space)
    wanted = generator.render(generator.sample([1, 2]), space.edits((one + other).expand(2, -1)), space.space)
    torch.testing.assert_close(made, wanted)
    torch.testing.assert_close(moved.render(moved.sample([3])), generator.render(generator.sample([3])))


def test_faces_lie_in_their_class_as_asked_and_as_read(source):
    seeds = list(range(24))
    drawn = source.draw(seeds, 1, "generated", None, torch.empty(0, 64))
    assert len(drawn.rows) + sum(drawn.refused.values()) == len(seeds)
    assert len(drawn.rows) >= 9
    told = dict(zip(seeds, sample(seeds)["glasses"].tolist(), strict=True))
    for row in drawn.rows:
        assert 0.5 + MARGIN <= row["glasses"] <= 1
        assert row["glasses"] == pytest.approx(told[row["seed"]] + row["omega_glasses"], abs=1e-3)
        assert row["read"] >= 0.575
        assert row["distance"] <= 1
        assert row["likeness"] < source.alike
        assert not row["hard"]
        if told[row["seed"]] >= 0.5 + MARGIN:
            assert row["omega_glasses"] == 0
    read = source.verifier.read(from_bytes(drawn.pictures))[:, source.factors]
    assert source.meant.of(read).tolist() == [1] * len(drawn.rows)
    assert any(row["omega_glasses"] > 0 for row in drawn.rows)


def test_how_clearly_a_class_is_to_be_read(source):
    assert source.clear(0) == [(float("-inf"), 0.425)]
    assert source.clear(1) == [(0.575, float("inf"))]
    ages = replace(source, meant=Meant((Label("age", (21, 37, 53, 69)),)))
    assert ages.clear(1)[0] == pytest.approx((21 + 2.4, 37 - 2.4))
    assert ages.ends(1)[0] == pytest.approx((21 + 1.6, 37 - 1.6))
    assert ages.ends(4)[0] == pytest.approx((69 + 1.6, 85))


def test_a_class_of_several_attributes_is_each_of_them(source):
    smile = reader("smile", source.space, source.generator, CPU)
    meant = Meant((GLASSES, Label("smile", (0.5,))))
    assert meant.names == ("no glasses, no smile", "no glasses, smile", "glasses, no smile", "glasses, smile")
    assert meant.parts == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert meant.of(torch.tensor([[0.4, 0.6], [0.5, 0.5], [0.9, 0.1]])).tolist() == [1, 3, 2]
    both = replace(source, verified=(*source.verified, smile), meant=meant)
    drawn = both.draw(range(24), 1, "semantic", load_target("smile-classifier"), torch.empty(0, 64))
    assert len(drawn.rows) >= 5
    for row in drawn.rows:
        assert row["glasses"] <= 0.5 - MARGIN
        assert row["smile"] >= 0.5 + MARGIN
        assert row["read_glasses"] <= 0.425
        assert row["read_smile"] >= 0.575
    assert meant.of(both.verifier.read(from_bytes(drawn.pictures))[:, both.factors]).tolist() == [1] * len(drawn.rows)
    assert any(row["omega_glasses"] < 0 for row in drawn.rows)
    assert any(row["omega_smile"] > 0 for row in drawn.rows)
    assert "omega_yaw" in drawn.rows[0]


@pytest.mark.parametrize("cuts", [(30, 31), (30, 60, 61), (5.5,), (84.5,)], ids=str)
def test_a_class_too_narrow_to_ask_for_is_refused(source, cuts):
    with pytest.raises(
        RequestError, match=f"age:{cuts[0]}.* leaves no room for class .: faces lie in 5…85 and 1.6 away"
    ):
        replace(source, meant=Meant((Label("age", cuts),)))


def test_hard_faces_keep_their_class_and_are_worse_for_the_model(source):
    target = load_target("glasses-classifier")
    drawn = source.draw(list(range(8)), 1, "semantic", target, torch.empty(0, 64))
    hard = [row for row in drawn.rows if row["hard"]]
    assert hard
    assert all(row["right_before"] and row["output_after"] <= row["output_before"] for row in hard)
    assert any(row["omega_yaw"] != 0 for row in hard)
    for row, picture in zip(drawn.rows, drawn.pictures, strict=True):
        said = target.predict(from_bytes(picture[None])).softmax(1)[0, 1].item()
        assert said == pytest.approx(row["output_after" if row["hard"] else "output_before"], abs=1e-3)


def test_nobody_is_made_twice(source):
    before = source.draw(range(6), 1, "generated", None, torch.empty(0, 64))
    again = source.draw(range(6), 1, "generated", None, before.embeddings)
    assert before.rows
    assert (len(again.rows), again.refused["one person twice"]) == (0, len(before.rows))
    apart = source.gate.identity.embed(quantise(from_bytes(before.pictures)))
    torch.testing.assert_close(apart, before.embeddings)


def test_without_an_identity_model_nobody_is_refused_for_looking_alike(source, tmp_path):
    bare = replace(source, gate=replace(source.gate, identity=None), alike=float("inf"))
    made, people = fill(tmp_path, bare, {1: 5}, "generated", None, "")
    assert (len(made.rows), people.shape, made.refused["one person twice"]) == (5, (5, 1), 0)
    again, _ = fill(tmp_path, bare, {0: 2}, "generated", None, "", round_number=1, before=people)
    assert again.labels.tolist() == [0, 0]


def test_a_sheet_shows_each_face_above_the_nearest_real_one(source, tmp_path):
    drawn = source.draw(range(8), 1, "generated", None, torch.empty(0, 64))
    draw_people({"generated": drawn.pictures}, drawn.pictures.flip(0), source, tmp_path / "sheet.png")
    sheet = read_image(tmp_path / "sheet.png")
    assert sheet.shape[1] == 2 * 128
    above, below = sheet[:, :128], sheet[:, 128:]
    assert torch.equal(above[..., -128:], below[..., -128:])  # the nearest of those that hold itself
    told = likeness_of([row["likeness"] for row in drawn.rows], source)
    assert told["twice"] == 0
    highest = [row["likeness"] >= source.gate.identity.threshold for row in drawn.rows]
    assert told["above_threshold"] == pytest.approx(sum(highest) / len(highest), abs=1e-4)


def test_how_like_one_before_pictures_are(source):
    drawn = source.draw(range(8), 1, "generated", None, torch.empty(0, 64))
    wanted = [row["likeness"] for row in drawn.rows]
    assert nearest_before(drawn.pictures, source) == pytest.approx(wanted, abs=1e-4)
    assert nearest_before(drawn.pictures[[0, 1, 0]], source)[2] == pytest.approx(1, abs=1e-4)
    bare = replace(source, gate=replace(source.gate, identity=None))
    assert nearest_before(drawn.pictures[:2], bare) == [-1, -1]


def test_different_people_among_renders():
    renders = read_renders(shipped_renders(), 60)
    even = drawn_evenly(renders.identity.tolist(), renders.settings["spread"])
    assert people_of(renders).tolist() == (~even).nonzero().flatten().tolist()
    again = replace(renders, identity=torch.cat([renders.identity[:30], renders.identity[:30]]))
    assert people_of(again).tolist() == [row for row in people_of(renders).tolist() if row < 30]


class Fixed:
    """Stands in for a source: every face of a batch but the first ``refused``."""

    def __init__(self, refused=0):
        self.refused, self.asked = refused, []
        self.space = colours().attributes

    def draw(self, seeds, number, hard, target, before):
        self.asked.append((number, len(before)))
        seeds = seeds[self.refused :]
        rows = [{"seed": seed, "hard": False, "glasses": 0.7} for seed in seeds]
        pictures = torch.tensor([seed % 251 for seed in seeds], dtype=torch.uint8).view(-1, 1, 1, 1)
        return Drawn(pictures.expand(-1, 3, 8, 8), torch.rand(len(seeds), 64), rows, {"no likely face": self.refused})


def test_what_is_written_is_as_many_as_asked_and_stays(tmp_path):
    source = Fixed(refused=2)
    made, people = fill(tmp_path, source, {1: 50, 0: 3}, "generated", None, "net")
    assert made.labels.tolist() == [1] * 50 + [0] * 3
    assert source.asked == [(1, 0), (1, 30), (0, 50)]
    assert len(people) == 53
    assert made.refused == {"no likely face": 6}
    again, _ = fill(tmp_path, source, {1: 50, 0: 3}, "generated", None, "net")
    assert len(source.asked) == 3  # nothing was made anew
    assert torch.equal(again.pictures, made.pictures)
    card = dict.fromkeys(
        ("licence", "data", "attribute", "unit", "cuts", "target", "generator", "seed", "alike", "how")
    )
    finish(tmp_path, CLASSES, made, card | {"origin": "", "look": ""})
    assert (tmp_path / PARTS).exists()  # until all that is made of them is written, too
    table = pq.read_table(tmp_path / TABLE)
    assert json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]["label"]["names"] == list(CLASSES)
    found = read_labelled(tmp_path, 8)
    assert (found.classes, found.counts) == (CLASSES, [3, 50])
    assert torch.equal(found.images, made.pictures)
    written = (tmp_path / "README.md").read_text()
    assert "53 faces for" in written
    assert "no face was made hard for a model" in written


def test_a_full_disk_keeps_what_is_written_and_the_rest_is_made_later(tmp_path, monkeypatch):
    source, plain = Fixed(), faces_folder.atomic
    written = []

    def full(path):
        if len(written) == 40:
            raise OSError(28, "No space left on device")
        written.append(path)
        return plain(path)

    monkeypatch.setattr(faces_folder, "atomic", full)
    with pytest.raises(OSError, match="No space left"):
        fill(tmp_path, source, {1: 50}, "generated", None, "net")
    monkeypatch.setattr(faces_folder, "atomic", plain)
    made, _ = fill(tmp_path, source, {1: 50}, "generated", None, "net")
    assert source.asked == [(1, 0), (1, 32), (1, 32)]  # the first batch was kept
    whole, _ = fill(tmp_path / "whole", Fixed(), {1: 50}, "generated", None, "net")
    assert [row["seed"] for row in made.rows] == [row["seed"] for row in whole.rows]


def test_a_class_of_which_no_face_passes_ends(tmp_path):
    with pytest.raises(WorkError, match=r"0 of 640 faces of class 1 pass, most are refused: no likely face"):
        fill(tmp_path, Fixed(refused=32), {1: 50}, "generated", None, "net")


def test_a_damaged_part_is_named(tmp_path):
    fill(tmp_path, Fixed(), {1: 3}, "generated", None, "net")
    next((tmp_path / PARTS).iterdir()).write_bytes(b"PAR1")
    with pytest.raises(WorkError, match="is damaged"):
        fill(tmp_path, Fixed(), {1: 3}, "generated", None, "net")
