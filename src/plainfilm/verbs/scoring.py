"""What a trained model says of images, and how right it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from plainfilm.auditing.results import NUMBERS, load_audit
from plainfilm.data.pixels import PixelStore
from plainfilm.data.preprocessing import Preprocessing
from plainfilm.data.scanning import scan_as_prepared
from plainfilm.data.sources import SourceOptions, list_images
from plainfilm.data.table import Table
from plainfilm.dicom_results.options import DicomResultOptions
from plainfilm.errors import TableError, UsageError
from plainfilm.evaluation import evaluate_predictions
from plainfilm.measures import Evaluation, EvaluationOptions, PatientSource, SubgroupOptions
from plainfilm.operating import OperatingOptions, with_operating_point
from plainfilm.prediction import BATCH, Predictions, ScoringPrecision
from plainfilm.progress import Progress
from plainfilm.runs import Run, open_run
from plainfilm.sitewise import at_held_out_sites
from plainfilm.storage import MANIFEST, read_json
from plainfilm.team import ALONE, Team
from plainfilm.verbs.answering import ResultMaker, check_result_folder, read_sources, write_results
from plainfilm.verbs.choosing import with_own_threshold
from plainfilm.verbs.drifting import drift_of
from plainfilm.verbs.elsewhere import Acquaintance
from plainfilm.verbs.helping import working_together
from plainfilm.verbs.overlaying import HeatPainter
from plainfilm.verbs.predicting import Engine, OnnxPredictor, Predictor, find_model, predictor_of, prepared_for
from plainfilm.verbs.recovering import with_recovered_patients


def predict(
    run: str | Path,
    images: str | Path,
    *,
    source: SourceOptions | None = None,
    output: str | Path | None = None,
    dicom_output: str | Path | None = None,
    dicom: DicomResultOptions | None = None,
    batch_size: int = BATCH,
    workers: int | None = None,
    device: str = "auto",
    devices: int = 1,
    engine: Engine = "torch",
    precision: ScoringPrecision = "32-true",
    progress: Progress | None = None,
) -> tuple[Predictions, Table]:
    """Score images with a trained model, from its bundle alone.

    Args:
        run: A run's folder, a bundle's, one that `export` wrote, an ONNX file of `export`, or `hf:OWNER/NAME`.
        images: Anything `list_images` understands; labels are not needed.
        source: Names of columns, where they are not the usual ones.
        output: CSV or JSON file to write, by its ending.
        dicom_output: New folder for DICOM results: a report of each series. All images must then be DICOM.
        dicom: What these results are, such as overlays too.
        batch_size: Images at once.
        workers: Decoding processes.
        device: Where to compute.
        devices: Processes on this machine of which each decodes and scores a share; the scores stay the same.
        engine: What computes: torch, or onnxruntime with the `model.onnx` that `export` wrote.
        precision: What in: 32 bits, bfloat16 (sooner where the processor has it, and the scores differ), or `auto`:
            bfloat16 where the processor has it.
        progress: Told after every image.

    Returns:
        The predictions, and the table with every file left out.

    Raises:
        DataError: `PRD_NONE` if not one image can be read; `BundleError` for a damaged bundle; `SRC_...` for images
            that no DICOM result can be about; `XAI_...` if no overlay can be written.
        UsageError: `RUN_EXISTS` if `output` would replace a file of a finished run; `OUT_EXISTS` if `dicom_output`
            holds something.
    """
    if output is not None and (Path(output).parent / MANIFEST).is_file():
        raise UsageError(f"'{output}' is inside a finished run. Choose another --output.", code="RUN_EXISTS")
    folder = None if dicom_output is None else Path(dicom_output)
    if folder is None and dicom is not None:
        raise UsageError("options of DICOM results need --dicom-output FOLDER.", code="OPT_INVALID")
    if folder is not None:
        check_result_folder(folder)
    place = find_model(run)
    preprocessing, exported = prepared_for(place, engine=engine)
    maker = painter = None
    with working_together(devices, device) as team:
        table, pixels = _scanned(preprocessing, images, source=source, workers=workers, team=team, progress=progress)
        sources = [] if folder is None else read_sources(table)
        predictor = predictor_of(place, exported, device=device, precision=precision)
        if folder is not None:
            model = _by_torch(predictor)
            maker = ResultMaker.of(model, dicom)
            painter = HeatPainter.of(place, model, pixels) if dicom is not None and dicom.overlay else None
        predictions = predictor.predict(table, pixels, batch_size=batch_size, team=team, progress=progress)
    predictions = replace(predictions, drift=drift_of(place, table, pixels))
    if output is not None:
        predictions.save(Path(output), table.left_out)
    if folder is not None and maker is not None:
        write_results(folder, maker, painter, sources, predictions, table, pixels, workers=workers, progress=progress)
    return predictions, table


def _by_torch(predictor: Predictor | OnnxPredictor) -> Predictor:
    """The predictor, if it is one whose answers become DICOM."""
    if isinstance(predictor, OnnxPredictor):
        raise UsageError("DICOM results are written by the torch engine: leave --engine out.", code="OPT_ENGINE")
    return predictor


def _scanned(
    preprocessing: Preprocessing,
    images: str | Path,
    *,
    source: SourceOptions | None,
    workers: int | None = None,
    team: Team = ALONE,
    progress: Progress | None,
) -> tuple[Table, PixelStore]:
    """The images as the model is given them."""
    listing = list_images(Path(images), source)
    return scan_as_prepared(listing, preprocessing, workers=workers, team=team, progress=progress)


def _scored(
    place: Path, images: str | Path, *, source: SourceOptions | None, progress: Progress | None
) -> tuple[Predictions, Table, PixelStore]:
    """Scores of images, their table, and the images as the model was given them."""
    preprocessing, exported = prepared_for(place, engine="torch")
    table, pixels = _scanned(preprocessing, images, source=source, progress=progress)
    predictions = predictor_of(place, exported, device="auto").predict(table, pixels, progress=progress)
    return replace(predictions, drift=drift_of(place, table, pixels)), table, pixels


def evaluate(
    run: str | Path,
    data: str | Path | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    subgroups: SubgroupOptions | None = None,
    source: SourceOptions | None = None,
    patients: Literal["column", "recovered"] = "column",
    other_site: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a run again, for instance with `positive` classes; or measure its model on other data.

    Args:
        run: A finished run; with `data` also a bundle, an exported folder or file, or `hf:OWNER/NAME`.
        data: Labelled images from elsewhere; without it the run's own test rows, whose scores are on file. Images
            that trained the model are known again by their pixels, and patients by their ids: every score is then
            struck through.
        overrides: Options of `EvaluationOptions` and `OperatingOptions` that differ from the run's own, such as
            `{"positive": ["ill"], "prevalence": 0.05}`.
        subgroups: Columns that make groups of patients, of the run's own table or of `data`.
        source: Names of columns in `data`.
        patients: Where those of `data` are known from: its column of ids, or recovered from its pixels.
        other_site: You declare that `data` come from another hospital or device than what trained the model, with
            ids of its own. Not needed where a column such as `site` of both tables says so.
        progress: Told after every image.

    Raises:
        TableError: `SPL_NOT_RECOVERED` if the patients of `data` are asked for and cannot be told from the pixels.
    """
    if data is None and (patients == "recovered" or other_site):
        which = "--other-site" if other_site else "--patients"
        raise UsageError(f"{which} is about DATA, and none was given: a run knows its own.", code="OPT_INVALID")
    place = find_model(run)
    opened = None if data is not None and place.exists() and not Run(place).facts.is_file() else open_run(place)
    facts = {} if opened is None else read_json(opened.facts)
    options, operating = _measuring(facts.get("options", {}), overrides or {})
    scored = None if opened is None else Predictions.load(opened.predictions)
    if data is None:
        assert opened is not None
        assert scored is not None
        predictions = scored.tested(facts["tested_on"])
        evaluation = evaluate_predictions(
            predictions,
            patients=facts["patients"],
            split_unit=facts["split_unit"],
            options=options,
            attributes=opened.read_table(),
            subgroups=subgroups,
        )
        if facts.get("sites"):
            evaluation = at_held_out_sites(
                evaluation,
                predictions,
                opened.read_table(),
                column=facts["sites"]["column"],
                why=facts["sites"]["words"],
            )
        evaluation = with_own_threshold(
            evaluation,
            opened,
            scored,
            tested_on=facts["tested_on"],
            n_folds=len(facts["folds"]),
            patients=facts["patients"],
            options=operating,
        )
        audited = load_audit(opened.folder).evidence_level if (opened.folder / NUMBERS).is_file() else None
        return replace(evaluation, evidence_level=audited or evaluation.evidence_level)
    predictions, table, pixels = _scored(place, data, source=source, progress=progress)
    if patients == "recovered":
        table, _ = with_recovered_patients(table, pixels, progress=progress)
        predictions.table["patient_id"] = table.rows["patient_id"]
    met = Acquaintance.of(opened, facts, table, ids=patients == "column", declared=other_site)
    predictions.table["split"] = met.split
    known = predictions.labelled().table["patient_id"].notna()
    unknown_classes = sorted(set(table.classes) - set(predictions.classes))
    if unknown_classes:
        raise TableError(
            f"the data have class '{unknown_classes[0]}', which this model does not know.",
            code="TAB_UNKNOWN_CLASS",
        )
    known_from: PatientSource = "recovered" if patients == "recovered" else "documented"
    evaluation = evaluate_predictions(
        predictions,
        patients=known_from if len(known) and known.all() else "unknown",
        split_unit="patient",
        options=options,
        attributes=table.rows,
        subgroups=subgroups,
    )
    if predictions.drift is not None and predictions.drift.auc is not None:
        evaluation = replace(evaluation, notes=(*evaluation.notes, predictions.drift.in_words()))
    return with_operating_point(
        met.weighed(evaluation),
        predictions,
        None if scored is None else scored.tested("validation"),
        choosing_patients=facts.get("patients", "unknown"),
        options=operating,
    )


def _measuring(kept: Mapping[str, Any], overrides: Mapping[str, Any]) -> tuple[EvaluationOptions, OperatingOptions]:
    """How to measure: the run's own options, but for what is asked otherwise; older runs know no operating point."""
    own = {name: value for name, value in overrides.items() if name in OperatingOptions.model_fields}
    rest = {name: value for name, value in overrides.items() if name not in own}
    return (
        EvaluationOptions.model_validate(kept.get("evaluation", {}) | rest),
        OperatingOptions.model_validate(kept.get("operating", {}) | own),
    )
