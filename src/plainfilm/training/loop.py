"""The training loop. It is given the training and the validation images, and nothing else."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from plainfilm import metrics
from plainfilm.errors import BundleError, Interrupted, ResourceError, TrainingError, UsageError
from plainfilm.models.heads import Headed
from plainfilm.models.parts import freeze_backbone, layer_groups, unfreeze_backbone
from plainfilm.progress import Progress, Silent
from plainfilm.team import ALONE, Team
from plainfilm.training.allocation import memory_kept
from plainfilm.training.batches import Examples, epoch_seed, steps_per_epoch, training_order
from plainfilm.training.checkpoint import (
    Checkpoint,
    checkpoint_folder,
    drop_checkpoints,
    is_sound,
    load_checkpoint,
    save_checkpoint,
    share_checkpoint,
    sound_checkpoints,
)
from plainfilm.training.device import choose_device, choose_precision
from plainfilm.training.losses import Tally, make_loss
from plainfilm.training.manner import Manner, settle_manner
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
    train: Examples,
    validation: Examples,
    *,
    num_classes: int,
    options: TrainingOptions,
    folder: Path,
    resume: bool = False,
    on_epoch: Callable[[list[Row]], bool | None] = lambda history: None,
    team: Team = ALONE,
    progress: Progress | None = None,
) -> FitResult:
    """Train `model`, choosing the epoch on `validation` only.

    With a team, every process calls this with the same model and examples, and each takes its part of every batch. The
    first one's weights, checkpoints and history count, and it alone writes.

    Args:
        model: Takes what the examples load, gives `(batch, num_classes)` logits.
        train: What it learns from.
        validation: What the epoch is chosen on.
        num_classes: Classes of the task.
        options: How to train.
        folder: Where checkpoints go, one after every epoch.
        resume: Go on from the newest sound checkpoint in `folder`; on a CPU, with the same versions and number of
            threads, the weights end up bit-identical to those of an uninterrupted run.
        on_epoch: Called with the history after every epoch, by the first process; True ends the training there.
        team: The processes that train together.
        progress: Told of every step and epoch.

    Raises:
        TrainingError: `TRN_NOT_FINITE` if the loss is no longer a number.
        ResourceError: `RES_MEMORY` if a batch does not fit; `RES_DISK_FULL` and its like if a checkpoint does not;
            `DEV_PROCESS_LOST` if another process is gone.
        UsageError: `DEV_ABSENT` or `DEV_PRECISION` if this machine lacks what was asked for; `DEV_TOO_MANY` for fewer
            images in a batch than processes.
        BundleError: `BUN_SHAPE` if the checkpoints are of another model.
        Interrupted: On Ctrl-C; finished epochs are on disk.
    """
    progress = progress or Silent()
    _check_shares(len(train.labels), options, team)
    before = _where_it_stopped(folder, options) if resume and team.leads else None
    if team.size > 1:
        before = share_checkpoint(team, before)
    facts = training_facts(options, team) if before is None else _same_facts(before, team, progress)
    history: list[Row] = [] if before is None else list(before.history)
    spent = history[-1]["seconds"] if history else 0.0
    started = time.monotonic()
    with _in_our_words(options, train, history), memory_kept(), team.guarded():
        if before is None and team.leads:
            facts |= settle_manner(model, train, device=facts["device"], precision=facts["precision"], options=options)
        facts = team.agree(facts)
        training = _Training(
            model,
            train,
            num_classes=num_classes,
            options=options,
            facts=facts,
            team=team,
        )
        if before is not None:
            training.restore(before)
            progress.say(f"going on after epoch {before.epoch}")
        while len(history) < options.epochs and not _should_stop(history, options):
            epoch = len(history) + 1
            row = training.train_one_epoch(epoch, progress) | training.score(validation, epoch)
            row["seconds"] = round(spent + time.monotonic() - started, 3)
            history.append(team.agree(row))
            enough = False
            if team.leads:
                save_checkpoint(folder, training.checkpoint(history))
                if options.keep_checkpoints == "needed":
                    drop_checkpoints(folder, keep=_needed_epochs(history, options))
                enough = bool(on_epoch(history))
                progress.epoch(row)
            if team.agree(enough):
                break
    chosen = best_epoch(history, options)
    if not team.leads:
        return FitResult({}, chosen, history, facts)
    weights = load_checkpoint(checkpoint_folder(folder, chosen)).model
    return FitResult(weights, chosen, history, facts)


class _Training:
    """A model with its optimizer and schedule, on their device: what an epoch changes and a checkpoint keeps."""

    def __init__(
        self,
        model: nn.Module,
        train: Examples,
        *,
        num_classes: int,
        options: TrainingOptions,
        facts: dict[str, Any],
        team: Team,
    ) -> None:
        torch.set_num_threads(facts["threads"])
        import lightning_fabric  # brings torch's compiler with it: seconds; and sets the level of its own log

        logging.getLogger(lightning_fabric.__name__).setLevel(logging.WARNING)  # it would say the precision every time
        self._team = team
        self._fabric = team.fabric(
            accelerator=facts["device"], precision=facts["precision"], unused=options.unfreeze_epoch is not None
        )
        self._train = train
        self._num_classes = num_classes
        self._options = options
        self._facts = facts
        self._n_steps = steps_per_epoch(len(train.labels), options.batch_size)
        manner = Manner(facts["precision"], facts.get("memory_format", "channels-last"))
        self._layout = manner.layout
        self._model = model.to(memory_format=self._layout)
        self._optimizer = make_optimizer(model, options)
        self._schedule = make_schedule(self._optimizer, options, self._n_steps)
        self._run_model, self._run_optimizer = self._fabric.setup(model, self._optimizer)
        weights = _class_weights(train, num_classes, options, self._fabric.device)
        self._criterion = make_loss(options, weights)
        self._counts = np.ones(num_classes) if weights is None else weights.double().cpu().numpy()

    def train_one_epoch(self, epoch: int, progress: Progress) -> Row:
        """Go once over the training images; every draw follows from the seed and the number of the epoch."""
        options, seed = self._options, epoch_seed(self._options.seed, epoch)
        torch.manual_seed(seed)
        self._set_frozen(epoch)
        self._run_model.train()
        rate = self._schedule.get_last_lr()[0]
        tally = Tally()
        order = training_order(
            self._train.labels, batch_size=options.batch_size, balanced=options.imbalance == "sampler", seed=seed
        )
        with progress.task(f"epoch {epoch}/{options.epochs}", self._n_steps) as advance:
            for step, indices in enumerate(order):
                batch, target, weight = self._load_own(indices, epoch)
                with self._team.apart(epoch_seed(seed, step), self._fabric.device):
                    logits = self._run_model(batch)
                loss = self._criterion(logits, target) * weight
                value = float(loss.detach())
                if not np.isfinite(value):
                    raise _not_finite(epoch, self._schedule)
                self._run_optimizer.zero_grad()
                self._fabric.backward(loss)
                self._run_optimizer.step()
                self._schedule.step()
                tally.add(value, logits, target, n=len(indices) / self._team.size)
                advance(1, loss=value)
        return {"epoch": epoch, **tally.joined(self._team).means("train"), "learning_rate": rate}

    @torch.inference_mode()
    def score(self, validation: Examples, epoch: int) -> Row:
        """Loss, errors and accuracies on the validation images."""
        self._run_model.eval()
        n_images, size = len(validation.labels), self._team.size
        at_once = min(256, -(-n_images // size))
        self._team.alike(list(self._model.buffers()))
        tally, matrix = Tally(), np.zeros((self._num_classes, self._num_classes))
        for start in range(0, n_images, at_once)[self._team.rank :: size]:
            indices = np.arange(start, min(start + at_once, n_images))
            batch, target = self._load(validation, indices)
            logits = self._evaluated(batch)
            tally.add(float(nn.functional.cross_entropy(logits, target)), logits, target)
            predicted = logits.argmax(1).cpu().numpy()
            matrix += metrics.confusion_matrix(validation.labels[indices], predicted, self._num_classes)
        means = tally.joined(self._team).means("validation")
        if not np.isfinite(means["validation_loss"]):
            raise _not_finite(epoch, self._schedule)
        matrix = np.array(self._team.total(matrix.ravel().tolist())).reshape(matrix.shape)
        present = matrix.sum(axis=1) > 0
        return {
            **means,
            "validation_balanced_accuracy": float(metrics.recall(matrix)[present].mean()),
        }

    def _evaluated(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits without what processes do together in a training step: they need not have as many batches here."""
        if self._team.size == 1:
            logits: torch.Tensor = self._run_model(batch)
        else:
            with self._fabric.autocast():
                logits = self._model(batch)
        return logits.float()

    def _load_own(self, indices: npt.NDArray[np.intp], epoch: int) -> tuple[torch.Tensor, torch.Tensor, float]:
        """This process's part of a batch, and what its loss counts so that the mean over processes is the batch's.

        The whole batch is loaded and then cut: every image is changed as it would be by one process alone.
        """
        own, counts = self._team.own(len(indices)), self._counts[self._train.labels[indices]]
        batch, target = self._load(self._train, indices, training_epoch=epoch)
        weight = 1.0 if self._team.size == 1 else float(self._team.size * counts[own].sum() / counts.sum())
        return batch[own], target[own], weight

    def _load(
        self,
        examples: Examples,
        indices: npt.NDArray[np.intp],
        *,
        training_epoch: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the model sees of some images, and their labels, on the device."""
        batch = examples.load(indices, self._fabric.device, training_epoch=training_epoch)
        if batch.ndim == 4:
            batch = batch.contiguous(memory_format=self._layout)
        return batch, torch.from_numpy(examples.labels[indices]).to(self._fabric.device)

    def _set_frozen(self, epoch: int) -> None:
        """Freeze the backbone until its epoch has come; on features there is none."""
        if self._options.unfreeze_epoch is not None and isinstance(self._model, Headed):
            (freeze_backbone if epoch <= self._options.unfreeze_epoch else unfreeze_backbone)(self._model)

    def checkpoint(self, history: list[Row]) -> Checkpoint:
        """Everything needed to go on from here."""
        return Checkpoint(
            epoch=len(history),
            model={name: value.detach().cpu().contiguous() for name, value in self._model.state_dict().items()},
            optimizer=self._optimizer.state_dict(),
            schedule=self._schedule.state_dict(),
            precision=self._fabric.strategy.precision.state_dict(),
            history=history,
            facts=self._facts,
        )

    def restore(self, before: Checkpoint) -> None:
        """Go back to where it was, memory layout included: sums in another order would round otherwise.

        Raises:
            BundleError: `BUN_SHAPE` if the checkpoint is of another model or optimizer.
        """
        try:
            self._model.load_state_dict(before.model)
            self._optimizer.load_state_dict(before.optimizer)
        except (RuntimeError, ValueError):
            raise BundleError(
                f"The checkpoint of epoch {before.epoch} is of another model or optimizer. Start a new run.",
                code="BUN_SHAPE",
            ) from None
        self._schedule.load_state_dict(before.schedule)
        self._fabric.strategy.precision.load_state_dict(before.precision)
        for parameter, entries in self._optimizer.state.items():
            for name, value in entries.items():
                if torch.is_tensor(value) and value.shape == parameter.shape:
                    entries[name] = torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(value)


def make_optimizer(model: nn.Module, options: TrainingOptions) -> Optimizer:
    """The optimizer asked for; biases and normalisation are not decayed."""
    rate = options.peak_learning_rate
    groups = [
        {"params": list(parameters), "weight_decay": decay, "lr": rate * options.layer_decay**depth}
        for depth, layers in enumerate(_from_the_head(model, options))
        for parameters, decay in (
            ([p for p in layers if p.ndim > 1], options.decay),
            ([p for p in layers if p.ndim <= 1], 0.0),
        )
        if parameters
    ]
    # Fused: one pass over all weights, where the usual way makes ten.
    if options.optimizer == "adam":
        return torch.optim.Adam(groups, lr=rate, fused=True)
    if options.optimizer == "sgd":
        # Fused, it cannot take weights in whose momentum begins later than that of others: those frozen at first.
        fused = options.unfreeze_epoch is None
        return torch.optim.SGD(groups, lr=rate, momentum=options.momentum, nesterov=options.momentum > 0, fused=fused)
    return torch.optim.AdamW(groups, lr=rate, fused=True)


def _from_the_head(model: nn.Module, options: TrainingOptions) -> Sequence[Sequence[nn.Parameter]]:
    """Parameters that share a learning rate, the head's first."""
    if options.layer_decay == 1:
        return [[p for p in model.parameters() if p.requires_grad]]
    return layer_groups(model)


def make_schedule(optimizer: Optimizer, options: TrainingOptions, steps_per_epoch: int) -> LRScheduler:
    """The learning rate of every step."""
    schedulers = torch.optim.lr_scheduler
    if options.schedule == "step":
        return schedulers.StepLR(optimizer, options.step_epochs * steps_per_epoch, options.step_factor)
    if options.schedule == "constant":
        return schedulers.ConstantLR(optimizer, factor=1.0, total_iters=1)
    total_steps = options.epochs * steps_per_epoch + 1  # one more: the step after the last is taken, not used
    return schedulers.OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=total_steps,
        # In a training of a few steps, the way up still takes one: torch would divide by the length of none.
        pct_start=min(max(options.warm_up, 2 / total_steps), 1 - 0.5 / total_steps),
        cycle_momentum=False,
    )


