"""The command line's door: names the commands, turns errors into one line and an exit status.

Nothing heavy is imported here: `plainfilm --help` and `--version` load no deep-learning library.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import cyclopts
from rich.console import Console

from plainfilm import __version__
from plainfilm.errors import Interrupted, PlainfilmError

COMMANDS = {
    "demo": "The whole story on synthetic images: no download, about two minutes.",
    "scan": "Read every file: used, skipped or refused, each with its reason.",
    "train": "Split by patient, train, evaluate on sealed test images, write the report.",
    "evaluate": "Measure a run again, or its model on other data.",
    "predict": "Score images with a trained model.",
    "report": "Write a run's report again from its files.",
    "models": "List models with parameters, FLOPs, weights and licences.",
    "phantoms": "Write synthetic images with known patients and planted faults.",
    "doctor": "What this machine has, and what to change.",
    "config": "Every option, its default, and the schema of the options file.",
}

app = cyclopts.App(
    name="plainfilm",
    help="Medical image classification with a number that holds on new patients. "
    "Research software, not a medical device.",
    version=__version__,
)
for _name, _help in COMMANDS.items():
    app.command(f"plainfilm.commands:{_name}", name=_name, help=_help)


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 2 usage, 3 bad data, 5 resource, 70 internal, 130/143 stopped."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:  # noqa: PLR0911 - one return for each exit status
    """Run one command and give its exit status."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        result = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except cyclopts.CycloptsError as error:
        console.print(f"plainfilm: {error}", markup=False)
        console.print("See: plainfilm --help", style="dim")
        return 2
    except Interrupted as stop:
        console.print(f"plainfilm: {stop}", markup=False)
        return _stopped_by
    except KeyboardInterrupt:
        console.print("plainfilm: stopped.", markup=False)
        return _stopped_by
    except PlainfilmError as error:
        console.print(f"plainfilm: {error} [{error.code}]", markup=False)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        console.print("plainfilm: out of memory. Try smaller images or batches. [RES_MEMORY]", markup=False)
        return 5
    except Exception as error:  # the contract: never a traceback, and never the words of data in a message
        if os.environ.get("PLAINFILM_TRACEBACK"):
            raise
        console.print(
            f"plainfilm: an error of plainfilm's own ({type(error).__name__}). Set PLAINFILM_TRACEBACK=1 to see where, "
            "and report it. [INTERNAL]",
            markup=False,
        )
        return 70
    return result if isinstance(result, int) else 0


_stopped_by = 130


def _terminate(signum: int, frame: FrameType | None) -> None:
    """SIGTERM stops as cleanly as Ctrl-C, with its own exit status."""
    global _stopped_by  # noqa: PLW0603 - a signal handler has nowhere else to leave word
    del signum, frame
    _stopped_by = 143
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
