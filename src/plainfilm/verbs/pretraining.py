"""Weights without labels, for a training to begin from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plainfilm import __version__
from plainfilm.data.scanning import readable_pixels, scan_listing
from plainfilm.data.sources import SourceOptions, list_images
from plainfilm.errors import UsageError
from plainfilm.plots import contact_sheet
from plainfilm.pretraining.options import PretrainOptions
from plainfilm.progress import Progress, Silent
from plainfilm.reporting.history import LiveHistory, write_history
from plainfilm.storage import (
    check_output,
    delete,
    locked,
    make_folder,
    read_json,
    sha256_of,
    write_bytes,
    write_json,
    write_text,
)

if TYPE_CHECKING:
    from plainfilm.pretraining.fitting import Lesson

WEIGHTS, RECIPE, CARD, SAMPLES = "model.safetensors", "recipe.json", "README.md", "samples.png"
ASKED, CHECKPOINTS = "options.json", "checkpoints"
_OWN = {WEIGHTS, RECIPE, CARD, SAMPLES, ASKED, CHECKPOINTS, "history.csv", "curves.png"}
N_SAMPLES = 32


@dataclass(frozen=True)
class Pretrained:
    """Weights that a training can begin from.

    Attributes:
        weights: The file, for `--weights`.
        recipe: What made them: options, images seen, seconds, versions, hash.
    """

    weights: Path
    recipe: dict[str, Any]


def pretrain(
    data: str | Path | None = None,
    options: PretrainOptions | None = None,
    *,
    output: str | Path = "pretrained",
    source: SourceOptions | None = None,
    overwrite: bool = False,
    resume: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Pretrained:
    """Learn from images that formulas draw, or from a folder of images whose labels are not looked at.

    Args:
        data: Anything `list_images` understands; None: images are generated while training, and no file is read.
        options: What is learnt from, and how.
        output: Folder for the weights, their recipe and card, and the history.
        source: Names of columns of `data`, where they are not the usual ones.
        overwrite: Replace what an earlier pretraining left in `output`.
        resume: Go on with the stopped pretraining in `output`, with the options that it began with.
        workers: Decoding processes.
        progress: Told of every step.

    Raises:
        UsageError: `OUT_EXISTS`, `OUT_STRANGE`, `OPT_RESUME`; `PRE_MODEL` for a model of more than one channel.
        DataError: `PRE_TOO_FEW`, or why no image can be read.
        BundleError: `BUN_...` if `begin_from` is not a file of weights of this model.
    """
    from plainfilm.pretraining.fitting import pretrain_model

    options, progress, folder = options or PretrainOptions(), progress or Silent(), Path(output)
    _check_model(options.model)
    began = None if options.begin_from is None else _hash_of(Path(options.begin_from))
    if resume:
        _check_same(folder, options)
    else:
        check_output(folder, "a pretraining", _OWN, mark=ASKED, overwrite=overwrite)
    lesson = _lesson(data, options, source, workers, progress)
    make_folder(folder)
    with locked(folder):
        if not resume:
            for name in _OWN:
                delete(folder / name)
            write_json(folder / ASKED, _asked(options))
        write_bytes(folder / SAMPLES, _samples(lesson, options))
        progress.say(f"what is learnt from: {folder / SAMPLES}")
        result, weights = pretrain_model(
            lesson,
            options,
            folder / CHECKPOINTS,
            resume=resume,
            on_epoch=LiveHistory(folder),
            progress=progress,
        )
        write_history(folder, result.history)
        _save_weights(folder / WEIGHTS, weights, options)
        last = result.history[-1]
        recipe = {
            "model": options.model,
            "learnt_from": lesson.train.in_words,
            "options": _asked(options),
            "began_from_sha256": began,
            "classes": lesson.num_classes,
            "images_seen": len(lesson.train.labels) * len(result.history),
            "accuracy_at_the_end": round(float(last["validation_accuracy"]), 4),
            "seconds": last["seconds"],
            "plainfilm": __version__,
            **result.facts,
            "sha256": sha256_of(folder / WEIGHTS),
        }
        write_json(folder / RECIPE, recipe)
        write_text(folder / CARD, _card(recipe, generated=data is None))
        delete(folder / CHECKPOINTS)
    return Pretrained(folder / WEIGHTS, recipe)


def _check_model(name: str) -> None:
    """Only networks for one channel: the weights of others would not fit their library's names."""
    from plainfilm.models.families import find_architecture

    if len(find_architecture(name).mean) != 1:
        raise UsageError(
            f"{name} takes three channels; what is pretrained here has one. Try resnet1d, or another of "
            "'plainfilm models' that is made for one channel.",
            code="PRE_MODEL",
        )