def best_epoch(history: list[Row], options: TrainingOptions) -> int:
    """The epoch to keep; the first of equals."""
    if options.choose == "last":
        return int(history[-1]["epoch"])
    if options.choose == "loss":
        return int(min(history, key=lambda row: row["validation_loss"])["epoch"])
    return int(max(history, key=lambda row: row["validation_balanced_accuracy"])["epoch"])


def _needed_epochs(history: list[Row], options: TrainingOptions) -> set[int]:
    """The last epoch and the best; and what these were an epoch ago, in case the newest checkpoint is damaged."""
    last_two = [rows for rows in (history, history[:-1]) if rows]
    return {epoch for rows in last_two for epoch in (len(rows), best_epoch(rows, options))}


def _where_it_stopped(folder: Path, options: TrainingOptions) -> Checkpoint | None:
    """The newest sound checkpoint whose best epoch so far is sound too; without that it could not be chosen."""
    for checkpoint in sound_checkpoints(folder):
        if is_sound(checkpoint_folder(folder, best_epoch(checkpoint.history, options))):
            return checkpoint
    return None


def _should_stop(history: list[Row], options: TrainingOptions) -> bool:
    if options.patience is None or not history:
        return False
    return bool(history[-1]["epoch"] - best_epoch(history, options) >= options.patience)


