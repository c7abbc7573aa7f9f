from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from sia_gen.core.errors import RequestError
from sia_gen.core.seeds import face_seeds
from sia_gen.studio import renders
from sia_gen.studio.factors import NAMES, PERSON, values_of
from sia_gen.studio.renders import read_renders, write_renders
from sia_gen.studio.sampling import Skew, drawn_evenly, sample


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(renders, "CHUNK", 2)


def test_writes_pictures_and_exact_labels(makehuman, tmp_path, small_chunks):
    folder = write_renders(makehuman, tmp_path / "faces", 3, seed=4, resolution=16, workers=1)
    table = pq.read_table(folder / "metadata.parquet")
    assert table["file_name"].to_pylist() == [f"images/{index:06d}.png" for index in range(3)]
    assert table["seed"].to_pylist() == [4_000_000, 4_000_001, 4_000_002]
    wanted = sample([4_000_000, 4_000_001, 4_000_002], spread=0.5)
    for name in NAMES:
        assert table[name].to_pylist() == wanted[name].tolist()
    assert len(table["landmarks"][0]) == 136
    assert len(table["visible"][0]) == 68
    with Image.open(folder / "images" / "000002.png") as image:
        assert image.size == (16, 16)
    found = read_renders(folder)
    assert found.images.shape == (3, 3, 16, 16)
    assert torch.equal(found.values, wanted.values)
    assert torch.equal(found.value("age"), wanted["age"])


def test_an_interrupted_folder_is_finished_and_equal(makehuman, tmp_path, small_chunks):
    class Stop(Exception):
        pass

    def stop(done, total, what):
        raise Stop

    with pytest.raises(Stop):
        write_renders(makehuman, tmp_path / "broken", 6, resolution=16, workers=1, progress=stop)
    assert not (tmp_path / "broken" / "metadata.parquet").exists()
    told = []
    first = (tmp_path / "broken" / "images" / "000000.png").stat().st_mtime_ns
    write_renders(makehuman, tmp_path / "broken", 6, resolution=16, workers=1, progress=lambda *now: told.append(now))
    assert told == [(4, 6, "rendering"), (6, 6, "rendering")]
    assert (tmp_path / "broken" / "images" / "000000.png").stat().st_mtime_ns == first
    write_renders(makehuman, tmp_path / "whole", 6, resolution=16, workers=1)
    broken, whole = (read_renders(tmp_path / name) for name in ("broken", "whole"))
    assert torch.equal(broken.images, whole.images)
    assert pq.read_table(tmp_path / "broken" / "metadata.parquet") == pq.read_table(
        tmp_path / "whole" / "metadata.parquet"
    )


def test_processes_share_the_work(makehuman, tmp_path, small_chunks):
    skews = [Skew("light_azimuth", "smile", 0.9)]
    write_renders(makehuman, tmp_path / "two", 4, resolution=16, skews=skews, workers=2)
    write_renders(makehuman, tmp_path / "one", 4, resolution=16, skews=skews, workers=1)
    one, two = (read_renders(tmp_path / name) for name in ("one", "two"))
    assert torch.equal(one.latents, two.latents)
    assert torch.equal(one.images, two.images)


def test_a_folder_of_other_settings_is_refused(makehuman, tmp_path, small_chunks):
    write_renders(makehuman, tmp_path, 1, resolution=16, workers=1)
    with pytest.raises(
        RequestError, match=r"holds renders of other settings .*'resolution': 16.*; choose another --out"
    ):
        write_renders(makehuman, tmp_path, 1, resolution=32, workers=1)


def test_a_folder_rendered_from_another_mesh_is_refused(makehuman, tmp_path, small_chunks, monkeypatch):
    write_renders(makehuman, tmp_path, 1, resolution=16, workers=1)
    monkeypatch.setattr("sia_gen.studio.makehuman.MakeHuman.digest", "another")
    with pytest.raises(RequestError, match=r"holds renders of other settings .*'mesh': .*; choose another --out"):
        write_renders(makehuman, tmp_path, 1, resolution=16, workers=1)


def test_says_of_each_face_how_it_was_drawn(makehuman, tmp_path, small_chunks):
    folder = write_renders(makehuman, tmp_path, 6, resolution=16, workers=1, spread=0.5)
    drawn = pq.read_table(folder / "metadata.parquet")["drawn"].to_pylist()
    wanted = drawn_evenly(face_seeds(0, 6), 0.5).tolist()
    assert drawn == ["spread" if one else "people" for one in wanted]
    assert 0 < sum(wanted) < 6


@pytest.mark.parametrize("faces", [0, 1_000_000])
def test_too_few_or_too_many_faces_are_refused(makehuman, tmp_path, faces):
    with pytest.raises(RequestError, match=f"faces={faces} is outside 1…100000; choose a number in that range"):
        write_renders(makehuman, tmp_path, faces)
    assert list(tmp_path.iterdir()) == []


def test_more_than_memory_holds_is_refused_before_any_work(makehuman, tmp_path):
    with pytest.raises(
        RequestError, match=r"^resolution=512 with workers=4000 takes about \d+\.\d GB, but .* GB are free"
    ):
        write_renders(makehuman, tmp_path / "faces", 3, resolution=512, workers=4000)
    assert not (tmp_path / "faces").exists()


def test_pictures_of_a_person_share_what_makes_one(makehuman, tmp_path, small_chunks):
    found = read_renders(write_renders(makehuman, tmp_path, 5, resolution=16, pictures=2, workers=1))
    assert found.identity.tolist() == [0, 0, 2, 2, 4]
    stays = [NAMES.index(name) for name in PERSON]
    changes = [index for index in range(len(NAMES)) if index not in stays]
    assert torch.equal(found.values[0, stays], found.values[1, stays])
    assert not torch.isclose(found.values[0, changes], found.values[1, changes]).all()
    assert not torch.isclose(found.values[1, stays], found.values[2, stays]).any()
    assert torch.equal(values_of(found.latents).values, found.values)
    with pytest.raises(
        RequestError, match=r"'age' is the same in all pictures of a person; skew another, or pictures=1"
    ):
        write_renders(makehuman, tmp_path / "more", 4, pictures=2, skews=[Skew("age", "smile", 0.9)])
    with pytest.raises(RequestError, match=r"pictures=6 of each person is outside 1…5; give at most as many as faces"):
        write_renders(makehuman, tmp_path / "more", 5, resolution=16, pictures=6)


def test_a_folder_without_renders_is_named(tmp_path):
    with pytest.raises(RequestError) as error:
        read_renders(tmp_path)
    assert str(error.value) == f"'{tmp_path}' holds no renders; name a folder that 'sia-gen studio render' wrote"


def test_without_a_word_it_takes_no_more_processes_than_memory_holds_or_work_is_left(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(64), raising=False)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=4e9))
    one = renders.WORKER + renders.BATCH * 128**2 * renders.PIXEL
    assert renders._workers(128, None, jobs=100) == int(4e9 / one) > 1
    assert renders._workers(128, None, jobs=1) == 1
    assert renders._workers(512, 4000, jobs=0) == 4000  # nothing is left to do
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1e6))
    with pytest.raises(RequestError, match=r"^resolution=128 with workers=1 takes about"):
        renders._workers(128, None, jobs=5)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RequestError, match=r"holds something else, 'notes\.txt' for one"):
        write_renders(None, tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