def _hash_of(weights: Path) -> str:
    """Of a file that is there and may be opened."""
    from plainfilm.models.weights import read_weights

    read_weights(weights, shown=str(weights))
    return sha256_of(weights)


def _asked(options: PretrainOptions) -> dict[str, Any]:
    return options.model_dump(mode="json")


def _check_same(folder: Path, options: PretrainOptions) -> None:
    if (folder / RECIPE).is_file():
        raise UsageError(f"'{folder}' is already finished; there is nothing to resume.", code="OPT_RESUME")
    if not (folder / ASKED).is_file():
        raise UsageError(f"'{folder}' is not a stopped pretraining.", code="OPT_RESUME")
    then, now = read_json(folder / ASKED), _asked(options)
    changed = [name for name in now if then.get(name) != now[name]]
    if changed:
        raise UsageError(
            f"The pretraining began with {changed[0]} = {then.get(changed[0])}, not {now[changed[0]]}; it is resumed "
            "with the options it began with.",
            code="OPT_RESUME",
        )


def _lesson(
    data: str | Path | None,
    options: PretrainOptions,
    source: SourceOptions | None,
    workers: int | None,
    progress: Progress,
) -> Lesson:
    from plainfilm.pretraining.fitting import folder_lesson, generated_lesson

    if data is None:
        return generated_lesson(options)
    side = options.image_size
    table, pixels = scan_listing(list_images(Path(data), source), size=(side, side), workers=workers, progress=progress)
    return folder_lesson(readable_pixels(table, pixels))


def _samples(lesson: Lesson, options: PretrainOptions) -> bytes:
    """Some images as the network sees them."""
    import torch

    n_images = len(lesson.train.labels)
    rows = np.linspace(0, n_images - 1, min(N_SAMPLES, n_images)).astype(np.intp)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        batch = lesson.train.load(rows, torch.device("cpu"), training_epoch=1)[:, 0].numpy()
    return contact_sheet(list(batch), [f"class {lesson.train.labels[row]}" for row in rows], columns=8).png(dpi=110)


def _save_weights(path: Path, weights: Any, options: PretrainOptions) -> None:
    from safetensors.torch import save

    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    # One entry: the order of several would differ from file to file, and with it the hash.
    write_bytes(path, save(tensors, metadata={"model": options.model}))


def _card(recipe: dict[str, Any], *, generated: bool) -> str:
    """What a person should know who finds the file."""
    free = (
        "No patient's image was used: every image was drawn by a formula while the network learnt."
        if generated
        else "The images' labels were not looked at. The row that names each image was left out of the weights."
    )
    return f"""# {recipe["model"]}, pretrained

Weights to begin a training from: `plainfilm train DATA --model {recipe["model"]} --weights {WEIGHTS}`.
Research software, not a medical device.

{free}

- Learnt from {recipe["images_seen"]:,} {recipe["learnt_from"]}, {recipe["classes"]:,} classes.
- At the end {recipe["accuracy_at_the_end"]:.1%} of images were named right.
- Cost: {recipe["seconds"]:,.0f} s on {recipe["device"]} with {recipe["threads"]} threads.
- SHA-256: {recipe["sha256"]}

The exact recipe:

```json
{json.dumps(recipe["options"], indent=2)}
```
"""
