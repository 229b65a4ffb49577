"""What a model begins from: the weights inside plainfilm, a file, or what its hub has."""

from __future__ import annotations

import logging
from pathlib import Path

from torch import Tensor

from plainfilm.errors import UsageError
from plainfilm.models.families import Architecture
from plainfilm.models.options import PRETRAINED
from plainfilm.models.shipped import ShippedFile
from plainfilm.models.weights import HubFile, fetch_weights, read_weights

logger = logging.getLogger(__name__)


def read_first_weights(architecture: Architecture, weights: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, or of what is published for this name.

    Raises:
        UsageError: `NO_WEIGHTS`.
        BundleError: `BUN_...` if the file is unsafe, damaged or not the one that was shipped.
        ResourceError: `RES_DOWNLOAD`.
    """
    if weights != PRETRAINED:
        return read_weights(Path(weights), shown=str(weights))
    file = published_weights(architecture)
    if isinstance(file, ShippedFile):
        return file.read()
    if "non-commercial" in architecture.licence:
        logger.warning("The weights of %s are under %s.", architecture.name, architecture.licence)
    return read_weights(fetch_weights(file), shown=str(file))


def published_weights(architecture: Architecture) -> ShippedFile | HubFile:
    """Where the weights are that are meant by `pretrained`.

    Raises:
        UsageError: `NO_WEIGHTS` where there are none.
    """
    if architecture.published is None:
        raise UsageError(
            f"{architecture.name} has no pretrained weights. {architecture.no_weights()}", code="NO_WEIGHTS"
        )
    return architecture.published
