"""A trained model for others, as commands: export, push."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from plainfilm.commands.flags import PredictFlags, asked, section_of, show
from plainfilm.errors import UsageError
from plainfilm.terminal import Terminal

BOUND = 1e-4  # as `plainfilm.exporting.writing`; naming it here spares --help the loading of it


def export(
    run: Path,
    /,
    *,
    output: Annotated[Path | None, Parameter(["--output", "-o"])] = None,
    folder: Path | None = None,
    check: Path | None = None,
    bound: float = BOUND,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    workers: int | None = None,
    json_: Annotated[bool, Parameter("--json", negative=())] = False,
    quiet: Annotated[bool, Parameter(["--quiet", "-q"], negative=())] = False,
    flags: Annotated[PredictFlags | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> None:
    """Write a model as ONNX, with a check that it gives the same scores.

    Args:
        run: Folder of a run or of a bundle, or hf:OWNER/NAME.
        output: The file; by default model.onnx in the bundle, where predict --engine onnx finds it.
        folder: Write a folder for a machine without a network: model, card, ONNX file, licences, commands.
        check: Images to compare the scores on; by default phantoms and noise.
        bound: Largest difference of a score that is let pass; beyond it nothing is written.
        overwrite: Replace what is at --output or --folder.
        workers: Decoding processes for --check; by default one per processor.
        json_: Print what was found as JSON.
        quiet: No progress.
    """
    from plainfilm import verbs

    if not bound > 0:
        raise UsageError("--bound must be above 0.", code="OPT_INVALID")
    done = verbs.export(
        run,
        output=output,
        folder=folder,
        check=check,
        bound=bound,
        overwrite=overwrite,
        source=section_of(asked(flags), "source"),
        workers=workers,
        progress=Terminal(quiet=quiet),
    )
    if json_:
        print(json.dumps(asdict(done) | {"path": str(done.path)}, indent=2))
        return
    folds = f", the mean of {done.n_models} models" if done.n_models > 1 else ""
    show(f"{done.parity.in_words()}\n{done.path}: {done.n_bytes / 1e6:.1f} MB of ONNX{folds}")


def push(
    run: Path,
    repository: str,
    /,
    *,
    licence: Annotated[str | None, Parameter(["--licence", "--license"])] = None,
    private: Annotated[bool, Parameter(negative=())] = False,
    message: str | None = None,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    quiet: Annotated[bool, Parameter(["--quiet", "-q"], negative=())] = False,
) -> None:
    """Put a model's bundle on the Hugging Face hub: the bundle and its card, nothing else.

    Args:
        run: Folder of a run or of a bundle.
        repository: OWNER/NAME, made if it is not there.
        licence: Of the model, as the hub names it, such as apache-2.0; by default what the card says.
        private: Make the repository private, if it is made.
        message: Of the commit.
        dry_run: Print the card and the files, and push nothing.
        quiet: No progress.
    """
    from plainfilm import verbs

    done = verbs.push(
        run,
        repository,
        licence=licence,
        private=private,
        message=message,
        dry_run=dry_run,
        progress=Terminal(quiet=quiet),
    )
    if dry_run:
        show(done.card)
    show("\n".join(f"{name}: {size:,} bytes" for name, size in done.files.items()))
    for note in done.notes:
        print(f"note: {note}")
    print("nothing was pushed" if dry_run else f"pushed: {done.model}, commit {done.commit}")