def training_facts(options: TrainingOptions, team: Team = ALONE) -> dict[str, Any]:
    """Device, precision, threads and versions, as decided for this training; processes, if there are several."""
    device = choose_device(options.device)
    return {
        **({} if team.size == 1 else {"processes": team.size}),
        "device": device,
        "precision": choose_precision(options.precision, device),
        "threads": torch.get_num_threads(),
        **_versions(),
    }


def _versions() -> dict[str, str]:
    return {"torch": torch.__version__, "numpy": np.__version__}


def _same_facts(before: Checkpoint, team: Team, progress: Progress) -> dict[str, Any]:
    """What was decided when the training began, if this machine still has it."""
    choose_device(before.facts["device"])
    changed = [name for name, version in _versions().items() if before.facts[name] != version]
    if changed:
        progress.warn(f"The run began with another version of {' and '.join(changed)}: the last digits may differ.")
    began_with = before.facts.get("processes", 1)
    if began_with == team.size:
        return before.facts
    progress.warn(
        f"The run began with {began_with} processes and goes on with {team.size}: the last digits may differ."
    )
    return before.facts | {"processes": team.size}


def _check_shares(n_images: int, options: TrainingOptions, team: Team) -> None:
    """Every process needs an image of every batch."""
    smallest = min(n_images, options.batch_size)
    if smallest < team.size:
        raise UsageError(
            f"{team.size} processes cannot share a batch of {smallest} images. Take fewer --devices, or a larger "
            "--batch-size.",
            code="DEV_TOO_MANY",
        )


