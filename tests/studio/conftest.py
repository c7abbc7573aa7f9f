"""The studio's tests need MakeHuman's mesh, which is not ours to keep; they look for a copy beside the checkout."""

from pathlib import Path

import pytest

MAKEHUMAN = Path(__file__).resolve().parents[3] / "shared" / "makehuman"


@pytest.fixture(scope="session")
def makehuman():
    if not (MAKEHUMAN / "data").is_dir():
        pytest.skip(f"no MakeHuman copy in {MAKEHUMAN}")
    return MAKEHUMAN


@pytest.fixture(scope="session")
def studio(makehuman):
    from sia_gen.studio.studio import Studio

    return Studio(makehuman, resolution=32)
