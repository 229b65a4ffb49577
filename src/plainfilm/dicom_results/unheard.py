"""Keeping the DICOM libraries from repeating what a header says."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LIBRARIES = ("highdicom", "pydicom", "pynetdicom", "dicomweb_client")


@contextmanager
def unheard() -> Iterator[None]:
    """Within it a strange value of a header is neither logged, warned of nor refused by its own words.

    The libraries quote the value, which may be a patient's name; the value itself is kept as it is.
    """
    from pydicom import config

    silence_loggers()
    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield


def silence_loggers() -> None:
    """Let the libraries log nothing below CRITICAL, whatever level the program logs at."""
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.CRITICAL)
