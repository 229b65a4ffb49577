"""Runs a recipe step by step; what is finished is kept, so that a stopped recipe goes on."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from plainfilm import __version__, verbs
from plainfilm.data.hub import fetch_dataset, is_hub_id, parse_hub_id
from plainfilm.data.sources import SourceOptions
from plainfilm.errors import DataError, Interrupted, PlainfilmError, UsageError
from plainfilm.explanation.options import ExplainOptions
from plainfilm.exploration.options import ExploreOptions
from plainfilm.progress import Progress, Silent
from plainfilm.recipes.backbone import Backbone, choose_backbone, first_convolution
from plainfilm.recipes.comparison import Comparison, compare
from plainfilm.recipes.data import Images, find_images
from plainfilm.recipes.outcome import Number, Outcome, exploration_outcome, prediction_outcome, training_outcome
from plainfilm.recipes.page import write_page
from plainfilm.recipes.recipe import Recipe, Step, load_recipe
from plainfilm.runs import Run
from plainfilm.storage import LOCK, delete, is_temporary, locked, make_folder, read_json, write_json, write_text

BEGUN = "begun.json"  # what was asked for
RESULT = "recipe.json"  # written last
PAGE = "recipe.html"
OUTCOMES = "steps"
# A step that the data do not allow is left out and the table says so; anything else stops the recipe.
NOT_FOR_THESE_DATA = ("SPL_NO_PATIENTS", "SPL_TOO_FEW_PATIENTS")


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What the user changes in a recipe; None leaves it as it is.

    Attributes:
        quick: Smaller and shorter, so that it ends in minutes; the table says so.
        epochs: Of every training that counts them.
        seed: Of every training.
        backbone: Model to take where the pretrained weights of the paper's cannot be had.
        weights: A safetensors file, or `pretrained`, for that model (or, without it, for the paper's).
        images: Images to score, in recipes that score some.
    """

    quick: bool = False
    epochs: int | None = None
    seed: int | None = None
    backbone: str | None = None
    weights: str | None = None
    images: str | None = None

    def typed(self) -> tuple[str, ...]:
        """The ones that were made, as words of the command line."""
        made = [(name, value) for name, value in asdict(self).items() if value not in (None, False)]
        return tuple(
            word for name, value in made for word in ([f"--{name}"] if value is True else [f"--{name}", str(value)])
        )


def run_recipe(
    recipe: str | Recipe,
    data: str | Path,
    *,
    output: str | Path | None = None,
    changes: Changes | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[Comparison, Path]:
    """Do an experiment of a paper, and compare.

    A step that is finished in `output` is not done again: the call that was stopped, made again, goes on.

    Args:
        recipe: Its name (see `list_recipes`), or one of your own.
        data: Folder of the images (see the recipe's `layout`), or `hf:OWNER/NAME`.
        output: Folder; by default `recipes/NAME`.
        changes: What to do otherwise than the recipe.
        overwrite: Begin again in a folder that holds a recipe.
        progress: Told of every step.

    Returns:
        The table, and the page that shows it.

    Raises:
        UsageError: `UNKNOWN_RECIPE`; `RUN_EXISTS` for a finished recipe, `RUN_NOT_A_RUN` for a folder of something
            else, `RCP_CHANGED` for one that was begun with other options.
        DataError: `RCP_DATA` if `data` is not laid out as the recipe expects.
    """
    recipe = load_recipe(recipe) if isinstance(recipe, str) else recipe
    changes, progress = changes or Changes(), progress or Silent()
    name = f"{recipe.name}-quick" if changes.quick else recipe.name
    folder = Path(output) if output is not None else Path("recipes") / name
    images = find_images(recipe, fetch_dataset(parse_hub_id(data)) if is_hub_id(data) else Path(data))
    with locked(folder):
        begun = {"recipe": recipe.name, "data": str(data), **asdict(changes)}
        backbone = _begin(folder, recipe, begun, overwrite=overwrite)
        if recipe.quick_patients is not None and changes.quick:
            images = images.smaller(recipe.quick_patients, folder / "fewer-patients.csv")
        work = _Work(recipe, changes, images, backbone, folder, progress)
        started = time.monotonic()
        outcomes = {step.id: work.outcome(number, step) for number, step in enumerate(recipe.steps, start=1)}
        notes = (*work.notes(), *recipe.notes)
        table = compare(recipe, outcomes, notes=notes)
        facts = {
            "plainfilm": __version__,
            "finished": datetime.now().isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - started, 1),
            "asked": begun,
            "typed": list(changes.typed()),
            "options": {step.id: work.options(step) for step in recipe.steps},
        }
        write_text(folder / PAGE, write_page(table, recipe, outcomes, facts))
        write_json(folder / RESULT, {**table.to_json(), **facts})
    return table, folder / PAGE


