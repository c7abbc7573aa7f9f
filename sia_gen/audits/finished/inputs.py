"""What a finished audit was made of: found again by name, and proven to be the same still."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sia_gen.attributes.attribute_space import AttributeSpace
from sia_gen.attributes.load import load_attributes
from sia_gen.audits.evidence.reference import VERIFIER, followed
from sia_gen.audits.finished.audit_report import AuditReport, finished_settings
from sia_gen.audits.run.run_folder import GIVEN, MADE_OF, fingerprint, probe, require_same_weights
from sia_gen.core.errors import RequestError
from sia_gen.core.executors import resolve_device
from sia_gen.core.seeds import face_seeds
from sia_gen.generators.generator import Generator
from sia_gen.generators.load import load_generator
from sia_gen.targets.load import load_target
from sia_gen.targets.target import Target, configured


@dataclass(frozen=True)
class FinishedAudit:
    """A report, and the generator and the attributes that it is of.

    ``asked`` is what an audit of the same attributes is given: their names, or the space that the first was given.
    """

    report: AuditReport
    settings: dict[str, Any]
    generator: Generator
    audited: AttributeSpace
    asked: Sequence[str] | AttributeSpace

    @classmethod
    def load(cls, run: str | Path, generator: str | Path | None = None, device: str = "cpu") -> FinishedAudit:
        """``generator`` is named where the run's name does not find it again.

        Raises `RequestError` where the attributes have changed since, and for a folder without a report.
        """
        report = AuditReport.load(run)
        settings = finished_settings(report)
        named = generator or settings[MADE_OF]["generator"] or settings["generator"]
        source = load_generator(named, device)
        known = load_attributes(named, str(resolve_device(device)), source)
        known = known.select(settings.get(GIVEN, known.names))
        audited = known.select(settings["attributes"])
        if fingerprint(known, audited) != settings["edits"]:
            raise RequestError(f"the attributes of '{named}' have changed since '{run}' was made; audit again")
        asked = known if GIVEN in settings else settings["attributes"]
        return cls(report, settings, source, audited, asked)

    def target(self, given: str | Path | Target | None = None, device: str = "cpu") -> Target:
        """The audited target as the audit asked it, ``given`` or named where the run's name does not find it again.

        Raises `RequestError` where it answers the first face otherwise than it did.
        """
        given = given or self.settings[MADE_OF]["target"] or self.settings["target"]
        target = given if isinstance(given, Target) else load_target(given, device)
        target = configured(target, self.settings["label"], self.settings["towards"])
        target = followed(target, resolve_device(device), self.settings[MADE_OF].get("verifier", VERIFIER))
        said = probe(self.generator, target, face_seeds(self.settings["seed"], 1)[0])
        require_same_weights(self.report.folder, self.settings["probe"], said, "name the audited target")
        return target
