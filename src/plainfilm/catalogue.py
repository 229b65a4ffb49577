"""Public image sets: what is known of each, and a download that never ends in a wrong file."""

from __future__ import annotations

import hashlib
import os
import shutil
import tomllib
import urllib.error
import urllib.request
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import cache
from http.client import HTTPException
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from plainfilm import __version__
from plainfilm.data.hub import HubDataset, fetch_dataset
from plainfilm.errors import DataError, ResourceError, UsageError, unknown_name
from plainfilm.progress import Progress, Silent
from plainfilm.storage import delete, locked, make_folder, read_json, sha256_of, write_json

RECEIPT = "receipt.json"
PART = ".part"
MAX_UNPACKED_BYTES = 8 << 30
_TIMEOUT_S = 30.0
_PIECE = 1 << 20


class DataFile(BaseModel):
    """One file of a set.

    Attributes:
        name: Path in the set's folder.
        url: Where it is; None for a file on the Hugging Face hub.
        variant: Which version of the set it is; empty for the one that goes by the set's own name.
        sha256: As published; None where it could not be checked.
        md5: The same.
        unpack: Whether it is a zip to unpack beside itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    url: str | None = None
    variant: str = ""
    sha256: str | None = None
    md5: str | None = None
    unpack: bool = False


class DataSet(BaseModel):
    """What is known of a public set; what could not be checked is None.

    Attributes:
        name: What is typed.
        images: How many; None where it depends on what is asked for.
        depth: Bits, colour and size.
        classes: Names, in the order of the labels.
        patients: Whether the set names them.
        megabytes: Size of the download.
        home: Its page.
        caution: What to know before believing a score on it.
        hub: Its id on the Hugging Face hub.
        by_hand: How to get it, or another form of it, by hand.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    images: int | None = None
    depth: str
    classes: tuple[str, ...]
    patients: str
    licence: str
    megabytes: float | None = None
    home: str
    caution: str
    hub: str | None = None
    by_hand: str = ""
    files: tuple[DataFile, ...] = Field(())

    @property
    def how(self) -> Literal["hub", "download", "by hand"]:
        """How it is got."""
        if self.hub is not None:
            return "hub"
        return "download" if self.files else "by hand"

    @property
    def names(self) -> dict[str, str]:
        """What can be typed, and the variant it means."""
        variants = [""] if self.how != "download" else dict.fromkeys(file.variant for file in self.files)
        return {f"{self.name}_{variant}" if variant else self.name: variant for variant in variants}


@dataclass(frozen=True)
class Fetched:
    """What was got.

    Attributes:
        folder: Where it lies.
        sha256: Hash of each file, by its path in the folder.
        checked: The files whose hash was compared with a published one.
    """

    folder: Path
    sha256: dict[str, str]
    checked: tuple[str, ...]


@cache
def list_data_sets() -> tuple[DataSet, ...]:
    """Every set of the catalogue."""
    text = files("plainfilm").joinpath("catalogue.toml").read_text("utf-8")
    return tuple(DataSet.model_validate(entry) for entry in tomllib.loads(text)["sets"])


def find_data_set(name: str) -> tuple[DataSet, str]:
    """A set, and which variant of it the name means.

    Raises:
        UsageError: `UNKNOWN_DATA_SET`, with the nearest name.
    """
    known = {typed: (found, variant) for found in list_data_sets() for typed, variant in found.names.items()}
    if name not in known:
        raise unknown_name("data set", name, known)
    return known[name]


