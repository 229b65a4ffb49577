"""The command line's door: names the commands, turns errors into one line and an exit status.

Nothing heavy is imported here: `plainfilm --help` and `--version` load no deep-learning library.
"""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import cyclopts

from plainfilm import __version__
from plainfilm.errors import Helped, Interrupted, PlainfilmError

COMMANDS = {  # what is typed: where it is, relative to plainfilm.commands, and its line in --help
    "demo": ("running:demo", "The whole story on synthetic images: no download, about two minutes."),
    "scan": ("running:scan", "Read every file: used, skipped or refused, each with its reason."),
    "audit": (
        "auditing:audit",
        "Does the number hold on new patients? Leakage, duplicates, shortcuts, controls.",
    ),
    "train": ("running:train", "Split by patient, train, evaluate on sealed test images, write the report."),
    "sweep": ("sweeping:sweep", "Try models under several seeds, compared on validation images alone."),
    "explore": (
        "exploring:explore",
        "Components, clusters and maps of the images in one linked page; needs no labels.",
    ),
    "explain": ("explaining:explain", "Where a model looks, by methods that pass the randomisation check."),
    "evaluate": ("running:evaluate", "Measure a run again, or its model on other data."),
    "compare": ("comparing:compare", "Which run is better, by how much, and how many patients it would take."),
    "predict": ("running:predict", "Score images with a trained model."),
    "serve": ("serving:serve", "Answer images over HTTP, and show a page for them, on this machine."),
    "bridge": ("bridging:bridge", "A DICOM node: images come in, reports go back."),
    "report": ("running:report", "Write a run's report again from its files."),
    "export": ("exporting:export", "Write a model as ONNX, checked for the same scores; or a folder to carry away."),
    "push": ("exporting:push", "Put a model's bundle on the Hugging Face hub."),
    "pretrain": ("pretraining:pretrain", "Make weights from generated images, or from a folder without labels."),
    "models": ("asking:models", "List models with parameters, FLOPs, weights and licences."),
    "recipe list": ("recipes:list_recipes", "The papers' experiments."),
    "recipe run": ("recipes:run_recipe", "Do one of them, and set it beside what holds on new patients."),
    "data list": ("datasets:list_datasets", "Public image sets, with licence, size and what to beware of."),
    "data get": ("datasets:get_dataset", "Download one of them."),
    "phantoms": ("asking:phantoms", "Write synthetic images with known patients and planted faults."),
    "doctor": ("asking:doctor", "What this machine has, and what to change."),
    "config": ("asking:config", "Every option, its default, and the schema of the options file."),
}
GROUPS = {  # first words of commands of two words
    "recipe": "The papers' experiments: list them, run one.",
    "data": "Public image sets: list them, get one.",
}

app = cyclopts.App(
    name="plainfilm",
    help="Medical image classification with a number that holds on new patients. "
    "Research software, not a medical device.",
    version=__version__,
    suppress_keyboard_interrupt=False,  # `run` says what it means
    default_parameter=cyclopts.Parameter(negative_iterable=()),  # no --empty-classes
)
for _group, _help in GROUPS.items():
    app.command(cyclopts.App(name=_group, help=_help))
for _name, (_place, _help) in COMMANDS.items():
    *_first, _last = _name.split()
    (app[_first[0]] if _first else app).command(f"plainfilm.commands.{_place}", name=_last, help=_help)


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 2 usage, 3 bad data, 5 resource, 70 internal, 130/143 stopped."""
    signal.signal(signal.SIGTERM, _terminate)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a process that is gone is said in one line, by us
    gc.set_threshold(50_000)  # imports make half a million objects that stay: looking through them costs a second
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a class name must not end a training
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:  # noqa: PLR0911 - one return for each exit status
    """Run one command and give its exit status; whatever goes wrong is said in one line on standard error."""
    try:
        result = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except cyclopts.CycloptsError as error:
        _complain(f"{_what_was_typed_wrong(error)} See: plainfilm --help", "USAGE")
        return 2
    except KeyboardInterrupt:
        _complain("stopped.", "INTERRUPTED")
        return _stopped_by
    except Helped:
        return 0
    except Interrupted as stop:
        _complain(str(stop), stop.code)
        return _stopped_by
    except PlainfilmError as error:
        if _speaks(error):
            _complain(str(error), error.code)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        _complain("out of memory. Try smaller images or batches.", "RES_MEMORY")
        return 5
    except Exception as error:  # the contract: never a traceback, and never the words of data in a message
        if os.environ.get("PLAINFILM_TRACEBACK"):
            raise
        _complain(
            f"an error of plainfilm's own ({type(error).__name__}). "
            "Set PLAINFILM_TRACEBACK=1 to see where, and report it.",
            "INTERNAL",
        )
        return 70
    return result if isinstance(result, int) else 0


def _speaks(error: PlainfilmError) -> bool:
    """Whether this process says what went wrong: of several the first, and any that finds the first gone."""
    if error.code == "DEV_PROCESS_LOST" or not {"RANK", "SLURM_PROCID"} & os.environ.keys():
        return True
    from plainfilm.team import leads_here

    return leads_here()


def _complain(sentence: str, code: str) -> None:
    """One line; a file name cannot break it, or talk to the terminal."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in sentence)
    print(f"plainfilm: {shown} [{code}]", file=sys.stderr)  # noqa: T201


def _what_was_typed_wrong(error: cyclopts.CycloptsError) -> str:
    """The words of the parser, or of the option classes for a value that cannot be."""
    from pydantic import ValidationError

    from plainfilm.config import describe_faults

    said = "; ".join(describe_faults(error.__cause__)) if isinstance(error.__cause__, ValidationError) else str(error)
    return said if said.endswith(".") else f"{said}."


_stopped_by = 130


def _terminate(signum: int, frame: FrameType | None) -> None:
    """SIGTERM stops as cleanly as Ctrl-C, with its own exit status."""
    global _stopped_by  # noqa: PLW0603 - a signal handler has nowhere else to leave word
    del signum, frame
    _stopped_by = 143
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
