"""A repository on the Hugging Face hub: its id, its folder in the cache, and why it stays silent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

PREFIX = "hf:"
TIMEOUT_S = 10.0  # until the hub counts as not reached
_ID = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?", re.ASCII)


@dataclass(frozen=True)
class HubRepository:
    """What is named by `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`.

    Attributes:
        repository: `owner/name`.
        revision: Branch, tag or commit; None for the main branch.
    """

    WHAT: ClassVar[str]
    CACHED_AS: ClassVar[str]

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}" + (f"@{self.revision}" if self.revision else "")

    @classmethod
    def read(cls, text: str) -> Self | None:
        """The repository of an id, with or without its prefix; None if the text is none."""
        found = _ID.fullmatch(text.removeprefix(PREFIX))
        return None if found is None or ".." in text else cls(found["repository"], found["revision"])

    @property
    def cache_folder(self) -> str:
        """Its folder in the hub's cache."""
        return f"{self.CACHED_AS}--{self.repository.replace('/', '--')}"

    def silence(self, error: Exception) -> str:
        """Why the hub did nothing, in words."""
        from huggingface_hub import errors

        if isinstance(error, errors.GatedRepoError):
            return "its page asks for consent first; then set HF_TOKEN"
        if isinstance(error, errors.RevisionNotFoundError):
            return "it has no such revision"
        if isinstance(error, errors.RepositoryNotFoundError):
            return f"the hub has no such {self.WHAT}; or it is private, and HF_TOKEN is not set"
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            return "the hub wants a token that may do this: set HF_TOKEN"
        # The network's own exceptions come from a library that differs between versions of the hub's.
        return f"the hub could not be used ({type(error).__name__})"