def get_data_set(name: str, output: Path | None = None, *, progress: Progress | None = None) -> Fetched:
    """Download a set, check it, and note the hash of every file in `receipt.json`.

    A file that is there already and has the noted hash is kept; a download that was cut short goes on where the
    published hash can tell at the end that the parts belong together.

    Args:
        name: See `find_data_set`.
        output: Folder; by default `data/NAME`.
        progress: Told of every file.

    Raises:
        UsageError: `UNKNOWN_DATA_SET`; or `DAT_BY_HAND`, which says where to go and where to put it.
        ResourceError: `RES_DOWNLOAD`, `RES_HASH` (nothing is kept), `RES_WRITE` or `RES_LOCKED`.
        DataError: `DAT_CHANGED` where another file has the name; `DAT_ARCHIVE` for an archive that is not sound.
    """
    data_set, variant = find_data_set(name)
    folder = output if output is not None else Path("data") / name
    if data_set.how == "by hand":
        raise UsageError(
            f"{data_set.title} cannot be downloaded by a program. {data_set.by_hand} Put it in '{folder}'. Licence: "
            f"{data_set.licence}.",
            code="DAT_BY_HAND",
        )
    with locked(folder):
        fetch = _fetch_from_hub if data_set.hub is not None else _fetch_files
        fetched = fetch(data_set, variant, folder, progress or Silent())
        write_json(
            folder / RECEIPT,
            {
                "set": name,
                "licence": data_set.licence,
                "home": data_set.home,
                "fetched": date.today().isoformat(),
                "sha256": fetched.sha256,
                "compared_with_published": list(fetched.checked),
            },
        )
    return fetched


def _fetch_from_hub(data_set: DataSet, variant: str, folder: Path, progress: Progress) -> Fetched:
    """The parquet files; the hub's own client compares each with the hash the hub has for it."""
    del variant  # a set on the hub has one
    assert data_set.hub is not None
    progress.say(f"fetching hf:{data_set.hub}")
    fetch_dataset(HubDataset(data_set.hub), folder=folder)
    found = sorted(path for path in folder.rglob("*.parquet") if ".cache" not in path.parts)
    hashes = {path.relative_to(folder).as_posix(): sha256_of(path) for path in found}
    for file in data_set.files:
        if file.name in hashes and file.sha256 not in (None, hashes[file.name]):
            delete(folder / file.name)
            raise _wrong_hash(file)
    return Fetched(folder, hashes, tuple(file.name for file in data_set.files if file.name in hashes))


def _fetch_files(data_set: DataSet, variant: str, folder: Path, progress: Progress) -> Fetched:
    wanted = [file for file in data_set.files if file.variant == variant]
    noted = _noted_hashes(folder)
    hashes = {}
    for file in wanted:
        target = folder / file.name
        if target.is_file():
            _check_there(target, file, noted.get(file.name))
            progress.say(f"{file.name} is there already")
        else:
            _download(file, target, progress)
        hashes[file.name] = sha256_of(target)
        if file.unpack:
            _unpack(target, folder)
    return Fetched(folder, {**noted, **hashes}, tuple(file.name for file in wanted if file.sha256 or file.md5))


def _noted_hashes(folder: Path) -> dict[str, str]:
    """The hashes of the last receipt."""
    noted = read_json(folder / RECEIPT) if (folder / RECEIPT).is_file() else {}
    return {str(name): str(digest) for name, digest in noted.get("sha256", {}).items()}


def _check_there(target: Path, file: DataFile, noted: str | None) -> None:
    """Refuse a file that has the name, but is not what was published or noted."""
    expected = noted is not None or file.sha256 is not None or file.md5 is not None
    if _is_as_published(target, file) and noted in (None, sha256_of(target)) and expected:
        return
    raise DataError(
        f"'{target}' is there, and is not the file that was published or fetched. Move it away, or choose another "
        "--output.",
        code="DAT_CHANGED",
    )


def _is_as_published(path: Path, file: DataFile) -> bool:
    """Whether a file has every published hash; True where there is none."""
    with path.open("rb") as opened:
        for kind, expected in (("sha256", file.sha256), ("md5", file.md5)):
            opened.seek(0)
            if expected is not None and hashlib.file_digest(opened, kind).hexdigest() != expected:
                return False
    return True


