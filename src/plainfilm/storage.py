"""Files that are whole or absent: atomic writes, a manifest of hashes written last, one writer per run."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from plainfilm.errors import BundleError, ResourceError, UsageError

MANIFEST = "manifest.json"
LOCK = ".lock"
TEMPORARY = ".tmp"
MAX_MANIFEST_BYTES = 16 << 20


def cache_folder() -> Path:
    """Where decoded images and features are kept: `PLAINFILM_CACHE`, or `plainfilm` in the user's cache folder."""
    named = os.environ.get("PLAINFILM_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(named) if named else (Path(base) if base else Path.home() / ".cache") / "plainfilm"


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that it is old or new at every instant, never half.

    Raises:
        ResourceError: `RES_DISK_FULL`, `RES_READ_ONLY` or `RES_WRITE`; the old file is then untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _resource_error(error, path.name) from None
    finally:  # it is gone by now, unless something stopped us on the way
        with suppress(OSError):
            temporary.unlink()


def is_temporary(path: Path) -> bool:
    """Whether this is a file of `write_bytes` that has not got its name yet."""
    return path.name.startswith(".") and path.name.endswith(TEMPORARY)


def sweep(folder: Path) -> None:
    """Delete what killed writers left under `folder`; for the one who holds its lock."""
    for path in folder.rglob(f".*{TEMPORARY}"):
        with suppress(OSError):
            path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; floats keep every digit, NaN is refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of ours.

    Raises:
        BundleError: `BUN_MISSING` or `BUN_DAMAGED`.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise BundleError(f"'{path.name}' is missing.", code="BUN_MISSING") from None
    except (ValueError, OSError, RecursionError):
        raise BundleError(f"'{path.name}' is damaged.", code="BUN_DAMAGED") from None


def make_folder(path: Path) -> None:
    """Make a folder and its parents; raises `ResourceError` in our words."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _resource_error(error, str(path)) from None


def delete(path: Path) -> None:
    """Delete a file, or a folder with all that is in it; raises `ResourceError` in our words."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise _resource_error(error, str(path)) from None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, names: Sequence[str]) -> None:
    """Commit the files `names` of `folder`: their hashes, written last."""
    write_json(folder / MANIFEST, {"sha256": {name: sha256_of(folder / name) for name in sorted(names)}})


def verify_manifest(
    folder: Path,
    *,
    required: Iterable[str] = (),
    allowed: Collection[str] | None = None,
    unchecked: Iterable[str] = (),
) -> dict[str, str]:
    """Check every file that the manifest of `folder` names.

    Args:
        folder: What `write_manifest` was given.
        required: Files that must be among them: one the manifest does not name is not checked.
        allowed: Files that may be among them; None for any inside the folder.
        unchecked: Files whose hash may differ, because they are about to be written again.

    Returns:
        The hashes by name.

    Raises:
        BundleError: `BUN_MISSING`, `BUN_DAMAGED`, `BUN_EXTRA` or `BUN_OUTSIDE` (a name that leaves the folder).
    """
    path = folder / MANIFEST
    if path.is_file() and path.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleError(f"'{MANIFEST}' is far too large.", code="BUN_DAMAGED")
    manifest = read_json(path)
    hashes = manifest.get("sha256") if isinstance(manifest, dict) else None
    if not isinstance(hashes, dict):
        raise BundleError(f"'{MANIFEST}' names no files.", code="BUN_DAMAGED")
    unnamed = sorted(set(required) - set(hashes))
    if unnamed:
        raise BundleError(f"'{MANIFEST}' does not name '{unnamed[0]}'.", code="BUN_DAMAGED")
    for name, expected in hashes.items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise BundleError(f"'{MANIFEST}' names a file outside its folder.", code="BUN_OUTSIDE")
        if allowed is not None and name not in allowed:
            raise BundleError(f"'{MANIFEST}' names a file that does not belong here.", code="BUN_EXTRA")
        if name not in unchecked:
            check_hash(folder / name, expected, shown=name)
    return hashes


def noted_hash(folder: Path, name: str) -> str | None:
    """What the manifest of `folder` says of one file; None if it does not name it, or there is no manifest."""
    if not (folder / MANIFEST).is_file():
        return None
    manifest = read_json(folder / MANIFEST)
    hashes = manifest.get("sha256") if isinstance(manifest, dict) else None
    return hashes.get(name) if isinstance(hashes, dict) else None


def check_hash(path: Path, expected: str, *, shown: str) -> None:
    """Raise `BundleError` if a file is not the one whose hash was noted."""
    if not path.is_file():
        raise BundleError(f"'{shown}' is missing.", code="BUN_MISSING")
    try:
        found = sha256_of(path)
    except OSError:
        raise BundleError(f"'{shown}' cannot be read.", code="BUN_DAMAGED") from None
    if found != expected:
        raise BundleError(f"'{shown}' is not the file that was written: its hash differs.", code="BUN_DAMAGED")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for one process; the lock dies with the process.

    The folder is made if it is not there, and its parents; they are taken away again if nothing was put into them.

    Raises:
        ResourceError: `RES_LOCKED` if another process holds it.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    make_folder(folder)
    file = _take_lock(folder)
    try:
        yield
    finally:
        # Taken away while still held: whoever opened it meanwhile finds that it is no longer the lock.
        with file, suppress(OSError):
            (folder / LOCK).unlink()
        with suppress(OSError):  # not empty: kept, with all above it
            for path in made:
                path.rmdir()


def _take_lock(folder: Path) -> IO[str]:
    """The open lock file; closing it gives the lock back."""
    path = folder / LOCK
    while True:
        try:
            file = path.open("w")
        except OSError as error:
            raise _resource_error(error, str(folder)) from None
        if not _lock_file(file):
            file.close()
            raise ResourceError(
                f"'{folder}' is in use by another plainfilm. Wait for it, or choose another --output.",
                code="RES_LOCKED",
            )
        with suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # its last holder took it away between our two steps


def _lock_file(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: no advisory locks of this kind
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _resource_error(error: OSError, name: str) -> ResourceError:
    kinds = {
        errno.ENOSPC: ("RES_DISK_FULL", "the disk is full"),
        errno.EDQUOT: ("RES_DISK_FULL", "the disk quota is used up"),
        errno.EFBIG: ("RES_DISK_FULL", "the file would pass the size limit"),
        errno.EROFS: ("RES_READ_ONLY", "the disk is read-only"),
        errno.EACCES: ("RES_READ_ONLY", "permission denied"),
        errno.EPERM: ("RES_READ_ONLY", "permission denied"),
        errno.ENOTDIR: ("RES_WRITE", "a part of the path is a file"),
    }
    code, said = kinds.get(error.errno or 0, ("RES_WRITE", error.strerror or type(error).__name__))
    return ResourceError(f"'{name}' cannot be written: {said}.", code=code)


def check_output(folder: Path, what: str, own: Collection[str], *, mark: str, overwrite: bool) -> None:
    """Refuse a folder for results that holds something else, or results that may not be overwritten.

    Args:
        folder: Where results are about to go; need not exist.
        what: What they are, with its article.
        own: Names of the files and folders they consist of.
        mark: The one without which a folder does not hold such results.
        overwrite: Whether older ones may be replaced.

    Raises:
        UsageError: `OUT_EXISTS`, `OUT_STRANGE`, or `RUN_EXISTS` inside a finished run.
    """
    if folder.is_file():
        raise UsageError(f"'{folder}' is a file; --output names a folder.", code="OUT_EXISTS")
    if any((place / MANIFEST).is_file() for place in (folder, folder.parent)):
        raise UsageError(f"'{folder}' is inside a finished run. Choose another --output.", code="RUN_EXISTS")
    held = {path.name for path in folder.iterdir() if not is_temporary(path)} if folder.is_dir() else set()
    if not held:
        return
    if held - set(own) or mark not in held:
        raise UsageError(
            f"'{folder}' holds something that is not {what}; it is not overwritten. Choose another --output.",
            code="OUT_STRANGE",
        )
    if not overwrite:
        raise UsageError(
            f"'{folder}' is not empty. Choose another --output; --overwrite replaces it.", code="OUT_EXISTS"
        )
