"""The public calls, one per command: what the command line can do, these can."""

from plainfilm.verbs.auditing import audit, audit_printed_report
from plainfilm.verbs.bridging import bridge
from plainfilm.verbs.comparing import compare
from plainfilm.verbs.explaining import explain
from plainfilm.verbs.exploring import explore
from plainfilm.verbs.exporting import export
from plainfilm.verbs.pretraining import pretrain
from plainfilm.verbs.pushing import push
from plainfilm.verbs.scanning import scan
from plainfilm.verbs.scoring import evaluate, predict
from plainfilm.verbs.sweeping import sweep
from plainfilm.verbs.training import plan, report, train

__all__ = [
    "audit",
    "audit_printed_report",
    "bridge",
    "compare",
    "evaluate",
    "explain",
    "explore",
    "export",
    "plan",
    "predict",
    "pretrain",
    "push",
    "report",
    "scan",
    "sweep",
    "train",
]
