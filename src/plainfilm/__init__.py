"""plainfilm: medical image classification with a number that holds on new patients.

Every command of the command line is a call of the same name: `scan`, `train`, `evaluate`, `predict`, `report`.
Importing the package loads nothing heavy; each name loads what it needs when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Evaluation": "plainfilm.measures",
    "Measure": "plainfilm.measures",
    "PlainfilmError": "plainfilm.errors",
    "Predictions": "plainfilm.prediction",
    "Run": "plainfilm.runs",
    "RunOptions": "plainfilm.config",
    "Table": "plainfilm.data.table",
    "audit": "plainfilm.verbs",
    "audit_printed_report": "plainfilm.verbs",
    "bridge": "plainfilm.verbs",
    "compare": "plainfilm.verbs",
    "create_model": "plainfilm.models",
    "evaluate": "plainfilm.verbs",
    "explain": "plainfilm.verbs",
    "explore": "plainfilm.verbs",
    "export": "plainfilm.verbs",
    "list_models": "plainfilm.models",
    "predict": "plainfilm.verbs",
    "pretrain": "plainfilm.verbs",
    "push": "plainfilm.verbs",
    "read_image": "plainfilm.data.images",
    "read_result": "plainfilm.dicom_results.reading",
    "report": "plainfilm.verbs",
    "scan": "plainfilm.verbs",
    "serve": "plainfilm.web.serving",
    "sweep": "plainfilm.verbs",
    "train": "plainfilm.verbs",
}

__all__ = [
    "Evaluation",
    "Measure",
    "PlainfilmError",
    "Predictions",
    "Run",
    "RunOptions",
    "Table",
    "__version__",
    "audit",
    "audit_printed_report",
    "bridge",
    "compare",
    "create_model",
    "evaluate",
    "explain",
    "explore",
    "export",
    "list_models",
    "predict",
    "pretrain",
    "push",
    "read_image",
    "read_result",
    "report",
    "scan",
    "serve",
    "sweep",
    "train",
]

if TYPE_CHECKING:
    from plainfilm.config import RunOptions
    from plainfilm.data.images import read_image
    from plainfilm.data.table import Table
    from plainfilm.dicom_results.reading import read_result
    from plainfilm.errors import PlainfilmError
    from plainfilm.measures import Evaluation, Measure
    from plainfilm.models import create_model, list_models
    from plainfilm.prediction import Predictions
    from plainfilm.runs import Run
    from plainfilm.verbs import (
        audit,
        audit_printed_report,
        bridge,
        compare,
        evaluate,
        explain,
        explore,
        export,
        predict,
        pretrain,
        push,
        report,
        scan,
        sweep,
        train,
    )
    from plainfilm.web.serving import serve


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'plainfilm' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)