def _wrong_hash(file: DataFile) -> ResourceError:
    return ResourceError(
        f"{file.name}: what came is not the file that was published (its hash differs); it was deleted. Try again; if "
        "it happens again, the file was replaced or altered on the way.",
        code="RES_HASH",
    )


# --- downloading --------------------------------------------------------------------------------------------


def _download(file: DataFile, target: Path, progress: Progress) -> None:
    """Fetch one file under another name, compare its hash, and only then give it its own."""
    part = target.with_name(f".{target.name}{PART}")
    make_folder(target.parent)
    if not (file.sha256 or file.md5):
        delete(part)  # nothing could tell that two parts belong together
    try:
        _fetch_rest(file, part, progress)
        if not _is_as_published(part, file):
            delete(part)
            raise _wrong_hash(file)
        os.replace(part, target)
    except urllib.error.HTTPError as error:
        error.close()
        raise _not_downloaded(file, target, f"HTTP {error.code}") from None
    except urllib.error.URLError as error:
        raise _not_downloaded(file, target, type(error.reason).__name__) from None
    except (TimeoutError, ConnectionError, HTTPException) as error:
        raise _not_downloaded(file, target, type(error).__name__) from None
    except OSError as error:
        raise ResourceError(f"'{target}' cannot be written: {error.strerror}.", code="RES_WRITE") from None


def _fetch_rest(file: DataFile, part: Path, progress: Progress) -> None:
    """Append to `part` what it still lacks; from the start where the server does not send parts."""
    assert file.url is not None
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(file.url, headers={"User-Agent": f"plainfilm/{__version__}"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # there is no rest
            error.close()
            return
        raise
    with answer, part.open("ab" if answer.status == 206 else "wb") as opened:
        length = answer.headers.get("Content-Length")
        expected = opened.tell() + int(length) if length else None
        with progress.task(f"{file.name}, KiB", (int(length) if length else 0) // 1024 + 1) as advance:
            while piece := answer.read(_PIECE):
                opened.write(piece)
                advance(len(piece) // 1024)
        if expected is not None and opened.tell() != expected:
            raise ConnectionError("cut short")


def _not_downloaded(file: DataFile, target: Path, reason: str) -> ResourceError:
    return ResourceError(
        f"{file.name} could not be downloaded ({reason}). Try again: it goes on where it stopped if its hash is known. "
        f"Or fetch {file.url} where there is a network, and put it at '{target}'.",
        code="RES_DOWNLOAD",
    )


# --- unpacking ----------------------------------------------------------------------------------------------


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip beside itself, whole or not at all; what is there already stays.

    Raises:
        DataError: `DAT_ARCHIVE` for a damaged file, a name that leaves the folder, a link, or too much.
    """
    temporary = folder / f".{archive.name}.tmp"
    delete(temporary)
    try:
        with zipfile.ZipFile(archive) as opened:
            _check_members(opened, archive.name)
            opened.extractall(temporary)
        for path in temporary.iterdir():
            if not (folder / path.name).exists():
                os.replace(path, folder / path.name)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError):
        raise DataError(f"'{archive.name}' is not a sound zip file.", code="DAT_ARCHIVE") from None
    except OSError as error:
        raise ResourceError(f"'{archive.name}' cannot be unpacked: {error.strerror}.", code="RES_WRITE") from None
    finally:
        with suppress(OSError):
            shutil.rmtree(temporary)


def _check_members(opened: zipfile.ZipFile, name: str) -> None:
    members: list[Any] = opened.infolist()
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or (member.external_attr >> 16) & 0o170000 == 0o120000:
            raise DataError(f"'{name}' holds a name that leaves the folder, or a link.", code="DAT_ARCHIVE")
    if sum(member.file_size for member in members) > MAX_UNPACKED_BYTES:
        raise DataError(f"'{name}' unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB.", code="DAT_ARCHIVE")
