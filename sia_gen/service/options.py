"""What every command takes, and how it answers a program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

MODEL = "A shipped name, a folder, hf:owner/name or module:callable."
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Seed = Annotated[int, typer.Option(help="Random seed; the same seed gives the same result.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")]


def print_json(data: Mapping[str, Any]) -> None:
    """One readable object on stdout."""
    print(json.dumps(data, indent=2, ensure_ascii=False), flush=True)


def resolve(device: str) -> str:
    """The device that ``auto`` means; raises `RequestError` for one that is not there."""
    from sia_gen.core.executors import resolve_device

    return str(resolve_device(device))
