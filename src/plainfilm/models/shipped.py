"""Weights that come with plainfilm: made from generated images, so that they are free of patients."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

from plainfilm.errors import BundleError
from plainfilm.models.weights import read_weights
from plainfilm.storage import check_hash

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = files("plainfilm.models") / "pretrained"


@dataclass(frozen=True)
class ShippedFile:
    """Weights inside the package; the recipe that made them stands beside them, with their hash.

    Attributes:
        name: Without an ending.
    """

    name: str

    def __str__(self) -> str:
        return f"{self.name}.safetensors inside plainfilm"

    def recipe(self) -> dict[str, Any]:
        """What made the weights: options, images seen, seconds, versions, hash.

        Raises:
            BundleError: `BUN_MISSING` or `BUN_DAMAGED`: the installation is not whole.
        """
        try:
            recipe: dict[str, Any] = json.loads((FOLDER / f"{self.name}.json").read_text("utf-8"))
        except OSError:
            raise BundleError(
                f"The recipe of {self} is missing. Install plainfilm again.", code="BUN_MISSING"
            ) from None
        except ValueError:
            raise BundleError(
                f"The recipe of {self} is damaged. Install plainfilm again.", code="BUN_DAMAGED"
            ) from None
        return recipe

    def read(self) -> dict[str, Tensor]:
        """The tensors, once their hash is that of the recipe.

        Raises:
            BundleError: `BUN_MISSING` or `BUN_DAMAGED`: the installation is not whole.
        """
        expected = str(self.recipe().get("sha256"))
        with as_file(FOLDER / f"{self.name}.safetensors") as path:
            try:
                check_hash(path, expected, shown=str(self))
            except BundleError as error:
                raise BundleError(f"{error} Install plainfilm again.", code=error.code) from None
            return read_weights(path, shown=str(self))
