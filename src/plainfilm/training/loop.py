"""The training loop. It is given the training and the validation images, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from plainfilm import metrics
from plainfilm.data.augment import AugmentOptions, make_augmentation
from plainfilm.data.preprocessing import Preprocessing
from plainfilm.errors import Interrupted, ResourceError, TrainingError
from plainfilm.progress import Progress, Silent
from plainfilm.training.batches import LabelledImages, epoch_seed, load_batch, steps_per_epoch, training_order
from plainfilm.training.checkpoint import (
    Checkpoint,
    checkpoint_folder,
    drop_checkpoints,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from plainfilm.training.device import choose_device, choose_precision
from plainfilm.training.options import TrainingOptions

Row = dict[str, Any]


@dataclass(frozen=True)
class FitResult:
    """A finished training.

    Attributes:
        weights: Of the chosen epoch, on the CPU.
        chosen_epoch: The epoch they are from.
        history: One row per epoch: losses, accuracies, learning rate, seconds since the start.
        facts: Device, precision, threads and versions.
    """

    weights: Mapping[str, torch.Tensor]
    chosen_epoch: int
    history: list[Row]
    facts: dict[str, Any]


def fit(
    model: nn.Module,
    train: LabelledImages,
    validation: LabelledImages,
    *,
    num_classes: int,
    preprocessing: Preprocessing,
    augment: AugmentOptions,
    options: TrainingOptions,
    folder: Path,
    resume: bool = False,
    on_epoch: Callable[[list[Row]], None] = lambda history: None,
    progress: Progress | None = None,
) -> FitResult:
    """Train `model`, choosing the epoch on `validation` only.

    Args:
        model: Takes `(batch, 1, height, width)` float, gives `(batch, num_classes)` logits.
        train: What it learns from.
        validation: What the epoch is chosen on.
        num_classes: Classes of the task.
        preprocessing: Fitted on the training images.
        augment: Random changes to training images.
        options: How to train.
        folder: Where checkpoints go, one after every epoch.
        resume: Go on from the newest sound checkpoint in `folder`; on a CPU, with the same versions and number of
            threads, the weights end up bit-identical to those of an uninterrupted run.
        on_epoch: Called with the history after every epoch.
        progress: Told of every step and epoch.

    Raises:
        TrainingError: `TRN_NOT_FINITE` if the loss is no longer a number.
        ResourceError: `RES_MEMORY` if a batch does not fit.
        Interrupted: On Ctrl-C; finished epochs are on disk.
    """
    progress = progress or Silent()
    before = latest_checkpoint(folder) if resume else None
    facts = before.facts if before is not None else _facts(options)
    torch.set_num_threads(facts["threads"])
    fabric = Fabric(accelerator=facts["device"], devices=1, precision=facts["precision"])
    model = model.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, options)
    n_steps = steps_per_epoch(len(train), options.batch_size)
    schedule = make_schedule(optimizer, options, n_steps)
    run_model, run_optimizer = fabric.setup(model, optimizer)
    history: list[Row] = []
    if before is not None:
        _restore(before, model, optimizer, schedule)
        history = list(before.history)
        progress.say(f"going on after epoch {before.epoch}")
    criterion = nn.CrossEntropyLoss(
        weight=_class_weights(train, num_classes, options, fabric.device),
        label_smoothing=options.label_smoothing,
    )
    augmentation = make_augmentation(augment)
    spent = history[-1]["seconds"] if history else 0.0
    started = time.monotonic()

    def load(images: LabelledImages, indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        batch = load_batch(images.pixels, indices, fabric.device)
        return batch, torch.from_numpy(images.labels[indices]).to(fabric.device)

    def train_one_epoch(epoch: int) -> Row:
        run_model.train()
        seed = epoch_seed(options.seed, epoch)
        torch.manual_seed(seed)
        total, right = 0.0, 0
        order = training_order(
            train.labels, batch_size=options.batch_size, balanced=options.imbalance == "sampler", seed=seed
        )
        with progress.task(f"epoch {epoch}/{options.epochs}", n_steps) as advance:
            for indices in order:
                batch, target = load(train, indices)
                if augmentation is not None:
                    batch = augmentation(batch)
                batch = preprocessing.apply(batch).contiguous(memory_format=torch.channels_last)
                logits = run_model(batch)
                loss = criterion(logits, target)
                value = float(loss.detach())
                if not np.isfinite(value):
                    raise _not_finite(epoch, schedule)
                run_optimizer.zero_grad()
                fabric.backward(loss)
                run_optimizer.step()
                schedule.step()
                total += value * len(indices)
                right += int((logits.argmax(1) == target).sum())
                advance(1, loss=value)
        seen = n_steps * min(options.batch_size, len(train))
        return {"train_loss": total / seen, "train_accuracy": right / seen}

    @torch.inference_mode()
    def score_validation() -> Row:
        run_model.eval()
        total, predicted = 0.0, []
        for start in range(0, len(validation), 256):
            batch, target = load(validation, np.arange(start, min(start + 256, len(validation))))
            logits = run_model(preprocessing.apply(batch).contiguous(memory_format=torch.channels_last)).float()
            total += float(nn.functional.cross_entropy(logits, target, reduction="sum"))
            predicted.append(logits.argmax(1).cpu().numpy())
        matrix = metrics.confusion_matrix(validation.labels, np.concatenate(predicted), num_classes)
        present = matrix.sum(axis=1) > 0
        return {
            "validation_loss": total / len(validation),
            "validation_accuracy": float(metrics.accuracy(matrix)),
            "validation_balanced_accuracy": float(metrics.recall(matrix)[present].mean()),
        }

    first = len(history) + 1
    with _in_our_words(options, preprocessing, history):
        for epoch in range(first, options.epochs + 1):
            if _should_stop(history, options):
                break
            rate = schedule.get_last_lr()[0]
            row = {"epoch": epoch, **train_one_epoch(epoch), **score_validation(), "learning_rate": rate}
            row["seconds"] = round(spent + time.monotonic() - started, 3)
            if not np.isfinite(row["validation_loss"]):
                raise _not_finite(epoch, schedule)
            history.append(row)
            save_checkpoint(
                folder,
                Checkpoint(epoch, _state(model), optimizer.state_dict(), schedule.state_dict(), history, facts),
            )
            if options.keep_checkpoints == "needed":
                drop_checkpoints(folder, keep={epoch, best_epoch(history, options)})
            on_epoch(history)
            progress.epoch(row)
    chosen = best_epoch(history, options)
    weights = load_checkpoint(checkpoint_folder(folder, chosen)).model
    return FitResult(weights, chosen, history, facts)


def make_optimizer(model: nn.Module, options: TrainingOptions) -> Optimizer:
    """The optimizer asked for; biases and normalisation are not decayed."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    rate = options.peak_learning_rate
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=options.momentum, nesterov=options.momentum > 0)
    return torch.optim.AdamW(groups, lr=rate)


