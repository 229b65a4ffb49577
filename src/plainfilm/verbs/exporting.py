"""A trained model for others: as one ONNX file, or as a folder for a machine without a network."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from plainfilm.bundle import ONNX, find_bundles, load_bundle, load_reference, put_onnx
from plainfilm.data.repositories import PREFIX
from plainfilm.data.scanning import scan_as_prepared
from plainfilm.data.sources import SourceOptions, list_images
from plainfilm.errors import UsageError
from plainfilm.exporting import folder as exported
from plainfilm.exporting.reading import SUFFIX, require_onnx
from plainfilm.exporting.writing import BOUND, Parity, onnx_bytes
from plainfilm.progress import Progress
from plainfilm.runs import Run, open_run
from plainfilm.storage import MANIFEST, locked, make_folder, write_bytes
from plainfilm.verbs.predicting import find_model


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        path: The ONNX file, or the folder.
        n_bytes: Size of the ONNX file.
        n_models: How many models (folds) its scores are the mean of.
        parity: How far its scores are from the model's own.
    """

    path: Path
    n_bytes: int
    n_models: int
    parity: Parity


def export(
    run: str | Path,
    *,
    output: str | Path | None = None,
    folder: str | Path | None = None,
    check: str | Path | None = None,
    bound: float = BOUND,
    overwrite: bool = False,
    source: SourceOptions | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write a model as ONNX, unless its scores would differ from those of the model.

    Of a cross-validated run the file holds the models of all folds and gives the mean of their scores, as `predict`.

    Args:
        run: A run's folder, a bundle's, or `hf:OWNER/NAME`.
        output: The file; by default `model.onnx` in the bundle (of several folds, in the run), where
            `predict(engine="onnx")` finds it.
        folder: Write a folder instead: bundle, ONNX file, licence notes and commands for a machine without a network.
        check: Images to compare the scores on; by default phantoms and noise in the range of the training images.
        bound: Largest difference of a score that is let pass.
        overwrite: Replace what is at `output` or `folder`.
        source: Names of columns of `check`, where they are not the usual ones.
        workers: Decoding processes for `check`.
        progress: Told of the steps.

    Raises:
        DataError: `ONX_PARITY` if a score differs by more than `bound`; nothing is written then.
        UsageError: `ONX_UNSUPPORTED`, `MISSING_EXTRA`, `OPT_OUTPUT`, `OUT_EXISTS`, `OUT_STRANGE` or `RUN_EXISTS`.
        BundleError: For a damaged bundle or run.
    """
    require_onnx(("onnx", "onnxscript", "onnxruntime"))
    place, target = find_model(run), None if output is None else Path(output)
    _check_places(run, place, target, None if folder is None else Path(folder), overwrite=overwrite)
    folders = find_bundles(place)
    bundles = [load_bundle(one) for one in folders]
    config = bundles[0].config
    images = None
    if check is not None:
        listing = list_images(Path(check), source)
        _, images = scan_as_prepared(listing, config.preprocessing, workers=workers, progress=progress)
    learnt = len(bundles) == 1 and config.novelty.neighbour_limit is not None
    data, parity = onnx_bytes(
        bundles,
        reference=load_reference(folders[0]) if learnt else None,
        images=images,
        bound=bound,
        progress=progress,
    )
    if folder is not None:
        written = Path(folder)
        exported.write_folder(written, folders, data)
    elif target is not None:
        written = target
        make_folder(target.parent)
        write_bytes(target, data)
    else:
        written = _put(place, folders, data)
    return Exported(path=written, n_bytes=len(data), n_models=len(bundles), parity=parity)


def _check_places(run: str | Path, place: Path, output: Path | None, folder: Path | None, *, overwrite: bool) -> None:
    """Refuse, before the long work, a place that cannot be written to."""
    if output is not None and folder is not None:
        raise UsageError("give --output or --folder, not both.", code="OPT_OUTPUT")
    if output is None and folder is None and (str(run).startswith(PREFIX) or exported.is_export(place)):
        raise UsageError("this model is not to be changed: name a file with --output.", code="OPT_OUTPUT")
    if folder is not None:
        exported.check_free(folder, overwrite=overwrite)
    if output is None:
        return
    if output.suffix.lower() != SUFFIX:
        raise UsageError(f"--output names a file that ends in {SUFFIX}.", code="OPT_OUTPUT")
    if (output.parent / MANIFEST).is_file():
        raise UsageError(
            f"'{output}' is inside a finished run. Leave --output out, or choose another.", code="RUN_EXISTS"
        )
    if output.exists() and not overwrite:
        raise UsageError(f"'{output}' exists. Choose another --output; --overwrite replaces it.", code="OUT_EXISTS")


def _put(place: Path, folders: list[Path], data: bytes) -> Path:
    """Put the file beside the model, and commit the run anew, if it is one and sound."""
    finished = Run(place).is_finished and folders[0] != place
    with ExitStack() as held:
        if finished:
            held.enter_context(locked(place))
            rewritten = [ONNX, *(f"{folders[0].relative_to(place).as_posix()}/{name}" for name in (MANIFEST, ONNX))]
            open_run(place, unchecked=rewritten)
        if len(folders) == 1:
            written = put_onnx(folders[0], data)
        else:
            written = place / ONNX
            write_bytes(written, data)
        if finished:
            Run(place).finish()
    return written
