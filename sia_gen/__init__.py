"""Finds out which semantic attributes make a vision model fail. Nothing heavy is imported until it is used."""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "AttributeSpace": "sia_gen.attributes.attribute_space",
    "AuditReport": "sia_gen.audits.finished.audit_report",
    "Classification": "sia_gen.targets.task",
    "Detection": "sia_gen.targets.task",
    "HardeningSettings": "sia_gen.hardening.regimens",
    "Keypoints": "sia_gen.targets.points",
    "ModuleTarget": "sia_gen.targets.module",
    "MultiLabel": "sia_gen.targets.task",
    "RebalancingSettings": "sia_gen.rebalancing.remedies",
    "Regression": "sia_gen.targets.task",
    "SemanticImageAttack": "sia_gen.attack.sia",
    "Verification": "sia_gen.targets.task",
    "audit": "sia_gen.audits.diagnose",
    "compare": "sia_gen.audits.finished.comparison",
    "export": "sia_gen.audits.finished.export",
    "harden": "sia_gen.hardening.harden",
    "load_attributes": "sia_gen.attributes.load",
    "load_generator": "sia_gen.generators.load",
    "load_target": "sia_gen.targets.load",
    "push_to_hub": "sia_gen.core.hub",
    "rebalance": "sia_gen.rebalancing.rebalance",
}
__all__ = sorted(_PUBLIC)  # noqa: PLE0605
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'sia_gen' has no attribute '{name}': it has {', '.join(__all__)}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
