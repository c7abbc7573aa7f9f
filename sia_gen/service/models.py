"""The models of a service: each loaded once, when it is first asked for, and shared by all who ask.

A generator changes while it draws (hooks, flags, numbers of another precision), so that two threads must not draw with
one: attacks, which all run in one thread, have theirs, and edits another, one edit at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import RLock
from typing import Any

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.load import fitting, load_attributes
from sia_gen.core.files import shipped
from sia_gen.generators.load import load_generator
from sia_gen.service.attacker import Attacker, attacker_of
from sia_gen.service.editor import VERIFIER, Editor, Edits
from sia_gen.targets.load import load_target
from sia_gen.targets.verifier import load_verifier

KEPT = 24  # models at a time; the one that was not used for the longest time goes first
BROUGHT = 4  # of those, targets from a folder, as visitors bring them: each may hold as much as `LARGEST` of uploads


class Models:
    """Loads by the names that `load_generator` and `load_target` take, onto one device."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self._lock, self._editing = RLock(), RLock()
        self._kept: OrderedDict[tuple[str, ...], Any] = OrderedDict()
        self._loading: dict[tuple[str, ...], RLock] = {}

    def attributes(self, generator: str) -> AttributeSpace:
        return self._once(("attributes", generator), lambda: load_attributes(generator, self.device))

    def edit(self, generator: str, seeds: Sequence[int], changes: Mapping[str, float]) -> Edits:
        """What `Editor.change` gives; raises what `load_generator` and `load_attributes` do, too."""
        editor = self.editor(generator)
        with self._editing:
            return editor.change(seeds, changes)

    def editor(self, generator: str) -> Editor:
        """To be used by one thread at a time, as `edit` does."""
        return self._once(("editor", generator), lambda: self._editor(generator))

    def attacker(self, generator: str, target: str) -> Attacker:
        """To be used by one thread alone; raises what `load_generator`, `load_attributes` and `load_target` do."""
        return self._once(("attacker", generator, target), lambda: self._attacker(generator, target))

    def _editor(self, generator: str) -> Editor:
        verifier = load_verifier(VERIFIER, self.device) if VERIFIER in shipped("verifier") else None
        made = load_generator(generator, self.device)
        return Editor(made, fitting(self.attributes(generator), made), verifier)

    def look(self, generator: str, target: str) -> None:
        """Look at the faces that say which are likely, as the first attack of a target would, with models of its own.

        So it can be done beside attacks.
        """
        _ = self._attacker(generator, target, load_generator(generator, self.device)).gate

    def _attacker(self, generator: str, target: str, made: Any = None) -> Attacker:
        def once(name: str, make: Callable[[], Any]) -> Any:
            return self._once((name, generator), lambda: dict(make()))

        made = made or self._generator(generator)
        attributes = fitting(self.attributes(generator), made)
        return attacker_of(made, attributes, load_target(target, self.device), self.device, once)

    def _generator(self, name: str) -> Any:
        return self._once(("generator", name), lambda: load_generator(name, self.device))

    def _once(self, key: tuple[str, ...], load: Callable[[], Any]) -> Any:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            loading = self._loading.setdefault(key, RLock())
        with loading:  # two who ask for the same wait for one load, others for nothing
            with self._lock:
                if key in self._kept:
                    return self._kept[key]
            made = load()
            with self._lock:
                self._kept[key] = made
                self._loading.pop(key, None)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
                brought = [key for key in self._kept if key[0] == "attacker" and Path(key[-1]).is_absolute()]
                for old in brought[:-BROUGHT]:
                    del self._kept[old]
            return made
