"""MLflow as a logger of Fabric's kind, which has none: metrics, parameters and the end of one run."""

from __future__ import annotations

import time
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from lightning_fabric.loggers.logger import Logger

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


class MlflowLogger(Logger):
    """Tells one run of an MLflow client, and nothing that MLflow adds by itself: no user, script or folder.

    Args:
        client: Of a database or a server.
        run_id: A run that was created there.
    """

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        super().__init__()
        self._client = client
        self._run_id = run_id

    @property
    def name(self) -> str:
        """Of what is told."""
        return "mlflow"

    @property
    def version(self) -> str:
        """The run's id."""
        return self._run_id

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Figures of one epoch, in one request."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._run_id, metrics=[Metric(k, v, now, step or 0) for k, v in metrics.items()])

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Options, each told once, and figures that belong to them."""
        from mlflow.entities import Param

        del kwargs
        values = vars(params) if isinstance(params, Namespace) else params
        known = self._client.get_run(self._run_id).data.params
        new = [Param(name, str(value)) for name, value in values.items() if name not in known]
        for start in range(0, len(new), 100):  # as many as one request may hold
            self._client.log_batch(self._run_id, params=new[start : start + 100])
        for metrics in args:
            self.log_metrics(metrics)

    def finalize(self, status: str) -> None:
        """The run is over."""
        self._client.set_terminated(self._run_id, "FINISHED" if status == "success" else "FAILED")
