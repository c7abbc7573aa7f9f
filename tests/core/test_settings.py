import dataclasses

import pytest
from pydantic import Field

from sia_gen.core.errors import RequestError, unknown
from sia_gen.core.settings import settings


@settings
class Recipe:
    steps: int = Field(10, ge=1)
    size: float = 1.0

    def __post_init__(self):
        if self.size > self.steps:
            raise ValueError(f"size={self.size:g} is more than steps={self.steps}; lower it")


def test_settings_are_frozen_comparable_and_show_themselves():
    assert repr(Recipe(steps=2)) == "Recipe(steps=2, size=1.0)"
    assert Recipe(steps=2) == dataclasses.replace(Recipe(), steps=2)
    assert hash(Recipe()) == hash(Recipe())
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().steps = 3
    with pytest.raises(TypeError):
        Recipe(3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps=0 should be greater than or equal to 1; change it"),
        ({"stepz": 1}, "stepz=1: unexpected keyword argument; change it"),
        ({"steps": 1, "size": 2}, "size=2 is more than steps=1; lower it"),
    ],
)
def test_a_bad_value_is_one_line(values, message):
    with pytest.raises(RequestError) as caught:
        Recipe(**values)
    assert str(caught.value) == message


def test_of_very_many_names_the_first_are_listed():
    said = str(unknown("column", "x", [f"factor_{number}" for number in range(100)]))
    assert said.startswith("unknown column 'x': there are factor_0, factor_1, ")
    assert said.endswith(", factor_39 … and 60 more; choose one of these")
