"""A model and images make `Predictions`: one row per image, one score per class."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from plainfilm.calibration import tempered
from plainfilm.calling import NEGATIVE, POSITIVE
from plainfilm.data.table import COLUMNS, LeftOut, Table
from plainfilm.errors import BundleError, ResourceError
from plainfilm.progress import Advance, Progress, Silent
from plainfilm.storage import write_json, write_text
from plainfilm.team import ALONE, Team

if TYPE_CHECKING:
    from plainfilm.abstention import Abstention
    from plainfilm.bundle import Bundle
    from plainfilm.calling import CallingRule
    from plainfilm.data.pixels import PixelStore
    from plainfilm.drift import Drift

ScoringPrecision = Literal["auto", "32-true", "bf16-mixed"]

SCORE_PREFIX = "score_"
SET_SEPARATOR = " | "  # between the classes of a set
BATCH = 16  # images at once: few enough that filling up the last batch of a small table costs little
# What a spreadsheet would run as a formula (OWASP ASVS 1.2.10).
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\0")


@dataclass(frozen=True)
class Share:
    """Processes that work on some of the images that all of them hold.

    Attributes:
        team: The processes.
        rows: Which of the images that the team read are meant.
    """

    team: Team
    rows: npt.NDArray[np.intp]


UNSHARED = Share(ALONE, np.zeros(0, dtype=np.intp))


@dataclass(frozen=True)
class Predictions:
    """The scores of some images, with what is known about them.

    Attributes:
        classes: Class names, in the order of the columns of `scores`.
        table: One row per image, index 0..n-1: `path` (text), `label` (text, or missing where the truth is
            not known), `patient_id` (text, or missing where it is not known), `split`. From a model that may abstain
            also `set` (the classes that it may be), `answer` (its class, if it is one) and `abstains` (`yes`, `no`);
            from a model with a threshold `call` (`positive`, `negative`).
        scores: `(n_images, n_classes)` float64; each row is a probability distribution.
        drift: Whether these images together differ from the training images; None where nobody asked, and of a part.
        precision: What they were computed in: `32-true` or `bf16-mixed`.
    """

    classes: tuple[str, ...]
    table: pd.DataFrame
    scores: npt.NDArray[np.float64]
    drift: Drift | None = None
    precision: str = "32-true"

    def __len__(self) -> int:
        return len(self.table)

    @property
    def y_pred(self) -> npt.NDArray[np.intp]:
        """Index of the class with the highest score; the first of equals."""
        highest: npt.NDArray[np.intp] = np.argmax(self.scores, axis=1)
        return highest

    def labelled(self) -> Predictions:
        """The rows whose truth is known."""
        return self.where(self.table["label"].notna().to_numpy())

    def where(self, mask: npt.NDArray[np.bool_]) -> Predictions:
        """The rows for which `mask` is True."""
        rows = self.table[mask].reset_index(drop=True)
        return Predictions(self.classes, rows, self.scores[mask], precision=self.precision)

    def tested(self, split: str) -> Predictions:
        """The labelled rows of one split."""
        return self.where((self.table["split"] == split).to_numpy()).labelled()

    @classmethod
    def join(cls, parts: Sequence[Predictions]) -> Predictions:
        """Rows of several predictions over the same classes, one after the other."""
        return cls(
            parts[0].classes,
            pd.concat([part.table for part in parts], ignore_index=True),
            np.concatenate([part.scores for part in parts]),
            precision=parts[0].precision,
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per image: the table, `predicted`, and `score_<class>` per class."""
        frame = self.table.copy()
        frame["predicted"] = [self.classes[index] for index in self.y_pred]
        for index, name in enumerate(self.classes):
            frame[f"{SCORE_PREFIX}{name}"] = self.scores[:, index]
        return frame

    def save(self, path: Path, left_out: Iterable[LeftOut] = ()) -> Path:
        """Write CSV, or JSON where `path` ends so; images that could not be read are listed with their reason."""
        frame = self.to_frame()
        refused = [item for item in left_out if item.status == "refused"]
        if path.suffix.lower() == ".json":
            rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
            failures = [{"path": item.path, "code": item.code, "detail": item.detail} for item in refused]
            facts: dict[str, Any] = {"classes": list(self.classes), "precision": self.precision}
            facts |= {"predictions": rows, "refused": failures}
            write_json(path, facts | ({} if self.drift is None else {"drift": self.drift.to_json()}))
        else:
            extra = pd.DataFrame([{"path": item.path, "refused": item.code} for item in refused], dtype=object)
            write_text(path, safe_csv(pd.concat([frame, extra], ignore_index=True) if refused else frame))
        return path

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote as CSV; ids stay text, refused images are left out.

        Raises:
            BundleError: `BUN_DAMAGED` if it is not such a file.
        """
        try:
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
            if "refused" in frame.columns:  # images that could not be scored stand last, with the reason alone
                frame = frame[frame["refused"] == ""].reset_index(drop=True)
            names = [name for name in frame.columns if name.startswith(SCORE_PREFIX)]
            scores = frame[names].astype(np.float64).to_numpy()
            table = frame[["path", "label", "patient_id", "split"]].map(_unquote)
        except (ValueError, KeyError, OSError):
            raise BundleError(f"'{path.name}' is not a table of predictions.", code="BUN_DAMAGED") from None
        return cls(tuple(name.removeprefix(SCORE_PREFIX) for name in names), table, scores)


def safe_csv(frame: pd.DataFrame) -> str:
    """CSV in which no text cell starts a formula; numbers keep every digit."""
    quoted = frame.copy()
    for name in quoted.columns:
        if not pd.api.types.is_numeric_dtype(quoted[name]):
            quoted[name] = pd.Series([_quote(value) for value in quoted[name]], index=quoted.index, dtype=object)
    quoted.columns = [_quote(str(name)) for name in quoted.columns]
    # Before Python 3.13 the csv module puts no quotes round a cell with a bare carriage return.
    has_return = any("\r" in value for name in quoted.columns for value in quoted[name] if isinstance(value, str))
    buffer = io.StringIO()
    quoted.to_csv(
        buffer,
        index=False,
        lineterminator="\n",
        quoting=csv.QUOTE_NONNUMERIC if has_return else csv.QUOTE_MINIMAL,
    )
    return buffer.getvalue()


def _quote(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and _starts_formula(value) else value


def _unquote(value: str) -> str | None:
    return (value[1:] if value[:1] == "'" and _starts_formula(value) else value) or None


def _starts_formula(text: str) -> bool:
    """Whether a text, or what is left of it without its leading quotes, would run in a spreadsheet.

    Quotes are looked through so that quoting can be undone whatever the text was.
    """
    return text.lstrip("'").startswith(FORMULA_STARTS)


def predict_table(
    bundles: Sequence[Bundle],
    table: Table,
    pixels: PixelStore,
    *,
    batch_size: int = BATCH,
    device: str = "auto",
    precision: ScoringPrecision = "32-true",
    cache: Path | None = None,
    share: Share = UNSHARED,
    progress: Progress | None = None,
) -> Predictions:
    """Score every image of a table; several models (folds) give the mean of their scores.

    Args:
        bundles: Models over the same classes and image size.
        table: The images.
        pixels: Their pixels, in the same order.
        batch_size: Images at once.
        device: Where to compute.
        precision: What to compute in; auto takes bfloat16 where the processor has it. Features are made in 32 bits.
        cache: Where features are kept: a head on a frozen backbone is then asked with the features found there. None
            asks the whole model.
        share: Processes of which each scores a part.
        progress: Told after every batch.
    """
    if len({bundle.config.classes for bundle in bundles}) != 1:
        raise BundleError("the models of these folds do not have the same classes.", code="BUN_CLASSES")
    digests = list(table.rows["pixel_sha256"]) if cache is not None else []
    scores = np.mean(
        [
            predict_scores(
                bundle,
                pixels,
                batch_size=batch_size,
                device=device,
                precision=precision,
                share=share,
                progress=progress,
            )
            if cache is None
            else _scores_from_features(bundle, pixels, digests, cache=cache, device=device, progress=progress)
            for bundle in bundles
        ],
        axis=0,
    )
    rows = table.rows[list(COLUMNS)].copy()
    config = bundles[0].config
    if len(bundles) == 1:  # the mean of several has none of their rules
        rows = rows.assign(**answers(config.abstention, config.calling, config.classes, scores))
    return Predictions(config.classes, rows, scores, precision=_settled(precision, device))


def _settled(precision: ScoringPrecision, device: str) -> str:
    from plainfilm.training.device import choose_device, choose_scoring_precision

    return choose_scoring_precision(precision, choose_device(device))


def answers(
    abstention: Abstention, calling: CallingRule, classes: Sequence[str], scores: npt.NDArray[np.float64]
) -> dict[str, list[str]]:
    """What a model's rules make of its scores, as columns; none where it has no rule.

    For each image the classes that it may be, the answer if that is one, and whether there is none; and whether it is
    called positive.
    """
    found: dict[str, list[str]] = {}
    if calling.applies:
        found["call"] = [POSITIVE if called else NEGATIVE for called in calling.calls(scores, classes)]
    if not abstention.applies:
        return found
    held = abstention.sets(scores, classes)
    sets = [[name for name, inside in zip(classes, row, strict=True) if inside] for row in held]
    return found | {
        "answer": [names[0] if len(names) == 1 else "" for names in sets],
        "abstains": ["no" if len(names) == 1 else "yes" for names in sets],
        "set": [SET_SEPARATOR.join(names) for names in sets],
    }


def predict_scores(
    bundle: Bundle,
    pixels: PixelStore,
    *,
    batch_size: int = BATCH,
    device: str = "auto",
    precision: ScoringPrecision = "32-true",
    share: Share = UNSHARED,
    progress: Progress | None = None,
) -> npt.NDArray[np.float64]:
    """`(n, num_classes)` probabilities of one model.

    Every batch has the same shape (the last is filled up and cut), so that an image scores the same whatever stands
    beside it. With several processes the batches stay the same, and each scores a run of them.

    Raises:
        UsageError: `DEV_ABSENT` or `DEV_PRECISION` if this machine lacks what was asked for.
        ResourceError: `RES_MEMORY` if a batch does not fit.
    """
    import torch

    from plainfilm.training.batches import load_batch
    from plainfilm.training.device import choose_device

    place = torch.device(choose_device(device))
    in_bfloat16 = _settled(precision, place.type) == "bf16-mixed"
    model = bundle.scoring_model.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    team = share.team
    if team.leads and team.size > 1:
        _ask_for_scores(bundle, share, batch_size=batch_size, device=device, precision=precision)
    starts = range(0, len(pixels), batch_size)
    scores = np.empty((len(pixels), bundle.config.architecture.num_classes))
    with (
        torch.inference_mode(),
        torch.autocast(place.type, torch.bfloat16, enabled=in_bfloat16),  # round all: weights are made shorter once
        (progress or Silent()).task("scoring images", len(pixels)) as advance,
    ):
        for start in starts[team.own(len(starts))]:
            indices = np.arange(start, min(start + batch_size, len(pixels)))
            filled = np.resize(indices, batch_size)
            try:
                batch = bundle.config.preprocessing.apply(load_batch(pixels, filled, place))
                logits = model(batch.contiguous(memory_format=torch.channels_last)).double()
            except (MemoryError, torch.OutOfMemoryError):
                raise ResourceError(
                    f"Out of memory with batches of {batch_size}. Try --batch-size {max(1, batch_size // 2)}.",
                    code="RES_MEMORY",
                ) from None
            scores[indices] = logits.softmax(dim=1).cpu().numpy()[: len(indices)]
            advance(len(indices))
        if team.size > 1:
            scores = _joined_scores(team, scores, batch_size, advance)
    return tempered(scores, bundle.config.calibration.temperature)


def _joined_scores(
    team: Team, scores: npt.NDArray[np.float64], batch_size: int, advance: Advance
) -> npt.NDArray[np.float64]:
    """The scores of all processes, once all have theirs."""
    team.meet("scored")
    n_batches = -(-len(scores) // batch_size)
    for rank in range(team.size):
        own = team.own(n_batches, rank=rank)
        rows = slice(own.start * batch_size, own.stop * batch_size)
        scores[rows] = team.spread(scores[rows] if rank == team.rank else None, source=rank)
        if rank != team.rank:
            advance(len(scores[rows]))
    return scores


def _ask_for_scores(bundle: Bundle, share: Share, *, batch_size: int, device: str, precision: ScoringPrecision) -> None:
    """Set the others to `help_scoring`."""
    from plainfilm.team import spread_tensors

    team = share.team
    config = bundle.config.model_dump(mode="json")
    team.ask("scores", config=config, batch_size=batch_size, device=device, precision=precision)
    team.spread(np.asarray(share.rows, dtype=np.int64))
    spread_tensors(team, bundle.model.state_dict())


def help_scoring(
    team: Team,
    pixels: PixelStore,
    *,
    config: dict[str, Any],
    batch_size: int,
    device: str,
    precision: ScoringPrecision,
) -> None:
    """Another process's part in `predict_scores`.

    Args:
        team: Of which it is one.
        pixels: All images that the team read.
        config: The bundle's.
        batch_size: Images at once.
        device: Where to compute.
        precision: What in.
    """
    from plainfilm.bundle import Bundle, BundleConfig
    from plainfilm.models import create_model
    from plainfilm.team import spread_tensors

    told = BundleConfig.model_validate(config)
    rows, weights = team.spread(None), spread_tensors(team, None)
    model = create_model(**told.architecture.model_dump(exclude={"in_channels"}), try_out=False)
    model.load_state_dict(weights)
    predict_scores(
        Bundle(model.eval(), told),
        pixels.take(rows),
        batch_size=batch_size,
        device=device,
        precision=precision,
        share=Share(team, rows),
    )


def _scores_from_features(
    bundle: Bundle,
    pixels: PixelStore,
    digests: Sequence[str],
    *,
    cache: Path,
    device: str,
    progress: Progress | None,
) -> npt.NDArray[np.float64]:
    """What `predict_scores` gives, from features that are kept; the model is a head on a backbone."""
    import torch

    from plainfilm.features import extract_features
    from plainfilm.models.heads import Headed
    from plainfilm.training.batches import LabelledImages

    assert isinstance(bundle.model, Headed)
    images = LabelledImages(pixels, np.zeros(len(digests), dtype=np.int64), bundle.config.preprocessing)
    features = extract_features(bundle.model.backbone, images, digests, cache=cache, device=device, progress=progress)
    head = bundle.model.head.cpu().eval()
    with torch.inference_mode():
        scores: npt.NDArray[np.float64] = head(torch.from_numpy(features[0])).double().softmax(dim=1).numpy()
    return tempered(scores, bundle.config.calibration.temperature)
