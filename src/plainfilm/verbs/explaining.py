"""What a trained model looks at, and whether that can be believed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from plainfilm.bundle import Bundle, find_bundles, load_bundle
from plainfilm.data.pixels import PixelStore
from plainfilm.data.preprocessing import Preprocessing
from plainfilm.data.scanning import scan_as_prepared
from plainfilm.data.sources import SourceOptions, list_images
from plainfilm.data.table import Listing, Table
from plainfilm.errors import UsageError, unknown_name
from plainfilm.explanation.options import ExplainOptions
from plainfilm.measures import Measure
from plainfilm.prediction import predict_scores
from plainfilm.progress import Progress, Silent
from plainfilm.storage import check_output
from plainfilm.verbs.predicting import find_model

if TYPE_CHECKING:
    import torch

    from plainfilm.explanation.feature_maps import MapLayer
    from plainfilm.explanation.marks import MarkEffect
    from plainfilm.explanation.page import ExplainedImage, Explanation, LayerMaps
    from plainfilm.explanation.saliency import Floats, Ints
    from plainfilm.explanation.sanity import SanityCheck

BY_NAME = "model:"  # in front of a model's name, where there is no run


def explain(
    run: str | Path,
    images: str | Path,
    options: ExplainOptions | None = None,
    *,
    source: SourceOptions | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    weights: str | Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Explanation:
    """Heat maps of some images, tested against networks that have learned nothing; feature maps; marks tried out.

    Args:
        run: A run, a bundle, or `hf:OWNER/NAME`; or `model:NAME` for the feature maps of a model by its name.
        images: Anything `list_images` understands; labels are not needed.
        options: What to show, and how hard to check it.
        source: Names of columns, where they are not the usual ones.
        output: Folder for the page, the numbers and the pictures; nothing is written without it.
        overwrite: Replace an explanation in `output`.
        weights: For `model:NAME` only: a `.safetensors` file or `"pretrained"`; without it the weights are random.
        workers: Decoding processes.
        device: Where to compute.
        progress: Told of every step.

    Raises:
        UsageError: `UNKNOWN_METHOD`, `UNKNOWN_CLASS`, `XAI_...`; `RUN_EXISTS` if `output` is a run.
        DataError: Why not one image can be read; `BundleError` for a damaged bundle.
    """
    options, progress = options or ExplainOptions(), progress or Silent()
    folder = None if output is None else Path(output)
    if folder is not None:
        from plainfilm.explanation.page import MAPS, NUMBERS, PAGE, PICTURES

        check_output(folder, "an explanation", {PAGE, NUMBERS, PICTURES, MAPS}, mark=NUMBERS, overwrite=overwrite)
    listing = list_images(Path(images), source)
    name = Path(images).name or str(images)
    if str(run).startswith(BY_NAME):
        found = _explain_named(str(run).removeprefix(BY_NAME), listing, name, options, weights, workers, progress)
    elif weights is not None:
        raise UsageError(f"weights are for {BY_NAME}NAME; a run has its own.", code="XAI_WEIGHTS")
    else:
        found = _explain_run(find_model(run), listing, name, options, workers, device, progress)
    if folder is not None:
        from plainfilm.explanation.page import write_explanation

        write_explanation(found, folder)
    return found


def _explain_run(
    run: Path,
    listing: Listing,
    name: str,
    options: ExplainOptions,
    workers: int | None,
    device: str,
    progress: Progress,
) -> Explanation:
    from plainfilm.explanation import saliency
    from plainfilm.explanation.page import Explanation

    saliency.check_methods_known(options.methods)
    folders = find_bundles(run)
    if options.of_fold > len(folders):
        raise UsageError(f"There is no fold {options.of_fold}: the run has {len(folders)}.", code="XAI_FOLD")
    bundle = load_bundle(folders[options.of_fold - 1])
    table, pixels, notes = _read(listing, bundle.config.preprocessing, options.most_images, workers, progress)
    subject = _Subject.of(bundle, table, pixels, options, device)
    # Early: a wrong name of a layer is told before the long work.
    maps = None if options.maps is None else _maps(subject.model, subject.batch[:1], table, options.maps, "trained")
    checks = subject.check(options, progress)
    kept = [check.method for check in checks if options.all_methods or check.verdict != "failed"]
    heat = {}
    with progress.task("drawing heat maps", len(kept)) as advance:
        for method in kept:
            heat[method] = subject.heat(method, options)
            advance(1)
    name_of_fold = f", fold {options.of_fold} of {len(folders)}" if len(folders) > 1 else ""
    return Explanation(
        model=f"{bundle.config.architecture.name}{name_of_fold}",
        source=name,
        classes=bundle.config.classes,
        layer=subject.layer.name if subject.layer else None,
        images=subject.explained(heat),
        checks=checks,
        border=tuple(_border_share(method, values, subject.groups) for method, values in heat.items()),
        effects=_try_marks(subject, options, progress),
        maps=maps,
        notes=notes,
        options=options.model_dump(mode="json"),
    )


def _explain_named(
    model_name: str,
    listing: Listing,
    name: str,
    options: ExplainOptions,
    weights: str | Path | None,
    workers: int | None,
    progress: Progress,
) -> Explanation:
    """The feature maps of a model that no run trained."""
    import torch

    from plainfilm.explanation.page import Explanation
    from plainfilm.models import create_model, describe_model

    if options.maps is None:
        raise UsageError(
            "A model by its name has no classes to explain. See what a layer of it makes of an image: --maps LAYER.",
            code="XAI_NO_CLASSES",
        )
    info = describe_model(model_name, measure=False)
    torch.manual_seed(options.check_seed)  # of random weights
    model = create_model(model_name, num_classes=2, adapter="replicate", weights=weights, image_size=info.input_size)
    preprocessing = Preprocessing(
        height=info.input_size, width=info.input_size, fit="pad", mean=info.mean, std=info.std
    )
    table, pixels, _ = _read(listing, preprocessing, 1, workers, progress)
    batch = prepared_batch(pixels, preprocessing, torch.device("cpu"))
    told = "random" if weights is None else "pretrained" if weights == "pretrained" else Path(weights).name
    return Explanation(
        model=model_name,
        source=name,
        classes=(),
        layer=None,
        images=(),
        checks=(),
        border=(),
        effects=(),
        maps=_maps(model, batch, table, options.maps, told),
        notes=(),
        options={"maps": options.maps, "weights": told} | ({"check_seed": options.check_seed} if not weights else {}),
    )


# --- images -------------------------------------------------------------------------------------------------


def choose_images(listing: Listing, most: int) -> list[int]:
    """Rows of a listing: the classes in turn, in each class the patients in turn, of each patient the middle first.

    Args:
        listing: What a source names; images without a label are a class of their own, and one without a patient is
            its own patient.
        most: How many.
    """
    of_patient: defaultdict[Any, defaultdict[Any, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, (label, patient) in enumerate(zip(listing.rows["label"], listing.rows["patient_id"], strict=True)):
        of_patient[label][index if patient is None else patient].append(index)
    queues = []
    for patients in of_patient.values():
        order = _spread_order(len(patients))
        ranked = [
            (turn, place, index)
            for place, own in zip(order, patients.values(), strict=True)
            for turn, index in enumerate(_middle_first(own))
        ]
        queues.append([index for *_, index in sorted(ranked)])
    dealt = [index for turn in zip_longest(*queues) for index in turn if index is not None]
    return sorted(dealt[:most])


def _middle_first(rows: list[int]) -> list[int]:
    return [rows[place] for place in sorted(range(len(rows)), key=lambda place: abs(2 * place - len(rows) + 1))]


def _spread_order(count: int) -> list[int]:
    """The turn of each of `count` places when intervals are halved again and again (van der Corput)."""
    bits = max(1, (count - 1).bit_length())
    return [int(f"{place:0{bits}b}"[::-1], 2) for place in range(count)]


def _read(
    listing: Listing, preprocessing: Preprocessing, most: int, workers: int | None, progress: Progress
) -> tuple[Table, PixelStore, tuple[str, ...]]:
    """The chosen images as the model is given them, and what to say of the choice."""
    n_listed = len(listing.refs)
    notes = []
    if n_listed > most:
        chosen = choose_images(listing, most)
        listing = replace(
            listing,
            rows=listing.rows.iloc[chosen].reset_index(drop=True),
            refs=tuple(listing.refs[index] for index in chosen),
        )
        notes.append(f"{most} of {n_listed} images, chosen evenly over the classes and patients")
    table, pixels = scan_as_prepared(listing, preprocessing, workers=workers, progress=progress)
    refused = table.refused
    notes += [f"{item.path} is left out: {item.code} ({item.detail})" for item in refused]
    return table, pixels, tuple(notes)


def prepared_batch(pixels: PixelStore, preprocessing: Preprocessing, device: torch.device) -> torch.Tensor:
    """All images of a store, as the model takes them."""
    from plainfilm.training.batches import load_batch

    return preprocessing.apply(load_batch(pixels, np.arange(len(pixels)), device))


def heat_of_one(
    bundle: Bundle, image: npt.NDArray[Any], *, of: str | None = None, method: str = "gradcam", device: str = "auto"
) -> tuple[str, Floats]:
    """The heat map of one image, unchecked, and the class that it is about.

    Args:
        bundle: The model.
        image: `(height, width)`, as the model takes it.
        of: The class whose score is explained; None for the predicted one.
        method: One of `saliency.METHODS`.
        device: Where to compute.

    Raises:
        UsageError: `UNKNOWN_CLASS`, `UNKNOWN_METHOD`, or `XAI_...` where the model has no such map.
    """
    import torch

    from plainfilm.explanation.saliency import check_methods_known, explain_images
    from plainfilm.training.device import choose_device

    classes = bundle.config.classes
    check_methods_known([method])
    if of is not None and of not in classes:
        raise unknown_name("class", of, classes)
    store = PixelStore(1, *image.shape)
    store.put(0, image)
    explained = int(predict_scores(bundle, store, device=device).argmax()) if of is None else classes.index(of)
    batch = prepared_batch(store, bundle.config.preprocessing, torch.device(choose_device(device)))
    return classes[explained], explain_images(bundle.model, batch, [explained], method, signed=True)[0]


# --- one model and some images ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """A model, and the images it is explained on."""

    bundle: Bundle
    model: torch.nn.Module
    table: Table
    pixels: PixelStore
    batch: torch.Tensor
    scores: npt.NDArray[np.float64]
    classes: Ints
    layer: MapLayer | None
    groups: tuple[object, ...] | None

    @classmethod
    def of(cls, bundle: Bundle, table: Table, pixels: PixelStore, options: ExplainOptions, device: str) -> _Subject:
        """Score the images, decide which class is explained and which layer is weighed."""
        import torch

        from plainfilm.explanation.saliency import layer_for
        from plainfilm.training.device import choose_device

        scores = predict_scores(bundle, pixels, device=device)
        batch = prepared_batch(pixels, bundle.config.preprocessing, torch.device(choose_device(device)))
        return cls(
            bundle=bundle,
            model=bundle.model,
            table=table,
            pixels=pixels,
            batch=batch,
            scores=scores,
            classes=_explained_classes(bundle.config.classes, table, scores, options.target_class),
            layer=layer_for(options.methods, bundle.model, batch, options.target_layer),
            groups=_groups(table.rows["patient_id"]),
        )

    def check(self, options: ExplainOptions, progress: Progress) -> tuple[SanityCheck, ...]:
        """The randomisation check on some of the images, spread over them."""
        from plainfilm.explanation.sanity import check_methods, unchecked

        if not options.check_images:
            return tuple(unchecked(method, 0) for method in options.methods)
        some = spread(len(self.table), options.check_images)
        return check_methods(
            self.model,
            self.batch[some],
            self.classes[some],
            options.methods,
            layer=self.layer,
            groups=None if self.groups is None else [self.groups[index] for index in some.tolist()],
            steps=options.check_steps,
            draws=options.check_draws,
            seed=options.check_seed,
            window=options.occlusion_window,
            stride=options.occlusion_stride,
            progress=progress,
        )

    def heat(self, method: str, options: ExplainOptions) -> Floats:
        """The heat maps of all images."""
        from plainfilm.explanation.saliency import for_drawing, raw_heat

        raw = raw_heat(
            self.model,
            self.batch,
            self.classes,
            method,
            layer=self.layer,
            window=options.occlusion_window,
            stride=options.occlusion_stride,
        )
        return for_drawing(raw, method, signed=True)

    def score_values(self, values: Floats) -> npt.NDArray[np.float64]:
        """Probabilities of images given as `PixelStore.values` gives them."""
        store = PixelStore(len(values), *values.shape[1:])
        for index, image in enumerate(values):
            store.put(index, image)
        return predict_scores(self.bundle, store, device=str(self.batch.device.type))

    def explained(self, heat: dict[str, Floats]) -> tuple[ExplainedImage, ...]:
        """Each image with what is known and found about it."""
        from plainfilm.explanation.page import ExplainedImage

        names = self.bundle.config.classes
        return tuple(
            ExplainedImage(
                path=row["path"],
                truth=row["label"],
                predicted=names[int(self.scores[index].argmax())],
                explained=names[int(self.classes[index])],
                scores=tuple(self.scores[index].tolist()),
                pixels=self.pixels.stored(np.array([index]))[0][0],
                heat={method: values[index] for method, values in heat.items()},
            )
            for index, row in enumerate(self.table.rows.to_dict("records"))
        )


def _explained_classes(names: Sequence[str], table: Table, scores: npt.NDArray[np.float64], wanted: str) -> Ints:
    """The class number explained in each image."""
    predicted: Ints = scores.argmax(axis=1)
    if wanted == "predicted":
        return predicted
    if wanted == "truth":
        known = [names.index(label) if label in names else -1 for label in table.rows["label"]]
        return np.where(np.array(known) >= 0, known, predicted)
    if wanted not in names:
        raise unknown_name("class", wanted, [*names, "predicted", "truth"])
    return np.full(len(scores), names.index(wanted), dtype=np.intp)


def _groups(patients: Any) -> tuple[object, ...] | None:
    return tuple(patients) if patients.notna().all() else None


def _border_share(method: str, heat: Floats, groups: Sequence[object] | None) -> Measure:
    """How much of the heat lies near the edge of the image; an empty heat map has none there."""
    from plainfilm.explanation.page import BORDER
    from plainfilm.explanation.sanity import mean_measure

    strength = np.abs(heat).astype(np.float64)
    rows, columns = round(BORDER * heat.shape[1]), round(BORDER * heat.shape[2])
    inside = strength[:, rows : heat.shape[1] - rows, columns : heat.shape[2] - columns].sum(axis=(1, 2))
    total = strength.sum(axis=(1, 2))
    share = np.divide(total - inside, total, out=np.zeros_like(total), where=total > 0)
    return mean_measure("border_share", share, groups, of=method)


def _maps(model: torch.nn.Module, batch: torch.Tensor, table: Table, layer: str, weights: str) -> LayerMaps:
    from plainfilm.explanation.feature_maps import feature_maps
    from plainfilm.explanation.page import LayerMaps

    maps = feature_maps(model.eval(), batch, layer)
    return LayerMaps(layer=layer, path=str(table.rows["path"].iat[0]), weights=weights, maps=maps)


def _try_marks(subject: _Subject, options: ExplainOptions, progress: Progress) -> tuple[MarkEffect, ...]:
    """Score the images again with marks painted out or in."""
    from plainfilm.explanation import marks

    values = subject.pixels.values(np.arange(len(subject.pixels)))
    shape = (values.shape[1], values.shape[2])
    edits = []
    if options.mask_marks:
        found = [marks.find_marks(image) for image in values]
        edits.append(marks.painted_out("marks painted out", values, found, seed=options.check_seed))
    if options.boxes:
        covered = [marks.box_mask(shape, options.boxes)] * len(values)
        edits.append(marks.painted_out("boxes painted out", values, covered, seed=options.check_seed))
    edits += [marks.pasted_in(mark, values) for mark in options.paste]
    effects = []
    with progress.task("trying marks", len(edits)) as advance:
        for edit in edits:
            effects.append(
                marks.measure_edit(
                    edit,
                    subject.score_values,
                    subject.scores,
                    classes=subject.bundle.config.classes,
                    paths=list(subject.table.rows["path"]),
                    groups=subject.groups,
                    seed=options.check_seed,
                )
            )
            advance(1)
    return tuple(effects)


def spread(count: int, most: int) -> Ints:
    """At most so many of `count` rows, evenly spaced."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.intp)