def _class_weights(
    train: Examples, num_classes: int, options: TrainingOptions, device: torch.device
) -> torch.Tensor | None:
    if options.imbalance != "weights":
        return None
    counts = np.bincount(train.labels, minlength=num_classes)
    weights = len(train.labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return torch.tensor(weights, dtype=torch.float32, device=device)


def _not_finite(epoch: int, schedule: LRScheduler) -> TrainingError:
    rate = schedule.get_last_lr()[0]
    return TrainingError(
        f"The loss is no longer a number (epoch {epoch}, learning rate {rate:.2g}). "
        f"Try --learning-rate {rate / 10:.1g}, or --precision 32-true.",
        code="TRN_NOT_FINITE",
    )


@contextmanager
def _in_our_words(options: TrainingOptions, train: Examples, history: list[Row]) -> Iterator[None]:
    """Lack of memory and Ctrl-C, said so that the user knows what to do next."""
    try:
        yield
    except KeyboardInterrupt:
        done = f"epochs 1 to {len(history)} are saved" if history else "no epoch was finished"
        raise Interrupted(f"Stopped; {done}. Go on with --resume.") from None
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _no_memory(options, train) from error
    except RuntimeError as error:
        if "not enough memory" in str(error) or "can't allocate memory" in str(error):
            raise _no_memory(options, train) from error
        raise


def _no_memory(options: TrainingOptions, train: Examples) -> ResourceError:
    return ResourceError(
        f"Out of memory with batches of {options.batch_size} {train.in_words}. "
        f"Try --batch-size {max(1, options.batch_size // 2)}, or smaller images (--image-size).",
        code="RES_MEMORY",
    )