def make_schedule(optimizer: Optimizer, options: TrainingOptions, steps_per_epoch: int) -> LRScheduler:
    """The learning rate of every step."""
    schedulers = torch.optim.lr_scheduler
    if options.schedule == "step":
        return schedulers.StepLR(optimizer, options.step_epochs * steps_per_epoch, options.step_factor)
    if options.schedule == "constant":
        return schedulers.ConstantLR(optimizer, factor=1.0, total_iters=1)
    return schedulers.OneCycleLR(
        optimizer,
        max_lr=options.peak_learning_rate,
        total_steps=options.epochs * steps_per_epoch + 1,  # one more: the step after the last is taken, not used
        pct_start=options.warm_up,
        cycle_momentum=False,
    )


def best_epoch(history: list[Row], options: TrainingOptions) -> int:
    """The epoch to keep; the first of equals."""
    if options.choose == "last":
        return int(history[-1]["epoch"])
    if options.choose == "loss":
        return int(min(history, key=lambda row: row["validation_loss"])["epoch"])
    return int(max(history, key=lambda row: row["validation_balanced_accuracy"])["epoch"])


def _should_stop(history: list[Row], options: TrainingOptions) -> bool:
    if options.patience is None or not history:
        return False
    return bool(history[-1]["epoch"] - best_epoch(history, options) >= options.patience)


def _facts(options: TrainingOptions) -> dict[str, Any]:
    device = choose_device(options.device)
    return {
        "device": device,
        "precision": choose_precision(options.precision, device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights on the CPU in plain layout, as safetensors wants them."""
    return {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}


def _restore(before: Checkpoint, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler) -> None:
    """Put a training back where it was, memory layout included: sums in another order would round otherwise."""
    model.load_state_dict(before.model)
    optimizer.load_state_dict(before.optimizer)
    schedule.load_state_dict(before.schedule)
    for entries in optimizer.state.values():
        for name, value in entries.items():
            if torch.is_tensor(value) and value.ndim == 4:
                entries[name] = value.contiguous(memory_format=torch.channels_last)


def _class_weights(
    train: LabelledImages, num_classes: int, options: TrainingOptions, device: torch.device
) -> torch.Tensor | None:
    if options.imbalance != "weights":
        return None
    counts = train.class_counts(num_classes)
    weights = len(train) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return torch.tensor(weights, dtype=torch.float32, device=device)


def _not_finite(epoch: int, schedule: LRScheduler) -> TrainingError:
    rate = schedule.get_last_lr()[0]
    return TrainingError(
        f"The loss is no longer a number (epoch {epoch}, learning rate {rate:.2g}). "
        f"Try --learning-rate {rate / 10:.1g}, or --precision 32-true.",
        code="TRN_NOT_FINITE",
    )


@contextmanager
def _in_our_words(options: TrainingOptions, preprocessing: Preprocessing, history: list[Row]) -> Iterator[None]:
    """Lack of memory and Ctrl-C, said so that the user knows what to do next."""
    try:
        yield
    except KeyboardInterrupt:
        done = f"epochs 1 to {len(history)} are saved" if history else "no epoch was finished"
        raise Interrupted(f"Stopped; {done}. Go on with --resume.") from None
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _no_memory(options, preprocessing) from error
    except RuntimeError as error:
        if "not enough memory" in str(error) or "can't allocate memory" in str(error):
            raise _no_memory(options, preprocessing) from error
        raise


def _no_memory(options: TrainingOptions, preprocessing: Preprocessing) -> ResourceError:
    return ResourceError(
        f"Out of memory with batches of {options.batch_size} images of {preprocessing.height}x{preprocessing.width}. "
        f"Try --batch-size {max(1, options.batch_size // 2)}, or smaller images (--image-size).",
        code="RES_MEMORY",
    )
