import dataclasses

import pytest
import torch

import sia_gen
from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.load import FILE, fitting, load_attributes
from sia_gen.attributes.ways.unlabelled import by_sefa
from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.files import write_tensors
from sia_gen.generators.foreign.stylegan2 import StyleGAN2ADA, StyleGAN2ADAConfig
from sia_gen.generators.weights import weights_digest
from tests.contracts import AttributeSpaceSuite
from tests.problems import LinearGenerator, linear_space
from tests.standins import colours


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


def stylegan(seed, **given):
    torch.manual_seed(seed)
    sizes = {"channels": (8, 8), "z_dim": 6, "w_dim": 6, "mapping": (6, 6)}
    return StyleGAN2ADA(StyleGAN2ADAConfig(name=f"tiny-{seed}", **sizes, **given)).eval()


def test_attributes_of_other_weights_are_refused(tmp_path):
    mine, other = stylegan(0), stylegan(1)
    for made in (mine, other):
        (tmp_path / made.name).mkdir()
        made.save(tmp_path / made.name)
    by_sefa(mine, 2).save(tmp_path / mine.name / FILE)
    assert load_attributes(tmp_path / mine.name, of=mine).names == ["sefa-1", "sefa-2"]
    (tmp_path / other.name / FILE).write_bytes((tmp_path / mine.name / FILE).read_bytes())
    said = (
        rf"^the attributes of 'tiny-0' were found in weights {weights_digest(mine)}, but those of 'tiny-1' are "
        rf"{weights_digest(other)}; find its own with 'sia-gen find'$"
    )
    with pytest.raises(RequestError, match=said):
        load_attributes(tmp_path / other.name, of=other)
    with pytest.raises(RequestError, match=said):
        sia_gen.audit(other, "tests.standins:is_red", attributes=by_sefa(mine, 2), faces=1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_attributes_that_do_not_say_what_they_are_of_are_taken_by_their_shape():
    unsaid = dataclasses.replace(by_sefa(stylegan(0), 2), weights=None)
    assert fitting(unsaid, stylegan(1)) is unsaid
    wide = dataclasses.replace(unsaid, directions=torch.zeros(2, 4, 7))
    with pytest.raises(RequestError) as caught:
        fitting(wide, stylegan(1))
    assert str(caught.value) == (
        "the attributes of 'tiny-0' are of 'w' [4, 7], but 'tiny-1' has w [4, 6], s [40]; find its own with "
        "'sia-gen find'"
    )


def test_weights_are_told_by_their_checkpoint_or_by_some_of_their_numbers():
    one = weights_digest(stylegan(0))
    assert one == weights_digest(stylegan(0)) == weights_digest(stylegan(0).half())
    assert one == weights_digest(stylegan(0).to(memory_format=torch.channels_last))
    assert one != weights_digest(stylegan(1))
    moved = stylegan(0)
    moved.mapping.layers[1].bias.data += 0.01
    assert one != weights_digest(moved)
    assert weights_digest(stylegan(0, source={"sha256": "ab" * 32})) == "ab" * 8
    assert weights_digest(stylegan(0).to("meta")) is None
    assert weights_digest(colours()) is None
