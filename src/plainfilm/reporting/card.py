"""The model card beside the weights, and the fingerprint of what they were trained on."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from plainfilm.bundle import BundleConfig
from plainfilm.data.splits import Fold
from plainfilm.data.table import Table

if TYPE_CHECKING:
    from plainfilm.models import ModelInfo

WORTH = {
    "patient": "Training, validation and test images come from different patients.",
    "image": "**The split was by image: images of one patient are in training and in test. Scores of this model do not "
    "hold on new patients.**",
}


def fingerprint(table: Table, fold: Fold) -> dict[str, Any]:
    """Counts and hashes that recognise the training images without naming one."""
    digests = sorted(table.rows["pixel_sha256"].iloc[fold.train])
    return {
        "training_images": len(fold.train),
        "validation_images": len(fold.validation),
        "pixel_sha256": hashlib.sha256("".join(digests).encode()).hexdigest(),
    }


def model_card(config: BundleConfig, model: ModelInfo) -> str:
    """The README of a bundle, with the head that model hubs read."""
    classes = "\n".join(f"- {_escape(name)}" for name in config.classes)
    head = {
        "library_name": "plainfilm",
        "pipeline_tag": "image-classification",
        "tags": ["medical-imaging", "research-only"],
    }
    licence = config.weights_licence or "none (weights began at random)"
    return f"""---
{json.dumps(head, indent=2)}
---

# {config.architecture.name}

Research software, not a medical device.

- Input: one grey channel, {config.preprocessing.height}x{config.preprocessing.width}. {config.preprocessing.in_words()}
- Parameters: {model.parameters:,}
- Weights it began from: {licence}
- Trained on {config.data["training_images"]:,} images, the epoch chosen on {config.data["validation_images"]:,}.
- {WORTH[config.split_unit]}

## Classes, in the order of the scores

{classes}

## Intended use, population, limits

To be filled in by the authors: who was imaged, where, with what equipment, how the labels were made, and for whom
this model must not be used. The run's report holds every figure with its interval.
"""


def _escape(text: str) -> str:
    """A class name as plain text in Markdown."""
    return "".join(f"\\{char}" if char in "\\`*_{}[]<>()#+-!|" else char for char in text if char.isprintable())
