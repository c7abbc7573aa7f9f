import dataclasses

import pytest
import torch

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.load import load_attributes
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.files import write_tensors
from tests.contracts import AttributeSpaceSuite
from tests.problems import LinearGenerator, linear_space


@pytest.fixture
def space():
    return linear_space(LinearGenerator())


class TestVectors(AttributeSpaceSuite):
    @pytest.fixture
    def space(self):
        return linear_space(LinearGenerator())


class TestLayers(AttributeSpaceSuite):
    """Edits of more than one axis, as in w+."""

    @pytest.fixture
    def space(self):
        flat = linear_space(LinearGenerator())
        return dataclasses.replace(flat, directions=flat.directions.view(4, 2, 3))


def test_an_unknown_name_lists_what_exists(space):
    with pytest.raises(RequestError) as caught:
        space.select(["a0", "age"])
    assert str(caught.value) == (
        "unknown attribute of 'linear-generator' 'age': there are a0, a1, a2, a3; choose one of these"
    )


def test_omega_takes_changes_by_name(space):
    assert space.omega({"a2": -1.5, "a0": 1.0}).tolist() == [[1.0, 0.0, -1.5, 0.0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"a0": 1.5}, "a0=+1.5 is outside the safe range -0.5…+1 units of 'linear-generator'; lower it"),
        ({"a0": -0.75}, "a0=-0.75 is outside the safe range -0.5…+1 units of 'linear-generator'; raise it"),
        ({"a0": float("nan")}, "a0=+nan is outside the safe range -0.5…+1 units of 'linear-generator'; raise it"),
    ],
)
def test_a_change_outside_the_safe_range_names_it(space, changes, message):
    with pytest.raises(RequestError) as caught:
        space.omega(changes)
    assert str(caught.value) == message


def test_without_an_absent_name_is_the_same_space(space):
    assert space.without("smile").names == space.names


def test_directions_pair_with_attributes(space):
    with pytest.raises(WorkError, match=r"^4 attributes but 3 directions; they must pair one to one$"):
        dataclasses.replace(space, directions=space.directions[:3])


def test_a_foreign_file_is_no_attribute_space(tmp_path):
    write_tensors(tmp_path / "weights.safetensors", {"directions": torch.zeros(1, 2)})
    with pytest.raises(WorkError) as caught:
        AttributeSpace.load(tmp_path / "weights.safetensors")
    assert str(caught.value) == (
        f"'{tmp_path}/weights.safetensors' is no attribute space (KeyError('attributes')); fetch the file again"
    )


def test_is_loaded_from_a_file_and_from_a_generators_folder(space, tmp_path):
    space.save(tmp_path / "attributes.safetensors")
    for place in (tmp_path, tmp_path / "attributes.safetensors"):
        assert load_attributes(place).names == space.names


def test_a_generator_without_attributes_says_how_to_find_them(tmp_path):
    with pytest.raises(RequestError) as caught:
        load_attributes(tmp_path)
    assert str(caught.value) == (f"'{tmp_path}' has no attributes.safetensors; find some with 'sia-gen find'")


def test_a_generator_without_attributes_is_refused():
    with pytest.raises(RequestError, match=r"^'builtins:dict' has no attribute space; give what it returns one as"):
        load_attributes("builtins:dict")


def test_a_name_given_twice_counts_once(space):
    assert space.select(["a1", "a0", "a1"]).names == ["a1", "a0"]
