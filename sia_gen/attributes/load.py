"""Find a generator's attribute space."""

from __future__ import annotations

from pathlib import Path

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.core.errors import RequestError
from sia_gen.core.files import is_file
from sia_gen.core.locate import build
from sia_gen.generators.load import CHECKPOINTS, place_of

FILE = "attributes.safetensors"


def load_attributes(name: str | Path, device: str = "cpu") -> AttributeSpace:
    """The attribute space of a generator: ``name`` is what `load_generator` takes, or a safetensors file of its own.

    Raises `RequestError` that names what exists, `WorkError` on a damaged file.
    """
    if is_file(Path(name)) and Path(name).suffix not in CHECKPOINTS:
        return AttributeSpace.load(name).to(device)
    place = place_of(name)
    if not isinstance(place, Path):
        attributes = getattr(build("generator", name, place, device), "attributes", None)
        if not isinstance(attributes, AttributeSpace):
            raise RequestError(f"'{name}' has no attribute space; give what it returns one as .attributes")
        return attributes
    if not is_file(place / FILE):
        raise RequestError(f"'{name}' has no {FILE}; find some with 'sia-gen find'")
    return AttributeSpace.load(place / FILE).to(device)
