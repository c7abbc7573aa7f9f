"""Work on the GPU that a ZeroGPU Space lends for one call; where there is none, nothing here is used.

Such a call runs in a process of its own: only what it is given goes there, and only its result comes back.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from sia_gen.service.models import Models

SECONDS = 60  # that one whole attack takes at most, with loading the models
LENT = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def _whole(asked: Any) -> Any:
    return asked.here(Models("cuda"), None, lambda done, total, what: None)


def _lent(work: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """To be called when this is imported, as a Space looks for such functions before it serves."""
    if not LENT:
        return work
    import spaces

    return spaces.GPU(duration=SECONDS)(work)


on_gpu = _lent(_whole)
"""Do a request, with models of its own, on a GPU that is lent for it."""
