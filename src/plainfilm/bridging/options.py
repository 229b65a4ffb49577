"""Where the bridge listens, whom it answers, and what it bears: one small frozen class."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from plainfilm.bridging.addresses import check_title, parse_peer
from plainfilm.errors import UsageError


class BridgeOptions(BaseModel):
    """Where the bridge listens, whom it answers, and what it bears."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on. Others than this machine's own need both "
                      "--allow-remote and --calling-ae.")  # fmt: skip
    port: int = Field(11112, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    ae_title: str = Field("PLAINFILM", description="Title of the bridge, which senders must call it by.")
    calling_ae: tuple[str, ...] = Field((), description="Titles of senders that are let in; by default all.")
    peer: str | None = Field(None, description="Where reports go by C-STORE, as TITLE@HOST:PORT.")
    stow: str | None = Field(
        None,
        description="Where reports go by STOW-RS instead: address of a DICOMweb service, http://127.0.0.1:8042/...",
    )
    allow_remote: bool = Field(
        False,
        description="Listen on, or send to, other machines. DICOM on the wire is not encrypted: use it inside a "
        "network or tunnel that is.",
    )
    spool: Path = Field(
        Path("plainfilm-bridge"),
        description="Folder for reports that wait for their receiver; they name patients. Nothing else is kept.",
    )
    most_megabytes: int = Field(128, ge=1, le=2048, description="Size of an object; larger ones are refused.")
    most_images: int = Field(
        500, ge=1, le=100_000, description="Images that wait to be classified; what is beyond is told to come again."
    )
    most_associations: int = Field(4, ge=1, le=100, description="Senders at the same time.")
    retry_seconds: float = Field(
        5.0, gt=0, le=3600, description="Wait before a report is sent again; doubled each time, up to five minutes."
    )

    @field_validator("ae_title")
    @classmethod
    def _title_can_be(cls, title: str) -> str:
        return _said(check_title, title)

    @field_validator("calling_ae")
    @classmethod
    def _titles_can_be(cls, titles: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_said(check_title, title) for title in titles)

    @field_validator("peer")
    @classmethod
    def _peer_can_be(cls, peer: str | None) -> str | None:
        if peer is not None:
            _said(lambda text: str(parse_peer(text)), peer)
        return peer


def _said(check: object, text: str) -> str:
    try:
        return check(text)  # type: ignore[operator, no-any-return]
    except UsageError as error:
        raise ValueError(str(error)) from None
