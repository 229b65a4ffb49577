"""A model's bundle on the Hugging Face hub, for others to fetch by its id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plainfilm.bundle import BUNDLE_FILES, CARD, BundleConfig, find_bundles, load_bundle
from plainfilm.errors import BundleError, UsageError
from plainfilm.hub import parse_model_id, push_files
from plainfilm.measures import Evaluation
from plainfilm.progress import Progress, Silent
from plainfilm.reporting.hub_card import hub_card
from plainfilm.runs import Run, open_run
from plainfilm.storage import MANIFEST, read_json, verify_manifest


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What went to the hub.

    Attributes:
        model: `hf:OWNER/NAME@COMMIT`, which always gives these very files; without the commit if nothing was pushed.
        commit: Of the hub; empty if nothing was pushed.
        files: Name and bytes of each file.
        card: The page.
        notes: What the author should know.
    """

    model: str
    commit: str
    files: dict[str, int]
    card: str
    notes: tuple[str, ...]


def push(
    run: str | Path,
    repository: str,
    *,
    licence: str | None = None,
    private: bool = False,
    message: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Pushed:
    """Put the bundle of a run on the hub, with a page made of its card and the run's figures.

    Only the files of the bundle are sent: no table, prediction, picture or report.

    Args:
        run: A finished run, or a bundle.
        repository: `OWNER/NAME`; made if it is not there.
        licence: Of the model, as the hub names it; None for what the bundle's card says.
        private: Make a private repository, if it is made.
        message: Of the commit.
        dry_run: Make the page, and send nothing.
        progress: Told of the steps.

    Raises:
        BundleError: `BUN_HUB_ID`, or as `load_bundle`; `BUN_FOLDS` for several models.
        ResourceError: `RES_UPLOAD`, with the hub's reason.
    """
    model, place, progress = parse_model_id(repository), Path(run), progress or Silent()
    folders = find_bundles(place)
    if len(folders) > 1:
        raise BundleError(
            f"this run has {len(folders)} models, one for each fold. Push one of them: '{folders[0]}'.",
            code="BUN_FOLDS",
        )
    (folder,) = folders
    config = load_bundle(folder).config  # nothing is pushed that could not be loaded
    named = verify_manifest(folder, allowed=BUNDLE_FILES)
    files = {name: (folder / name).read_bytes() for name in [*named, MANIFEST]}
    card = (folder / CARD).read_text("utf-8") if (folder / CARD).is_file() else ""
    evaluation = None
    if folder != place and Run(place).is_finished:
        evaluation = Evaluation.from_json(read_json(open_run(place).evaluation))
    page, notes = hub_card(
        card,
        config,
        repository=model.repository,
        licence=licence,
        base_model=_began_from(config),
        evaluation=evaluation,
    )
    files = {CARD: page.encode(), **files}
    commit = ""
    if not dry_run:
        with progress.task(f"pushing to {model.repository}", 1) as advance:
            commit = push_files(files, model, message=message or f"Add {config.architecture.name}", private=private)
            advance(1)
    return Pushed(
        model=f"hf:{model.repository}@{commit}" if commit else str(model),
        commit=commit,
        files={name: len(data) for name, data in files.items()},
        card=page,
        notes=tuple(notes),
    )


def _began_from(config: BundleConfig) -> str | None:
    """The repository of the weights that training began from, where they came from the hub."""
    from plainfilm.models import describe_model

    try:
        described = describe_model(config.architecture.name, measure=False)
    except UsageError:
        return None
    if described.weights == "none" or config.weights_licence != described.licence:
        return None
    # Weights inside plainfilm have no repository.
    return described.weights.rpartition("/")[0].partition("@")[0] or None
