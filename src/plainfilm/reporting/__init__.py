"""A run as one offline HTML file that a person can read."""

from plainfilm.reporting.content import (
    DataSummary,
    Example,
    FoldSummary,
    LeftOut,
    ModelFacts,
    ReportData,
    SplitCount,
    TrainingFacts,
)
from plainfilm.reporting.html import write_report

__all__ = [
    "DataSummary",
    "Example",
    "FoldSummary",
    "LeftOut",
    "ModelFacts",
    "ReportData",
    "SplitCount",
    "TrainingFacts",
    "write_report",
]
