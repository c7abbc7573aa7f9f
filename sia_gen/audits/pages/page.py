"""A self-contained page, no scripts, made to be read, sent and printed: a template filled in, every picture inside."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sia_gen.core.files import atomic

Filters = Mapping[str, Callable[..., str]]


def write_page(path: Path, package: str, template: str, filters: Filters, content: Mapping[str, Any]) -> None:
    """Fill in the ``template`` that lies in a ``package`` with ``content``, whose texts are escaped."""
    with atomic(path) as partial:
        partial.write_text(filled(package, template, filters, content), encoding="utf-8")


def filled(package: str, template: str, filters: Filters, content: Mapping[str, Any]) -> str:
    """The same page as text."""
    return _template(package, template, tuple(filters.items())).render(content)


@cache
def _template(package: str, template: str, filters: tuple[tuple[str, Callable[..., str]], ...]) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment.get_template(template)


def data_uri(path: Path) -> str:
    """A PNG as a page holds it."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
