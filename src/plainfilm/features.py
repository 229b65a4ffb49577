"""Features of a frozen backbone: computed once per image and augmented view, and kept by content.

A feature is found again by what it was made of: the pixels, the view, the numbers of the backbone and what happens to
pixels before it. Names of files and patients play no part, and are not stored.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from plainfilm.bundle import find_bundles, load_bundle
from plainfilm.data.pixels import PixelStore
from plainfilm.data.table import Table
from plainfilm.models.folding import folded
from plainfilm.models.parts import pooled_features
from plainfilm.progress import Progress, Silent
from plainfilm.storage import cache_folder
from plainfilm.team import ALONE, Team
from plainfilm.training.batches import LabelledImages, epoch_seed
from plainfilm.training.device import choose_device

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
ROUND = 8  # batches of each process between two times that they pass them on
BATCH = 16  # always full, so that a feature does not depend on which images stand beside it


@dataclass(frozen=True)
class Extractor:
    """A frozen backbone with what stands before it.

    Attributes:
        backbone: Takes `(batch, 1, height, width)`; gives `(batch, ...)`, the same shape for every image.
        device: Where to compute.
    """

    backbone: nn.Module
    device: str

    @classmethod
    def of(cls, backbone: nn.Module, device: str) -> Self:
        """A network put where it computes, and into evaluation mode, as a whole model is scored: the same sums."""
        place = choose_device(device)
        moved: nn.Module = backbone.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(folded(moved.eval()), place)

    def fingerprint(self, images: LabelledImages) -> str:
        """Hash of everything that decides a feature but the image: weights, layers, preprocessing, augmentation."""
        digest = hashlib.sha256(repr(self.backbone).encode())
        for name, value in self.backbone.state_dict().items():
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(np.ascontiguousarray(value.detach().cpu().numpy()).tobytes())
        digest.update(images.preprocessing.model_dump_json().encode())
        digest.update(f"{torch.__version__} {self.device}".encode())
        return digest.hexdigest()

    @torch.inference_mode()
    def compute(self, images: LabelledImages, indices: Sequence[int], seeds: Sequence[int] | None) -> Floats:
        """`(n, ...)` features of at most `BATCH` images; with seeds, of one augmented view each."""
        filled = np.resize(np.asarray(indices, dtype=np.intp), BATCH)
        if seeds is None:
            batch = images.load(filled, torch.device(self.device))
        else:
            # One by one: what is drawn for an image must not depend on its neighbours.
            batch = torch.cat([self._view(images, index, seed) for index, seed in zip(indices, seeds, strict=True)])
            batch = batch[torch.from_numpy(np.resize(np.arange(len(indices)), BATCH))]
        computed: Floats = self.backbone(batch).float().cpu().numpy()[: len(indices)]
        return computed

    def _view(self, images: LabelledImages, index: int, seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return images.load(np.array([index]), torch.device(self.device), training_epoch=1)


class FeatureCache:
    """Features on disk, found by the hash of what they were made of; a context manager.

    A cache is a convenience: where it cannot be opened, read or written, features are computed without it.

    Args:
        folder: Where; None keeps nothing.
        fingerprint: Of the extractor; each has a file of its own.
    """

    def __init__(self, folder: Path | None, fingerprint: str) -> None:
        self._path = None if folder is None else folder / "features" / f"{fingerprint[:32]}.sqlite"
        self._database: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                self._database = _opened(self._path)
            except sqlite3.DatabaseError:
                logger.warning("The feature cache '%s' was damaged; it is made anew.", self._path.name)
                self._start_again()
            except OSError as error:
                logger.warning("Features are not kept: %s.", error.strerror)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def get(self, key: bytes) -> Floats | None:
        """The feature of a key; None where it is not kept, or damaged."""
        if self._database is None:
            return None
        try:
            with closing(self._database.execute("SELECT shape, value FROM features WHERE key = ?", (key,))) as found:
                row = found.fetchone()
        except sqlite3.DatabaseError:
            logger.warning("The feature cache was damaged; it is made anew.")
            self._start_again()
            return None
        if row is None:
            return None
        shape = tuple(int(side) for side in row[0].split("x"))
        value = np.frombuffer(row[1], dtype="<f4")
        return value.reshape(shape) if value.size == np.prod(shape) else None

    def put(self, entries: Iterable[tuple[bytes, Floats]]) -> None:
        """Keep some features; all of them or, where the disk is full, none."""
        if self._database is None:
            return
        rows = [(key, "x".join(map(str, value.shape)), value.astype("<f4").tobytes()) for key, value in entries]
        try:
            with self._database:
                self._database.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", rows)
        except sqlite3.DatabaseError as error:
            logger.warning("Features are not kept from here on: %s.", error)
            self._database.close()
            self._database = None

    def _start_again(self) -> None:
        assert self._path is not None
        if self._database is not None:
            self._database.close()
        self._database = None
        try:
            self._path.unlink(missing_ok=True)
            self._database = _opened(self._path)
        except (OSError, sqlite3.DatabaseError):
            logger.warning("Features are not kept: the cache cannot be written.")


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, timeout=30)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")  # a crash may lose the last features, never damage the rest
        database.execute("CREATE TABLE IF NOT EXISTS features (key BLOB PRIMARY KEY, shape TEXT, value BLOB)")
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def extract_features(
    backbone: nn.Module,
    images: LabelledImages,
    digests: Sequence[str],
    *,
    views: int = 0,
    augmented_as: str = "",
    seed: int = 0,
    cache: Path | None = None,
    device: str = "auto",
    team: Team = ALONE,
    progress: Progress | None = None,
) -> Floats:
    """`(max(1, views), n, ...)` features of some images.

    Args:
        backbone: Frozen; put into evaluation mode.
        images: With the preprocessing and, for views, the augmentation.
        digests: `pixel_sha256` of each image.
        views: Augmented views of each image; 0: one, of the images as they are.
        augmented_as: What decides the augmentation, as text; part of what a feature is found by.
        seed: Of the views; each image's draws follow from it, the image and the number of the view.
        cache: Where features are kept; None keeps nothing.
        device: Where to compute.
        team: Processes of which each computes a share; the others must be in `help_extracting` with the same backbone
            and images.
        progress: Told after every batch.
    """
    extractor = Extractor.of(backbone, device)
    fingerprint = extractor.fingerprint(images)
    made_of = [f"{fingerprint} {digest}" for digest in digests]
    n_views = max(1, views)
    done: list[list[Floats | None]] = [[None] * len(digests) for _ in range(n_views)]
    with (
        FeatureCache(cache, fingerprint) as kept,
        (progress or Silent()).task("features", n_views * len(digests)) as advance,
    ):
        for view in range(n_views):
            draw = f" view {view} of {augmented_as} seed {seed}" if views else ""
            keys = [hashlib.sha256(f"{made}{draw}".encode()).digest() for made in made_of]
            done[view] = [kept.get(key) for key in keys]
            missing = [index for index, feature in enumerate(done[view]) if feature is None]
            advance(len(digests) - len(missing))
            seeds = [epoch_seed(int.from_bytes(keys[index][:8]), view) for index in missing] if views else None
            for part, computed in _computed(team, extractor, images, missing, seeds):
                for index, feature in zip(part, computed, strict=True):
                    done[view][index] = feature
                kept.put((keys[index], feature) for index, feature in zip(part, computed, strict=True))
                advance(len(part))
    return np.stack([np.stack([feature for feature in view if feature is not None]) for view in done])


def _computed(
    team: Team, extractor: Extractor, images: LabelledImages, missing: Sequence[int], seeds: Sequence[int] | None
) -> Iterator[tuple[Sequence[int], Floats]]:
    """The features of some images, batch by batch; the batches are the same for any number of processes."""
    missing, seeds = team.agree([list(missing), seeds])
    batches = [slice(start, start + BATCH) for start in range(0, len(missing), BATCH)]

    def compute(batch: slice) -> Floats:
        return extractor.compute(images, missing[batch], None if seeds is None else seeds[batch])

    if team.size == 1:
        yield from ((missing[batch], compute(batch)) for batch in batches)
        return
    for start in range(0, len(batches), ROUND * team.size):
        this_round = batches[start : start + ROUND * team.size]
        mine = [compute(batch) for batch in this_round[team.own(len(this_round))]]
        team.meet("computed")
        for rank in range(team.size):
            theirs = this_round[team.own(len(this_round), rank=rank)]
            if theirs:
                every = team.spread(np.concatenate(mine) if rank == team.rank else None, source=rank)
                yield [index for batch in theirs for index in missing[batch]], every


def help_extracting(team: Team, backbone: nn.Module, images: LabelledImages, *, views: int, device: str) -> None:
    """Another process's part in `extract_features`."""
    extractor = Extractor.of(backbone, device)
    for _ in range(max(1, views)):
        for _ in _computed(team, extractor, images, [], None):
            pass


def run_features(
    run: Path, table: Table, pixels: PixelStore, *, device: str = "auto", progress: Progress | None = None
) -> Floats:
    """`(n, d)`: what a run's model makes of images right before its head.

    Args:
        run: A finished run, or a bundle; of several folds the first.
        table: The images; their `pixel_sha256` is used.
        pixels: Theirs, at the size and fit of the bundle's preprocessing.
        device: Where to compute.
        progress: Told after every batch.
    """
    bundle = load_bundle(find_bundles(run)[0])
    images = LabelledImages(pixels, np.zeros(len(table), dtype=np.int64), bundle.config.preprocessing)
    (features,) = extract_features(
        pooled_features(bundle.model),
        replace(images, augmentation=None),
        list(table.rows["pixel_sha256"]),
        cache=cache_folder(),
        device=device,
        progress=progress,
    )
    return np.asarray(features, dtype=np.float32)
