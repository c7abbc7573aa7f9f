"""What is shipped, as plain data: generators, targets, and the attributes of a generator."""

from __future__ import annotations

from typing import Any

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.load import FILE, load_attributes
from sia_gen.core.files import pretrained_folder, read_json, shipped


def generators() -> list[dict[str, Any]]:
    """One entry per shipped generator."""
    return [
        {"name": name, "editable": (pretrained_folder() / name / FILE).is_file(), "size_mb": _size(name)}
        for name in shipped("generator")
    ]


def targets() -> list[dict[str, Any]]:
    """One entry per shipped target."""
    found = []
    for name in [*shipped("target"), *shipped("identity")]:
        config = read_json(pretrained_folder() / name / "config.json")
        label = config["sia_gen"].get("label") or {}
        classes = [text for _, text in sorted(config.get("id2label", {}).items(), key=lambda item: int(item[0]))]
        if not label:  # points or an embedding, which have no names worth a list
            classes = []
        entry = {"name": name, "predicts": label.get("attribute"), "classes": classes, "size_mb": _size(name)}
        found.append(entry)
    return found


def attributes(generator: str, device: str) -> list[dict[str, Any]]:
    """One entry per attribute of a generator: its unit, its safe range of change, and how well it edits."""
    return described(load_attributes(generator, device))


def described(space: AttributeSpace) -> list[dict[str, Any]]:
    """The same of attributes in hand."""
    return [
        {
            "name": attribute.name,
            "unit": attribute.unit,
            "low": attribute.low,
            "high": attribute.high,
            "sd": attribute.sd,
            "negative": attribute.negative,
            "positive": attribute.positive,
            "slope": attribute.slope,
            "leakage": attribute.leakage,
        }
        for attribute in space.attributes
    ]


def _size(name: str) -> float:
    return round(sum(path.stat().st_size for path in (pretrained_folder() / name).rglob("*.safetensors")) / 1e6, 1)