def _begin(folder: Path, recipe: Recipe, begun: Mapping[str, Any], *, overwrite: bool) -> Backbone:
    """Note what was asked for, or check that it is what the folder was begun with; gives the backbone to use."""
    there = [path for path in folder.iterdir() if path.name != LOCK and not is_temporary(path)]
    if there and not (folder / BEGUN).is_file():
        raise UsageError(
            f"'{folder}' holds something that is not a recipe's. Choose another --output.", code="RUN_NOT_A_RUN"
        )
    if there and not overwrite:
        if (folder / RESULT).is_file():
            raise UsageError(
                f"'{folder}' holds a finished recipe. Choose another --output; --overwrite replaces it.",
                code="RUN_EXISTS",
            )
        before = read_json(folder / BEGUN)
        changed = [name for name, value in begun.items() if before.get(name) != value]
        if changed:
            raise UsageError(
                f"'{folder}' was begun with another {changed[0]}. Give the same again to go on, or --overwrite to "
                "begin anew.",
                code="RCP_CHANGED",
            )
        return Backbone(**before["found"])
    for path in there:
        delete(path)
    backbone = _backbone_of(recipe, begun)
    write_json(folder / BEGUN, {**begun, "found": backbone.to_json()})
    return backbone


def _backbone_of(recipe: Recipe, begun: Mapping[str, Any]) -> Backbone:
    """Try the weights of the paper's model once, before the first step."""
    model = next((str(step.options["model"]) for step in recipe.steps if step.pretrained), None)
    if model is None:
        return Backbone()
    return choose_backbone(model, backbone=begun["backbone"], weights=begun["weights"])


