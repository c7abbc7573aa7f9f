"""What the files at the root promise: one list of dependencies, a light import, a known top level, small weights."""

import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest
from huggingface_hub import metadata_load
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TOP_LEVEL = {
    ".ci", "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "app.py", "benchmarks", "pretrained", "pyproject.toml",
    "requirements.txt", "sia_gen", "tests",
}  # fmt: skip
HEAVY = ("torch", "transformers", "diffusers", "gradio", "matplotlib")
MB = 1_000_000
ROOM = 15  # modules in one folder, at most
LONG = 300  # lines of a module, at most: more are two ideas


def lines(name: str) -> list[str]:
    """The lines of a requirements file that are not comments."""
    return [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]


def ranges() -> dict[str, Requirement]:
    """Every dependency that `make test` installs, by its canonical name."""
    asked = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, asked)}


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """What git has recorded, relative to the root."""
    if not (ROOT / ".git").exists():
        pytest.skip("these files did not come with their git history, so what is tracked cannot be known")
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [Path(name) for name in listing.split("\0") if name]


def test_the_space_installs_what_the_project_depends_on():
    assert lines("requirements.txt") == PROJECT["dependencies"]


def test_every_dependency_is_pinned_once_and_inside_its_range():
    pins = [Requirement(line) for line in lines(".ci/constraints.txt")]
    assert sorted(canonicalize_name(pin.name) for pin in pins) == sorted(ranges())
    for pin in pins:
        (exact,) = pin.specifier
        assert exact.operator == "=="
        assert ranges()[canonicalize_name(pin.name)].specifier.contains(exact.version), pin.name


def test_torchvision_is_no_direct_dependency():
    assert "torchvision" not in ranges()


def test_import_is_light():
    script = f"import sys, sia_gen; print([name for name in {HEAVY} if name in sys.modules])"
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout == "[]\n"


def test_readme_shows_the_two_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in readme
    assert "make test" in readme


def test_readme_is_the_card_of_a_space():
    card = metadata_load(ROOT / "README.md")
    assert card["sdk"] == "gradio"
    assert ranges()["gradio"].specifier.contains(card["sdk_version"])
    assert f"gradio=={card['sdk_version']}" in lines(".ci/constraints.txt")
    assert card["app_file"] == "app.py"
    assert card["license"] == PROJECT["license"].lower()
    assert len(card["short_description"]) <= 60


def test_top_level_holds_only_what_is_named(tracked):
    names = {path.parts[0] for path in tracked}
    assert {name for name in names - TOP_LEVEL if not re.match(r"\.\w", name)} == set()


def test_shipped_weights_are_small(tracked):
    sizes = {path.as_posix(): (ROOT / path).stat().st_size for path in tracked if path.parts[0] == "pretrained"}
    assert {name: size for name, size in sizes.items() if size > 16 * MB} == {}
    assert sum(sizes.values()) <= 72 * MB


def test_nothing_of_makehuman_is_tracked(tracked):
    assert [path for path in tracked if path.suffix in {".mhclo", ".obj", ".target"}] == []


def test_no_module_needs_itself():
    graph = grimp.build_graph("sia_gen", cache_dir=None)
    needs = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert sum(map(len, needs.values())) > 300
    TopologicalSorter(needs).prepare()  # raises CycleError, which names the circle


def test_no_room_is_crowded():
    folders = [path for path in (ROOT / "sia_gen").rglob("*") if path.is_dir()]
    modules = {str(folder.relative_to(ROOT)): len([*folder.glob("[!_]*.py")]) for folder in folders}
    assert sum(modules.values()) > 100
    assert {folder: count for folder, count in modules.items() if count > ROOM} == {}


def test_no_file_is_long():
    files = {str(path.relative_to(ROOT)): path for path in (ROOT / "sia_gen").rglob("*.py")}
    counts = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in files.items()}
    assert sum(counts.values()) > 10_000
    assert {name: count for name, count in counts.items() if count > LONG} == {}
