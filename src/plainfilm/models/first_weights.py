"""What a model begins from: the weights inside plainfilm, a file, or what its hub has."""

from __future__ import annotations

import logging
from pathlib import Path

from torch import Tensor

from plainfilm.errors import UsageError
from plainfilm.models.families import OWN, Architecture, find_architecture
from plainfilm.models.options import SHIPPED
from plainfilm.models.shipped import ShippedFile
from plainfilm.models.weights import fetch_weights, read_weights

logger = logging.getLogger(__name__)

PRETRAINED = "pretrained"


def read_first_weights(architecture: Architecture, weights: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, inside plainfilm or not, or of what the hub has for this name.

    Raises:
        UsageError: `NO_WEIGHTS`.
        BundleError: `BUN_...` if the file is unsafe, damaged or not the one that was shipped.
        ResourceError: `RES_DOWNLOAD`.
    """
    if weights == SHIPPED or (weights == PRETRAINED and architecture.shipped is not None):
        return shipped_file(architecture).read()
    if weights != PRETRAINED:
        return read_weights(Path(weights), shown=str(weights))
    file = architecture.hub_file
    if file is None:
        raise UsageError(
            f"{architecture.name} has no pretrained weights to fetch. {architecture.no_weights()}",
            code="NO_WEIGHTS",
        )
    if "non-commercial" in architecture.licence:
        logger.warning("The weights of %s are under %s.", architecture.name, architecture.licence)
    return read_weights(fetch_weights(file), shown=str(file))


def shipped_file(architecture: Architecture) -> ShippedFile:
    """The weights inside plainfilm for this name.

    Raises:
        UsageError: `NO_WEIGHTS` where there are none.
    """
    if architecture.shipped is None:
        has = ", ".join(name for name in OWN if find_architecture(name).shipped is not None)
        raise UsageError(
            f"There are no weights of {architecture.name} inside plainfilm, only of {has}. For those of a model's own "
            "hub, or a file, use --weights instead of --pretrained.",
            code="NO_WEIGHTS",
        )
    return architecture.shipped
