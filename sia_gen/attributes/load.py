"""Find a generator's attribute space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.core.errors import RequestError, named_file
from sia_gen.core.files import is_file
from sia_gen.core.locate import build
from sia_gen.generators.generator import Generator
from sia_gen.generators.load import CHECKPOINTS, place_of
from sia_gen.generators.weights import weights_digest

FILE = "attributes.safetensors"


def load_attributes(name: str | Path, device: str = "cpu", of: Generator | None = None) -> AttributeSpace:
    """The attribute space of a generator: ``name`` is what `load_generator` takes, or a safetensors file of its own.

    Raises `RequestError` that names what exists, for attributes that are not those ``of`` a generator in hand, see
    `fitting`, and, its `DamageError`, for a damaged file.
    """
    space = _found(name, device).to(device)
    return space if of is None else fitting(space, of)


def known_attributes(
    named: str | Path | Generator, source: Generator, given: object, device: str = "cpu"
) -> AttributeSpace:
    """What is ``given``, if that is a space, else all attributes of the generator, which ``source`` is, by its name.

    Raises as `load_attributes` does.
    """
    if isinstance(given, AttributeSpace):
        return fitting(given, source)
    return load_attributes(source.name if isinstance(named, Generator) else named, device, source)


def fitting(
    space: AttributeSpace, generator: Generator, remedy: str = "find its own with 'sia-gen find'"
) -> AttributeSpace:
    """The same attributes; raises `RequestError` where their shape, or the weights they were found in, are another's.

    Attributes that do not say what they were found in are taken by their shape alone.
    """
    shape = list(space.directions.shape[1:])
    if list(generator.edit_shapes.get(space.space, ())) != shape:
        known = ", ".join(f"{name} {list(shape)}" for name, shape in generator.edit_shapes.items())
        raise RequestError(
            f"the attributes of '{space.generator}' are of '{space.space}' {shape}, but '{generator.name}' has {known}"
            f"; {remedy}"
        )
    weights = None if space.weights is None else weights_digest(generator)
    if weights is not None and space.weights != weights:
        raise RequestError(
            f"the attributes of '{space.generator}' were found in weights {space.weights}, but those of "
            f"'{generator.name}' are {weights}; {remedy}"
        )
    return space


def _found(name: str | Path, device: str) -> AttributeSpace:
    file = Path(name)
    if not is_file(file) or file.suffix in CHECKPOINTS:
        place = place_of(name)
        if not isinstance(place, Path):
            return _brought(name, place, device)
        file = place / FILE
        if not is_file(file):
            raise RequestError(f"'{name}' has no {FILE}; find some with 'sia-gen find'")
    with named_file():
        return AttributeSpace.load(file)


def _brought(name: str | Path, place: Any, device: str) -> AttributeSpace:
    """What a ``module:callable`` returns has as its attributes."""
    attributes = getattr(build("generator", name, place, device), "attributes", None)
    if not isinstance(attributes, AttributeSpace):
        raise RequestError(f"'{name}' has no attribute space; give what it returns one as .attributes")
    return attributes
