"""Decoded images, kept by content: what was read once at one size is not decoded again.

An image is found by a hash of its file's bytes and of how it is decoded; names of files and patients play no part, and
are not stored. The pixels of one way of decoding lie in one flat file for each depth, which is mapped into memory; an
index of SQLite says where. A cache is a convenience: where it cannot be opened, read or written, images are decoded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import numpy as np
import numpy.typing as npt
import PIL

from plainfilm import __version__
from plainfilm.data.images import DecodeRecord, ImageRef
from plainfilm.data.messages import Decoded
from plainfilm.data.workers import Job
from plainfilm.errors import ImageError

logger = logging.getLogger(__name__)

FOLDER: Final = "images"
INDEX: Final = "index.sqlite"
# Raised when decoding changes what an image becomes.
DECODING: Final = f"1 plainfilm {__version__} pillow {PIL.__version__} numpy {np.__version__}"
MOST_BYTES: Final = 16 << 30  # of one way of decoding
FREE_SHARE: Final = 0.5  # of the disk's free space, at most so much is taken
HASHED_BYTES: Final = 8 << 30  # larger files are decoded without a look
ROWS_AT_ONCE: Final = 512
_FAILURES = (OSError, sqlite3.Error, ValueError, KeyError, TypeError)


def decoded_once(
    keeping: Keeping | None,
    refs: Sequence[ImageRef],
    job: Job,
    decode: Callable[[Sequence[ImageRef]], Iterator[Decoded]],
) -> Iterator[Decoded]:
    """Each image once, in any order: those that are kept, then the others, decoded.

    Args:
        keeping: Where they are kept; None keeps nothing.
        refs: Where the images are.
        job: How they are decoded.
        decode: Decodes some of them in that way.
    """
    if keeping is None:
        yield from decode(refs)
        return
    with keeping.opened(job) as kept:
        missing = set(range(len(refs)))
        for decoded in kept.find(refs):
            missing.discard(decoded.index)
            yield decoded
        left = sorted(missing)
        for decoded in decode([refs[index] for index in left]):
            index = left[decoded.index]
            kept.keep(refs[index], decoded)
            yield replace(decoded, index=index)


@dataclass(frozen=True)
class Keeping:
    """Where decoded images are kept.

    Attributes:
        folder: The cache folder.
        writes: Whether new ones are added; else they are only looked up.
    """

    folder: Path
    writes: bool = True

    def opened(self, job: Job) -> KeptImages:
        """The images that were decoded in one way."""
        way = hashlib.sha256(f"{DECODING} {json.dumps(job.to_json(), sort_keys=True)}".encode()).hexdigest()
        return KeptImages(self.folder / FOLDER / way[:32], job, writes=self.writes)


@dataclass
class KeptImages:
    """Images of one way of decoding; a context manager.

    Attributes:
        place: Their folder.
        job: How they were decoded.
        writes: Whether new ones are added.
    """

    place: Path
    job: Job
    writes: bool
    _database: sqlite3.Connection | None = None
    _waiting: list[tuple[bytes, Decoded]] = field(default_factory=list)
    _hashes: dict[tuple[Path, int, int], str] = field(default_factory=dict)  # of containers: many images in one file
    _maps: dict[str, npt.NDArray[np.uint8]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        try:
            if self.writes:
                self.place.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self.writes or (self.place / INDEX).is_file():
                self._database = _opened(self.place / INDEX)
        except _FAILURES as error:
            self._give_up("opened", error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write()
        if self._database is not None:
            self._database.close()
            self._database = None
        self._maps.clear()

    def find(self, refs: Sequence[ImageRef]) -> Iterator[Decoded]:
        """Those that are kept, each with its place in `refs`; what is damaged is passed over."""
        try:
            if self._is_empty():
                return
            for index, ref in enumerate(refs):
                key = self._key(ref, None)
                decoded = None if key is None else self._read(key, index)
                if decoded is not None:
                    yield decoded
        except _FAILURES as error:
            self._give_up("read", error)

    def keep(self, ref: ImageRef, decoded: Decoded) -> None:
        """Add one that was decoded; refused images are not kept."""
        if not self.writes or self._database is None or decoded.record is None:
            return
        try:
            key = self._key(ref, decoded.record.file_sha256)
        except OSError:
            return
        if key is not None:
            self._waiting.append((key, decoded))
        if len(self._waiting) >= ROWS_AT_ONCE:
            self._write()

    def _is_empty(self) -> bool:
        if self._database is None:
            return True
        return self._database.execute("SELECT 1 FROM decoded LIMIT 1").fetchone() is None

    def _key(self, ref: ImageRef, file_sha256: str | None) -> bytes | None:
        """Of an image, by the bytes of its file; None where these cannot be had cheaply."""
        if ref.member is None and ref.row is None and file_sha256 is not None:
            digest: str | None = file_sha256
        else:
            digest = self._hash(ref)
        if digest is None:
            return None
        return hashlib.sha256(f"{digest} {ref.member} {ref.row} {ref.window}".encode()).digest()

    def _hash(self, ref: ImageRef) -> str | None:
        """Hash of an ordinary file; nothing is waited for."""
        alone = ref.member is None and ref.row is None
        try:
            # Not blocking: it may be a pipe.
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            if not ref.path.is_file():
                return None
            with open(os.open(ref.path, flags), "rb") as file:
                found = os.fstat(file.fileno())
                if found.st_size > (self.job.limits.max_file_bytes if alone else HASHED_BYTES):
                    return None
                stamp = (ref.path, found.st_mtime_ns, found.st_size)
                if stamp not in self._hashes:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                    if alone:
                        return digest
                    self._hashes[stamp] = digest
                return self._hashes[stamp]
        except (OSError, ValueError, ImageError):
            return None

    def _read(self, key: bytes, index: int) -> Decoded | None:
        assert self._database is not None
        row = self._database.execute(
            "SELECT record, dtype, start, checksum FROM decoded WHERE key = ?", (key,)
        ).fetchone()
        if row is None:
            return None
        record = json.loads(row[0])
        decoded = DecodeRecord(**{**record, "notes": tuple(record["notes"])})
        if self.job.size is None:
            return Decoded(index, decoded)
        dtype = np.dtype(str(row[1]))
        count = self.job.size[0] * self.job.size[1] * dtype.itemsize
        part = self._map(dtype.name)[row[2] : row[2] + count]
        if len(part) != count or zlib.crc32(part.data) != row[3]:
            return None
        return Decoded(index, decoded, part.view(dtype).reshape(self.job.size))

    def _map(self, dtype: str) -> npt.NDArray[np.uint8]:
        if dtype not in self._maps:
            self._maps[dtype] = np.memmap(self.place / f"{dtype}.raw", dtype=np.uint8, mode="r")
        return self._maps[dtype]

    def _write(self) -> None:
        """Pixels first, then the index: what a stop leaves behind between the two is written over."""
        waiting, self._waiting = self._waiting, []
        if not waiting or self._database is None:
            return
        try:
            self._check_room(sum(0 if one.pixels is None else one.pixels.nbytes for _, one in waiting))
            with self._database:
                self._database.execute("BEGIN IMMEDIATE")  # one writer at a time
                ends = dict(self._database.execute("SELECT dtype, end FROM files"))
                files: dict[str, IO[bytes]] = {}
                try:
                    self._database.executemany(
                        "INSERT OR REPLACE INTO decoded VALUES (?, ?, ?, ?, ?)",
                        [(key, *self._added(one, ends, files)) for key, one in waiting],
                    )
                finally:
                    for file in files.values():
                        file.close()
                self._database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?)", list(ends.items()))
        except _FAILURES as error:
            self._give_up("written", error)

    def _added(self, one: Decoded, ends: dict[str, int], files: dict[str, IO[bytes]]) -> tuple[Any, ...]:
        """The row of an image whose pixels were put at the end of their file."""
        record = json.dumps(vars(one.record))
        if one.pixels is None:
            return record, "", 0, 0
        dtype = one.pixels.dtype.name
        if dtype not in files:
            path = self.place / f"{dtype}.raw"
            path.touch(mode=0o600)
            files[dtype] = path.open("r+b")
            files[dtype].seek(ends.get(dtype, 0))
        data = np.ascontiguousarray(one.pixels).data.cast("B")
        start = ends.get(dtype, 0)
        files[dtype].write(data)
        ends[dtype] = start + len(data)
        return record, dtype, start, zlib.crc32(data)

    def _check_room(self, count: int) -> None:
        taken = sum(path.stat().st_size for path in self.place.glob("*.raw"))
        if taken + count > MOST_BYTES or count > FREE_SHARE * shutil.disk_usage(self.place).free:
            raise OSError("no room is left for them")

    def _give_up(self, what: str, error: Exception) -> None:
        logger.warning("Decoded images are not kept: they cannot be %s (%s).", what, type(error).__name__)
        if self._database is not None:
            self._database.close()
            self._database = None


def _opened(path: Path) -> sqlite3.Connection:
    try:
        return _connected(path)
    except sqlite3.DatabaseError:
        for old in path.parent.glob("*"):  # damaged: the pixels are worth nothing without it
            old.unlink(missing_ok=True)
        return _connected(path)


def _connected(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=30, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")  # a crash may lose the last images, never damage the rest
        database.execute(
            "CREATE TABLE IF NOT EXISTS decoded "
            "(key BLOB PRIMARY KEY, record TEXT, dtype TEXT, start INTEGER, checksum INTEGER) WITHOUT ROWID"
        )
        database.execute("CREATE TABLE IF NOT EXISTS files (dtype TEXT PRIMARY KEY, end INTEGER)")
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database
