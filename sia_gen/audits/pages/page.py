"""A self-contained page, no scripts, made to be read, sent and printed: a template filled in, every picture inside."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sia_gen.core.files import atomic


def write_page(
    path: Path, package: str, template: str, filters: Mapping[str, Callable[..., str]], content: Mapping[str, Any]
) -> None:
    """Fill in the ``template`` that lies in a ``package`` with ``content``, whose texts are escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    page = environment.get_template(template).render(content)
    with atomic(path) as partial:
        partial.write_text(page, encoding="utf-8")


def data_uri(path: Path) -> str:
    """A PNG as a page holds it."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
