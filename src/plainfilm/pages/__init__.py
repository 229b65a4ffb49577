"""What every offline page stands on: one environment that escapes all text, one look, and the hash of its script."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from plainfilm.plots import readable

TEXT_LIMIT: Final = 1_000  # characters of one sentence


def page_environment() -> Environment:
    """A Jinja environment in which no value can become markup.

    Every value is escaped, hidden and bidirectional characters are written out, and a name that does not exist is an
    error.
    """
    return Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_as_text
    )


def _as_text(value: Any) -> Any:
    """What Jinja prints for a value: markup made here as it is, any other text without hidden characters."""
    return readable(value, limit=TEXT_LIMIT) if isinstance(value, str) and not isinstance(value, Markup) else value


def packaged(package: str, name: str) -> str:
    """The text of a template, style or script that lies beside the code of a package."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


def page_style(*own: tuple[str, str]) -> Markup:
    """The look that all pages share, then what is a page's own, as `(package, name)`."""
    return Markup("\n".join(packaged(*place) for place in (("plainfilm.pages", "page.css"), *own)))


def script_hash(script: str) -> str:
    """What a content security policy lets run: the SHA-256 of a page's one script, in base64."""
    return b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