@dataclass(frozen=True)
class _Work:
    """A recipe under way."""

    recipe: Recipe
    changes: Changes
    images: Images
    backbone: Backbone
    folder: Path
    progress: Progress

    def outcome(self, number: int, step: Step) -> Outcome:
        """What a step came to: read again where it is finished, else done now."""
        noted = self.folder / OUTCOMES / f"{step.id}.json"
        if noted.is_file():
            self.progress.say(f"step {number} of {len(self.recipe.steps)}: {step.title} (done before)")
            return Outcome.from_json(read_json(noted))
        self.progress.say(f"step {number} of {len(self.recipe.steps)}: {step.title}")
        do = {"train": self._train, "explore": self._explore, "explain": self._explain, "predict": self._predict}
        try:
            outcome = do[step.kind](step)
        except Interrupted:
            raise Interrupted(f"Stopped in step '{step.id}'. The same command again goes on from there.") from None
        except PlainfilmError as error:
            if error.code not in NOT_FOR_THESE_DATA:
                raise error.located(f"step '{step.id}'") from error
            self.progress.warn(f"left out: {error}")
            outcome = Outcome(numbers={}, pages={}, not_run=str(error))
        make_folder(noted.parent)
        write_json(noted, outcome.to_json())
        return outcome

    def options(self, step: Step) -> dict[str, Any]:
        """The options of a step as they are used."""
        options = dict(step.options)
        options |= step.with_table if self.images.is_table else step.without_table
        if self.changes.quick:
            options |= step.quick
        if step.pretrained:
            options = self.backbone.applied(step, options)
        if step.kind == "train":
            options |= self.images.options
            if self.changes.epochs is not None and "epochs" in options:
                options["epochs"] = self.changes.epochs
            if self.changes.seed is not None:
                options["seed"] = self.changes.seed
        return options

    def notes(self) -> tuple[str, ...]:
        """What was otherwise than the recipe says."""
        notes = []
        if self.changes.quick and self.recipe.is_shortened:
            fewer = f" {self.images.rule}" if self.images.rule else ""
            notes.append(f"Shortened by --quick, so no number here is the one of the full recipe.{fewer}")
        elif self.changes.quick:
            notes.append("--quick leaves out nothing that a number here depends on.")
        others = [word for word in self.changes.typed() if word != "--quick"]
        if others:
            notes.append(f"Changed by the user: {shlex.join(others)}.")
        if self.backbone.note:
            notes.append(self.backbone.note)
        return tuple(notes)

    def _train(self, step: Step) -> Outcome:
        """Train, go on with a stopped training, or take a finished one."""
        run = Run(self.folder / step.id)
        if not run.is_finished:
            resume = run.options.is_file()
            verbs.train(
                self.images.path,
                self.options(step),
                output=run.folder,
                resume=resume,
                progress=self.progress,
            )
        return training_outcome(run, self.folder)

    def _explore(self, step: Step) -> Outcome:
        place = self._fresh(step)
        started = time.monotonic()
        options = ExploreOptions.model_validate(self.options(step))
        images = self.images.labelled(self.folder / f"{step.id}.csv") if step.labelled else self.images
        source = SourceOptions(**images.options)
        found = verbs.explore(images.path, options, source=source, output=place, progress=self.progress)
        return _timed(exploration_outcome(found, self._pages(place)), started)

    def _explain(self, step: Step) -> Outcome:
        place = self._fresh(step)
        started = time.monotonic()
        run, asked = self._trained(step), self.options(step)
        layer, n_maps = first_convolution(run)
        if asked.get("maps") == "first":
            asked["maps"] = layer
        options = ExplainOptions.model_validate(asked)
        verbs.explain(run, self._to_score(step), options, output=place, progress=self.progress)
        maps = Number(value=float(n_maps), counted=f"layer {layer}", note="exact")
        return _timed(Outcome(numbers={"maps": maps}, pages=self._pages(place)), started)

    def _predict(self, step: Step) -> Outcome:
        started = time.monotonic()
        place = self._fresh(step)
        make_folder(place)
        scores = place / "predictions.csv"
        predictions, table = verbs.predict(
            self._trained(step), self._to_score(step), output=scores, progress=self.progress
        )
        left_out = tuple(f"{item.path} could not be scored: {item.detail}" for item in table.refused)
        pages = {"scores": scores.relative_to(self.folder).as_posix()}
        return _timed(prediction_outcome(predictions, pages, left_out), started)

    def _trained(self, step: Step) -> Path:
        assert step.run is not None, "a step that needs a model names the training of it"
        return self.folder / step.run

    def _to_score(self, step: Step) -> Path:
        """The images the user gave, or those of the recipe."""
        place = (
            Path(self.changes.images) if self.changes.images is not None else self.images.folder / (step.images or "")
        )
        if not place.exists():
            raise DataError(f"There are no images at '{place}'. Name some with --images.", code="RCP_DATA")
        return place

    def _fresh(self, step: Step) -> Path:
        """The folder of a step that cannot be gone on with, without what a stopped one left."""
        place = self.folder / step.id
        delete(place)
        return place

    def _pages(self, place: Path) -> dict[str, str]:
        """The pages in a step's folder, by name."""
        return {page.stem: page.relative_to(self.folder).as_posix() for page in sorted(place.rglob("*.html"))}


def _timed(outcome: Outcome, started: float) -> Outcome:
    return Outcome(**{**outcome.__dict__, "seconds": time.monotonic() - started})
