"""Weights without labels, as a command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from plainfilm.commands.flags import PredictFlags, asked, section_of
from plainfilm.pretraining.options import PretrainOptions
from plainfilm.terminal import Terminal


def pretrain(
    data: Path | None = None,
    /,
    *,
    output: Annotated[Path, Parameter(["--output", "-o"])] = Path("pretrained"),
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    resume: Annotated[bool, Parameter(negative=())] = False,
    workers: int | None = None,
    quiet: Annotated[bool, Parameter(["--quiet", "-q"], negative=())] = False,
    options: Annotated[PretrainOptions | None, Parameter(name="*", group="Pretrain")] = None,
    flags: Annotated[PredictFlags | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> None:
    """Make weights from images that formulas draw, or from a folder of your own without labels.

    Args:
        data: Images to learn from, their labels unseen; without it images are generated, and no file is read.
        output: Folder for the weights, their recipe and card.
        overwrite: Replace the pretraining in --output.
        resume: Go on with the stopped pretraining in --output.
        workers: Decoding processes; by default one per processor.
        quiet: No progress.
    """
    from plainfilm import verbs

    made = verbs.pretrain(
        data,
        options,
        output=output,
        source=section_of(asked(flags), "source"),
        overwrite=overwrite,
        resume=resume,
        workers=workers,
        progress=Terminal(quiet=quiet),
    )
    recipe = made.recipe
    print(
        f"{recipe['images_seen']:,} {recipe['learnt_from']} in {recipe['seconds']:,.0f} s; "
        f"{recipe['accuracy_at_the_end']:.1%} of {recipe['classes']:,} classes told at the end"
    )
    print(f"weights: {made.weights}  (train DATA --model {recipe['model']} --weights {made.weights})")
