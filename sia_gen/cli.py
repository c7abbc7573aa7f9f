"""The command line. Exit status: 0 done, 1 the work failed, 2 the request was wrong, 130 stopped by Ctrl-C.

Everything heavy is imported inside the command that needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.core.foreign import OUT_OF_MEMORY
from sia_gen.core.memory import hold_memory
from sia_gen.service.commands.audit_commands import audit, compare, export
from sia_gen.service.commands.bench_commands import bench
from sia_gen.service.commands.face_commands import attack, edit
from sia_gen.service.commands.find_command import find
from sia_gen.service.commands.harden_command import harden, rebalance
from sia_gen.service.commands.options import MODEL, AsJson, Device, Generator, Seed, print_json, resolve
from sia_gen.service.commands.recipe_commands import train
from sia_gen.service.commands.studio_commands import studio

# typer exports only this subclass of the error that every wrong command line raises.
UsageError = typer.BadParameter.__mro__[1]

app = typer.Typer(
    help="Find the semantic attributes that make a face model fail.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (audit, compare, harden, rebalance, export, find, attack, edit):
    app.command()(command)
app.add_typer(studio, name="studio")
app.add_typer(train, name="train")
app.add_typer(bench, name="bench")


class Kind(StrEnum):
    generators = "generators"
    targets = "targets"
    attributes = "attributes"


def _version(asked: bool) -> None:
    if asked:
        import sia_gen

        print(sia_gen.__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Find the semantic attributes that make a face model fail."""


def main() -> NoReturn:
    """Run the command line; each error is one line on stderr."""
    hold_memory()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # what an encoding lacks is shown as a question mark, and ends nothing
            stream.reconfigure(errors="replace")
    if "" not in sys.path:  # a console script, unlike `python -m`, does not see modules of the current folder
        sys.path.insert(0, "")
    try:
        status = app(standalone_mode=False, prog_name="sia-gen")
    except UsageError as error:
        message = error.format_message().rstrip(".").replace("Value error, ", "")
        help_command = f"'{error.ctx.command_path} --help'"
        _stop(f"{message}; see {help_command}" if message else f"no command; see {help_command}", 2)
    except RequestError as error:
        _stop(str(error), 2)
    except (WorkError, OSError) as error:
        _stop(str(error), 1)
    except RuntimeError as error:
        if type(error).__name__ != OUT_OF_MEMORY:  # torch's: it is not imported for a name here
            raise
        reason = ". ".join(str(error).split(". ")[:2])  # what follows is advice on an allocator
        _stop(f"out of memory where no smaller batch helps ({reason}); use --device cpu or a smaller model", 1)
    if status == 130:
        _stop("stopped; what was finished is kept where the command resumes", 130)
    sys.exit(status or 0)


def _stop(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(status)


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="NVIDIA's .pkl or rosinality's .pt of a StyleGAN.")],
    out: Annotated[Path, typer.Argument(help="Folder to write, new or empty.")],
    as_json: AsJson = False,
    seed: Seed = 0,  # every command takes it; a conversion draws nothing
    device: Device = "auto",
) -> None:
    """Convert a StyleGAN checkpoint into a generator's folder; nothing in the file is run."""
    from sia_gen.generators.foreign.convert import convert as work

    made = work(checkpoint, out)
    told = {"generator": made.name, "resolution": made.resolution, "source": made.config.source, "out": str(out)}
    if as_json:
        print_json(told)
    else:
        print(f"'{made.name}' draws {made.resolution} px, written to {out}\nLicence: {made.config.source['licence']}")


@app.command("list")
def list_models(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    generator: Generator = "faces-stylegan2",
    as_json: AsJson = False,
    seed: Seed = 0,  # every command takes it; nothing listed depends on it
    device: Device = "auto",
) -> None:
    """List the shipped generators or targets, or the attributes of a generator."""
    from sia_gen.service import catalogue
    from sia_gen.service.commands.terminal import show_entries

    if kind is Kind.attributes:
        entries = catalogue.attributes(generator, resolve(device))
    else:
        entries = catalogue.generators() if kind is Kind.generators else catalogue.targets()
    if as_json:
        print_json({kind.value: entries})
    else:
        show_entries(kind.value, entries)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    generator: Annotated[list[str] | None, typer.Option(help=f"Offer this too. {MODEL} Repeatable.")] = None,
    target: Annotated[list[str] | None, typer.Option(help=f"Offer this too. {MODEL} Repeatable.")] = None,
    allow_models: Annotated[
        bool,
        typer.Option("--allow-models", help="Let visitors bring models: safetensors and JSON, or a hub id."),
    ] = False,
    local: Annotated[
        bool, typer.Option("--local", help="Let folders and module:callable be named, whose code runs; for yourself.")
    ] = False,
    as_json: AsJson = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Serve the Gradio app until Ctrl-C, and its API: /?view=api is its page, /gradio_api/openapi.json its schema."""
    from sia_gen.service.app.interface import launch

    def announce(url: str) -> None:
        if as_json:
            print_json({"url": url})
        else:
            print(url, flush=True)
            print(f"The API: {url}?view=api", file=sys.stderr)

    launch(
        host,
        port,
        generators=generator or [],
        targets=target or [],
        seed=seed,
        device=device,
        allow_models=allow_models,
        local=local,
        announce=announce,
    )


if __name__ == "__main__":
    main()
