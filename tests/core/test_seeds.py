import pytest
import torch

from sia_gen.core.errors import RequestError
from sia_gen.core.seeds import face_seeds, normals, stream, uniforms


@pytest.mark.parametrize("draw", [normals, uniforms])
def test_a_row_depends_on_its_seed_alone(draw):
    together = draw([7, 1, 7, 2**40 + 1], (3, 2), "codes")
    assert together.shape == (4, 3, 2)
    assert together.dtype == torch.float32
    assert torch.equal(together[0], together[2])
    assert torch.equal(together[1:2], draw([1], (3, 2), "codes"))
    assert torch.equal(together[3:], draw([2**40 + 1], (3, 2), "codes"))
    assert not torch.equal(together[1], together[3])
    assert draw([], (3, 2)).shape == (0, 3, 2)


def test_purposes_have_streams_of_their_own():
    assert not torch.equal(normals([1], (4,), "a"), normals([1], (4,), "b"))


def test_streams_are_the_same_on_every_platform():
    assert stream(7, "codes").integers(0, 1000, 4).tolist() == [478, 836, 734, 512]


def test_a_longer_run_begins_with_the_same_faces():
    assert face_seeds(3, 5)[:2] == face_seeds(3, 2) == [3_000_000, 3_000_001]
    assert not set(face_seeds(3, 1000)) & set(face_seeds(4, 1000))


@pytest.mark.parametrize("faces", [0, 100_001])
def test_a_number_of_faces_outside_the_range_is_refused(faces):
    with pytest.raises(RequestError) as caught:
        face_seeds(0, faces)
    assert str(caught.value) == f"faces={faces} is outside 1…100000; choose a number in that range"


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_outside_the_range_is_refused(seed):
    with pytest.raises(RequestError) as caught:
        face_seeds(seed, 1)
    assert str(caught.value) == f"seed={seed} is outside 0…2147483647; choose a number in that range"
    assert face_seeds(2**31 - 1, 1) == [2147483647000000]
