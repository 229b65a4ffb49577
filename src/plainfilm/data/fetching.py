"""The encoded bytes of one image, or its array: from a file, a parquet cell or a row of an npz array."""

from __future__ import annotations

import errno
import os
import stat
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plainfilm.data.refusals import refuse

_Stamp = tuple[int, int]  # modification time and size: a changed file is read anew


def check_bytes(count: int, *, max_bytes: int) -> None:
    """Refuse an encoded image of more bytes than allowed."""
    if count > max_bytes:
        refuse("IMG_FILE_TOO_LARGE", f"{count:,} bytes; the limit is {max_bytes:,}.")


def fetch_file(path: Path, *, max_bytes: int) -> bytes:
    """All bytes of an ordinary file; a folder, pipe, socket or device is refused without waiting on it."""
    size = _check_regular(path).st_size
    check_bytes(size, max_bytes=max_bytes)
    try:
        # Not blocking: the file may have become a pipe since it was looked at.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(path, flags), "rb") as file:
            return file.read(size)  # not up to the limit: `read` takes memory for all it is asked for
    except OSError as error:
        refuse("IMG_UNREADABLE", f"{error.strerror or 'It cannot be opened'}.")


def fetch_member(path: Path, member: str, row: int | None, *, max_bytes: int) -> bytes | NDArray[Any]:
    """The bytes in one cell of a parquet column, or one row (all of it, if None) of an npz array.

    The row group or array it lies in is kept for the next call; unpacked, it may take `max_bytes`.
    """
    found = _check_regular(path)
    with open(path, "rb") as file:
        magic = file.read(4)
    stamp = (found.st_mtime_ns, found.st_size)
    if magic == b"PK\x03\x04":
        array = _npz_array(path, stamp, member, max_bytes)
        return array if row is None else _npz_row(array, member, row)
    if magic != b"PAR1" or row is None:
        refuse("IMG_FORMAT_NOT_ALLOWED", "It is neither a parquet file with a row given nor an npz file.")
    return _parquet_cell(path, stamp, member, row, max_bytes)


def _check_regular(path: Path) -> os.stat_result:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the name
        refuse("IMG_MISSING", "No such file.")
    except OSError as error:
        code = "IMG_MISSING" if error.errno == errno.ENAMETOOLONG else "IMG_UNREADABLE"
        refuse(code, f"{error.strerror or 'It cannot be opened'}.")
    if stat.S_ISDIR(found.st_mode):
        refuse("IMG_UNREADABLE", "It is a folder.")
    if not stat.S_ISREG(found.st_mode):
        refuse("IMG_NOT_A_FILE", "It is not an ordinary file.")
    return found


def _parquet_cell(path: Path, stamp: _Stamp, column: str, row: int, max_bytes: int) -> bytes:
    group, start = _row_group_of(path, stamp, row)
    cell = _row_group(path, stamp, column, group, max_bytes)[row - start].as_py()
    if isinstance(cell, dict):
        cell = cell.get("bytes")
    if not isinstance(cell, bytes):
        refuse("IMG_MISSING", f"Column '{column}' holds no bytes in row {row}.")
    return cell


def _row_group_of(path: Path, stamp: _Stamp, row: int) -> tuple[int, int]:
    """The row group a row lies in, and the number of the group's first row."""
    starts = _row_group_starts(path, stamp)
    if not 0 <= row < starts[-1]:
        refuse("IMG_MISSING", f"The file has {starts[-1]} rows, not row {row}.")
    group = int(np.searchsorted(starts, row, side="right")) - 1
    return group, starts[group]


@lru_cache(maxsize=1)
def _row_group_starts(path: Path, _stamp: _Stamp) -> list[int]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        counts = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    return [0, *np.cumsum(counts, dtype=np.int64).tolist()]


@lru_cache(maxsize=1)
def _row_group(path: Path, _stamp: _Stamp, column: str, group: int, max_bytes: int) -> Any:
    """One column of one row group; rows are mostly asked for in order, so the last group is kept."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        if column not in file.schema_arrow.names:
            refuse("IMG_MISSING", f"The file has no column '{column}'.")
        # Of all its columns: asking a damaged file for one column's share can end the process inside Arrow.
        size = file.metadata.row_group(group).total_byte_size
        if size > max_bytes:
            refuse("IMG_MEMORY", f"Row group {group} unpacks to {size:,} bytes.")
        return file.read_row_group(group, columns=[column], use_threads=False).column(column)


def _npz_row(array: NDArray[Any], name: str, row: int) -> NDArray[Any]:
    n_rows = array.shape[0] if array.ndim else 0
    if not 0 <= row < n_rows:
        refuse("IMG_MISSING", f"Array '{name}' has {n_rows} rows, not row {row}.")
    return np.asarray(array[row])


@lru_cache(maxsize=1)
def _npz_array(path: Path, _stamp: _Stamp, name: str, max_bytes: int) -> NDArray[Any]:
    """One array of an npz file; its own header is checked before anything is unpacked."""
    with zipfile.ZipFile(path) as archive:
        if f"{name}.npy" not in archive.namelist():
            refuse("IMG_MISSING", f"The file has no array '{name}'.")
        with archive.open(f"{name}.npy") as member:
            shape, dtype = _npy_header(member)
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if dtype.kind not in "biuf":
            refuse("IMG_DEPTH_UNSUPPORTED", f"Array '{name}' holds {dtype} values.")
        if size > max_bytes:
            refuse("IMG_MEMORY", f"Array '{name}' unpacks to {size:,} bytes.")
        with archive.open(f"{name}.npy") as member:
            array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
            member.read(1)  # reaching the end makes zipfile compare the checksum
    array.flags.writeable = False
    return array


def _npy_header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype
