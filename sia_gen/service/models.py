"""The models of a service: each loaded once, when it is first asked for, and shared by all who ask."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import RLock
from typing import Any

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.load import load_attributes
from sia_gen.core.files import shipped
from sia_gen.generators.load import load_generator
from sia_gen.service.attacker import Attacker, attacker_of
from sia_gen.service.editor import VERIFIER, Editor
from sia_gen.targets.load import load_target
from sia_gen.targets.verifier import load_verifier

KEPT = 24  # models at a time; the one that was not used for the longest time goes first


class Models:
    """Loads by the names that `load_generator` and `load_target` take, onto one device."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self._lock = RLock()
        self._kept: OrderedDict[tuple[str, ...], Any] = OrderedDict()
        self._loading: dict[tuple[str, ...], RLock] = {}

    def attributes(self, generator: str) -> AttributeSpace:
        return self._once(("attributes", generator), lambda: load_attributes(generator, self.device))

    def editor(self, generator: str) -> Editor:
        """Raises what `load_generator` and `load_attributes` do."""
        return self._once(
            ("editor", generator),
            lambda: Editor(self._generator(generator), self.attributes(generator), self._verifier()),
        )

    def attacker(self, generator: str, target: str) -> Attacker:
        """Raises what `load_generator`, `load_attributes` and `load_target` do."""
        return self._once(("attacker", generator, target), lambda: self._attacker(generator, target))

    def _attacker(self, generator: str, target: str) -> Attacker:
        def once(name: str, make: Callable[[], Any]) -> Any:
            return self._once((name, generator), lambda: dict(make()))

        made, attributes = self._generator(generator), self.attributes(generator)
        return attacker_of(made, attributes, load_target(target, self.device), self.device, once)

    def _generator(self, name: str) -> Any:
        return self._once(("generator", name), lambda: load_generator(name, self.device))

    def _verifier(self) -> Any:
        if VERIFIER not in shipped("verifier"):
            return None
        return self._once((VERIFIER,), lambda: load_verifier(VERIFIER, self.device))

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
            return made
