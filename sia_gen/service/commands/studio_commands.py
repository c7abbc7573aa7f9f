"""The commands that render labelled faces, and that pack them.

As in `sia_gen.cli`, everything heavy is imported inside the command that needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sia_gen.core.errors import RequestError
from sia_gen.service.commands.options import AsJson, Device, MakeHuman, Seed, print_json
from sia_gen.service.commands.recipe_commands import Out, Renders, run_recipe

studio = typer.Typer(help="Labelled synthetic faces from a morphable mesh.", no_args_is_help=True)

Skews = Annotated[
    list[str] | None,
    typer.Option(
        "--skew",
        help="factor=given:0.9, a planted correlation: how often the factor lies on the given one's side; repeatable.",
    ),
]


@studio.command()
def render(
    out: Out,
    faces: Annotated[int, typer.Option(help="How many faces to render.")],
    makehuman: MakeHuman = None,
    resolution: Annotated[int, typer.Option(help="Side of the pictures in pixels.")] = 64,
    skews: Skews = None,
    pictures: Annotated[int, typer.Option(help="Faces in a row that are one person.")] = 1,
    spread: Annotated[
        float, typer.Option(help="Share of the faces that is spread evenly over all factors; the others are people.")
    ] = 0.5,
    workers: Annotated[int | None, typer.Option(help="Processes that share the work; every core by default.")] = None,
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """Render faces with every label exact, as a Hugging Face image folder."""
    from sia_gen.studio.renders import write_renders

    def work(**common: Any) -> dict[str, Any]:
        planted = [_skew(text) for text in skews or []]
        settings = {"resolution": resolution, "skews": planted, "pictures": pictures}
        settings |= {"spread": spread, "workers": workers}
        write_renders(makehuman, out, faces, **settings, **common)
        return {"faces": faces}

    run_recipe(work, out, as_json, seed, device)


@studio.command()
def pack(
    renders: Renders,
    out: Annotated[Path, typer.Option(help="Folder to write the data set to.")],
    faces: Annotated[int, typer.Option(help="How many faces to pack, from the first on.")] = 5000,
    as_json: AsJson = False,
) -> None:
    """Pack renders into one small file, a Hugging Face data set."""
    from sia_gen.service.commands.terminal import progress_bar
    from sia_gen.training.pack import pack_renders

    with progress_bar(quiet=as_json) as progress:
        pack_renders(renders, out, faces, progress)
    if as_json:
        print_json({"faces": faces, "out": str(out)})
    else:
        print(f"{faces} faces, written to {out}")


def _skew(text: str) -> Any:
    from sia_gen.studio.sampling import Skew

    factor, _, rest = text.partition("=")
    given, _, strength = rest.partition(":")
    try:
        return Skew(factor, given, float(strength))
    except ValueError as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"--skew {text} is no correlation; write it as factor=given:0.9") from None
