"""Tables and folders that must be refused, written on demand, each with its code; and odd ones that must not be.

Each names the same 24 small images of 12 patients in 2 classes, so that a fault is the only one.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import socket
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from bad_images import encoded

N_PATIENTS, N_EACH = 12, 2
Row = dict[str, str]


@dataclass(frozen=True)
class BadTable:
    """One table or folder on disk.

    Attributes:
        name: What is wrong with it, or odd about it.
        path: What is given to the program.
        code: What it is refused with; empty if it is odd but sound.
        stops: The first command that fails on it. What a scan can account for, file by file, stops the training only.
        exit_code: 3 for bad data, 2 where options could mend it.
        flags: Of the training it stops.
    """

    name: str
    path: Path
    code: str
    stops: Literal["scan", "train", "nothing"]
    exit_code: int = 3
    flags: tuple[str, ...] = ()


def bad_tables(folder: Path) -> list[BadTable]:
    """Write all of them under `folder`, less than 10 MB, and list them."""
    write = _Writer(folder)
    groups = (_labels, _patients_and_splits, _text, _paths, _parquet, _npz, _folders, _places, _sound)
    return [table for group in groups for table in group(write)]


# --- sound parts --------------------------------------------------------------------------------------------


def small_image(number: int, side: int = 32) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """`(side, side)`; every number gives other pixels, bright on the left or the right as its patient's class is."""
    image = np.random.default_rng(number).integers(0, 100, (side, side), dtype=np.uint8)
    half = slice(None, side // 2) if number // N_EACH % 2 else slice(side // 2, None)
    image[:, half] += 120
    return image


def good_rows() -> list[Row]:
    """A sound manifest: patients alternate between the classes "ill" and "well"."""
    rows = []
    for number in range(N_PATIENTS * N_EACH):
        patient = number // N_EACH
        label = ("well", "ill")[patient % 2]
        rows.append({"path": f"images/{number:02}.png", "label": label, "patient_id": f"{patient:03}"})
    return rows


def write_images(folder: Path, rows: Iterable[Row]) -> None:
    """The image of each row, under `folder`."""
    for number, row in enumerate(rows):
        path = folder / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(small_image(number), "PNG"))


def as_csv(rows: Sequence[dict[str, Any]], separator: str = ",", **dialect: Any) -> str:
    """Rows as the text of a manifest."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=separator, lineterminator="\n", **dialect)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


class _Writer:
    """Makes a folder for each case."""

    def __init__(self, folder: Path) -> None:
        self.root = folder

    def manifest(self, name: str, table: str | bytes | Sequence[Row], *, file: str = "table.csv") -> Path:
        """A folder with the 24 images and a manifest; gives the manifest."""
        folder = self.root / name
        write_images(folder, good_rows())
        path = folder / file
        if not isinstance(table, str | bytes):
            table = as_csv(list(table))
        path.write_bytes(table.encode() if isinstance(table, str) else table)
        return path

    def file(self, name: str, data: bytes | str) -> Path:
        self.root.mkdir(parents=True, exist_ok=True)
        path = self.root / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def class_folders(self, name: str) -> Path:
        """`class/patient_image.png`; gives the folder."""
        folder = self.root / name
        rows = good_rows()
        write_images(folder, [{"path": f"{row['label']}/{row['patient_id']}_{n}.png"} for n, row in enumerate(rows)])
        return folder

    def parquet(self, name: str, table: pa.Table) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        return path

    def npz(self, name: str, **arrays: Any) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays)
        return path


def _with(number: int, **cells: str) -> list[Row]:
    """The sound rows, one of them changed."""
    rows = good_rows()
    rows[number] |= cells
    return rows


def _each(change: Callable[[int, Row], Row]) -> list[Row]:
    """The sound rows, each with some cells changed or added."""
    return [row | change(number, row) for number, row in enumerate(good_rows())]


def image_bytes() -> list[dict[str, Any]]:
    """The images as the cells of a Hugging Face parquet file."""
    return [{"bytes": encoded(small_image(n), "PNG"), "path": f"{n}.png"} for n in range(N_PATIENTS * N_EACH)]


# --- what is wrong ------------------------------------------------------------------------------------------


def _labels(write: _Writer) -> Iterator[BadTable]:
    for name, rows, code in (
        ("labels_with_bars", _with(3, label="ill|well"), "TAB_MULTI_LABEL"),
        ("labels_in_brackets", _with(3, label="['ill', 'well']"), "TAB_MULTI_LABEL"),
        ("label_in_two_cases", _with(3, label="Well"), "TAB_LABEL_VARIANTS"),
        ("label_in_two_widths", _with(2, label="ｗｅｌｌ"), "TAB_LABEL_VARIANTS"),
        (
            "label_with_white_space",
            _each(lambda n, _: {"label": ("no  sign", "no sign", "sign")[n % 3]}),
            "TAB_LABEL_VARIANTS",
        ),
        ("label_1_and_1.0", _each(lambda n, _: {"label": ("0", "1", "1.0")[n % 3]}), "TAB_LABEL_VARIANTS"),
    ):
        yield BadTable(name, write.manifest(name, rows), code, "scan")
    one_hot = [{"path": row["path"], "ill": "1", "cough": "0", "fever": "1"} for row in good_rows()]
    yield BadTable("one_hot", write.manifest("one_hot", one_hot), "TAB_MULTI_LABEL", "scan")
    for name, rows, code in (
        ("one_class", _each(lambda n, _: {"label": "ill"}), "TAB_ONE_CLASS"),
        ("no_labels", _each(lambda n, _: {"label": ""}), "TAB_NO_LABELS"),
        ("every_image_its_class", _each(lambda n, _: {"label": f"finding {n}"}), "TAB_TOO_MANY_CLASSES"),
    ):
        yield BadTable(name, write.manifest(name, rows), code, "train")
    one_folder = write.class_folders("one_class_folder")
    (one_folder / "ill").rename(one_folder / "well" / "more")
    yield BadTable("one_class_folder", one_folder, "TAB_ONE_CLASS", "train")


def _patients_and_splits(write: _Writer) -> Iterator[BadTable]:
    def split(number: int, row: Row) -> Row:
        patient = int(row["patient_id"])
        return {"split": "train" if patient < 8 else "validation" if patient < 10 else "test"}

    def in_two_splits(number: int, row: Row) -> Row:
        return {"split": "test"} if number == 0 else split(number, row)

    def class_only_in_test(number: int, row: Row) -> Row:
        given = split(number, row)
        return given | ({"label": "worse"} if given["split"] == "test" and row["label"] == "ill" else {})

    yield BadTable("class_folders_without_patients", write.class_folders("no_patients"), "SPL_NO_PATIENTS", "train", 2)
    for name, rows, code in (
        ("some_patients_missing", _with(4, patient_id=""), "SPL_MISSING_PATIENTS"),
        ("patient_in_two_splits", _each(in_two_splits), "SPL_LEAK"),
        ("class_only_in_test", _each(class_only_in_test), "SPL_UNSEEN_CLASS"),
        ("no_training_rows", _each(lambda n, _: {"split": "test"}), "SPL_EMPTY"),
        ("a_patient_per_class", _each(lambda n, row: {"patient_id": row["label"]}), "SPL_TOO_FEW_PATIENTS"),
    ):
        yield BadTable(name, write.manifest(name, rows), code, "train")
    folds = ("--folds", "20")
    many_folds = write.manifest("more_folds_than_patients", good_rows())
    yield BadTable("more_folds_than_patients", many_folds, "SPL_TOO_FEW_PATIENTS", "train", 3, folds)
    validation = _each(lambda n, _: {"split": "validation" if n < 12 else "test"})
    yield BadTable("only_validation_and_test", write.manifest("no_train", validation), "SPL_EMPTY", "train")
    unknown_split = _each(lambda n, _: {"split": "A"})
    yield BadTable("unknown_split", write.manifest("unknown_split", unknown_split), "TAB_SPLIT_NAME", "scan")


def _text(write: _Writer) -> Iterator[BadTable]:
    good = as_csv(good_rows())
    head, rest = good.split("\n", 1)
    for name, table, code in (
        ("nul_byte_in_a_name", good.replace("images/03", "images/\0", 1), "TAB_NUL"),
        ("utf_32", good.encode("utf-32"), "TAB_NUL"),
        ("json", '[{"path": "images/00.png", "label": "ill"}]', "TAB_NO_COLUMN"),
        ("html", "<!DOCTYPE html><html><body>404</body></html>", "TAB_NO_COLUMN"),
        ("empty", "", "TAB_EMPTY"),
        ("only_blank_lines", "\n \n\n", "TAB_EMPTY"),
        ("only_a_header", f"{head}\n", "TAB_NO_IMAGES"),
        ("nul_byte", good.replace("well", "we\0l", 1), "TAB_NUL"),
        ("latin_1", good.replace("well", "übel", 1).encode("latin-1"), "TAB_ENCODING"),
        ("half_a_utf_16_character", good.encode("utf-16")[:-1], "TAB_ENCODING"),
        ("quote_never_closed", good.replace("well", '"well', 1), "TAB_QUOTING"),
        ("text_after_quote", good.replace("well", '"well"s', 1), "TAB_QUOTING"),
        ("ragged_row", good.replace("well", "well,too", 1), "TAB_RAGGED"),
        ("short_row", f"{good}images/00.png\n", "TAB_RAGGED"),
        ("two_same_columns", f"{head},Label\n" + rest.replace("\n", ",x\n"), "TAB_DUPLICATE_COLUMN"),
        ("huge_cell", good.replace("well", "w" * (1 << 18), 1), "TAB_CELL_TOO_LARGE"),
        ("too_many_columns", ",".join(f"c{n}" for n in range(100_000)) + "\n", "TAB_TOO_WIDE"),
        ("no_column_of_paths", good.replace("path", "where", 1), "TAB_NO_COLUMN"),
        ("binary", bytes(range(1, 256)) * 4, "TAB_ENCODING"),
    ):
        yield BadTable(name, write.manifest(name, table), code, "scan")


def _paths(write: _Writer) -> Iterator[BadTable]:
    outside = write.file("outside.png", encoded(small_image(99), "PNG"))
    for name, path, code in (
        ("absolute_path", str(outside), "TAB_PATH_OUTSIDE"),
        ("path_with_dots", "../outside.png", "TAB_PATH_OUTSIDE"),
        ("path_with_hidden_dots", "images/../../outside.png", "TAB_PATH_OUTSIDE"),
        ("windows_drive", r"C:\outside.png", "TAB_PATH_OUTSIDE"),
        ("web_address", "http://127.0.0.1/x.png", "TAB_PATH_URL"),
        ("file_address", "file:///etc/hostname", "TAB_PATH_URL"),
        ("network_path", r"\\server\share\x.png", "TAB_PATH_URL"),
        ("ftp_address", "ftp://127.0.0.1/x.png", "TAB_PATH_URL"),
        ("address_in_capitals", "HTTPS://127.0.0.1/x.png", "TAB_PATH_URL"),
        ("data_address", "data:image/png;base64,iVBORw0KGgo=", "TAB_PATH_URL"),
        ("network_path_with_slashes", "//server/share/x.png", "TAB_PATH_URL"),
        ("home", "~/x.png", "IMG_MISSING"),
        ("dots_at_the_end", "images/..", "TAB_PATH_OUTSIDE"),
        ("percent_dots", "images/%2e%2e/x.png", "IMG_MISSING"),
        ("long_path", "x/" * 3000, "TAB_PATH_INVALID"),
        ("no_path", " ", "TAB_NO_PATH"),
        ("missing_file", "images/none.png", "IMG_MISSING"),
        ("path_of_a_folder", "images", "IMG_UNREADABLE"),
        ("listed_with_two_labels", "images/00.png", "TAB_CONFLICT"),
    ):
        yield BadTable(name, write.manifest(name, _with(3, path=path)), code, "train")
    linked = write.manifest("link_out", _with(3, path="images/link.png"))
    (linked.parent / "images" / "link.png").symlink_to(outside)
    yield BadTable("link_out", linked, "TAB_PATH_OUTSIDE", "train")
    pipe = write.manifest("row_of_a_pipe", _with(3, path="images/pipe.png"))
    os.mkfifo(pipe.parent / "images" / "pipe.png")
    yield BadTable("row_of_a_pipe", pipe, "IMG_NOT_A_FILE", "train")


def _parquet(write: _Writer) -> Iterator[BadTable]:
    images = pa.array(image_bytes())
    labels = [row["label"] for row in good_rows()]
    several = pa.table({"image": images, "labels": [[label, "cough"] for label in labels]})
    yield BadTable("list_of_labels", write.parquet("list.parquet", several), "TAB_MULTI_LABEL", "scan")
    sound = write.parquet("sound.parquet", pa.table({"image": images, "label": labels}))
    cut = write.file("cut.parquet", sound.read_bytes()[:-100])
    yield BadTable("truncated_parquet", cut, "TAB_PARQUET", "scan")
    listed = pa.table({"path": [row["path"] for row in good_rows()], "label": labels})
    counted = write.parquet("counted.parquet", listed).read_bytes()
    place = counted.rindex(b"\x16\x30\x19")  # the footer's count of 24 rows, before the list of row groups
    miscounted = counted[: place + 1] + b"\x2e" + counted[place + 2 :]
    yield BadTable("miscounted_rows_in_parquet", write.file("miscounted.parquet", miscounted), "TAB_PARQUET", "scan")
    yield BadTable("text_named_parquet", write.file("text.parquet", as_csv(good_rows())), "TAB_PARQUET", "scan")
    twice = pa.table([images, labels, labels], names=["image", "label", "label"])
    yield BadTable("two_parquet_columns", write.parquet("twice.parquet", twice), "TAB_DUPLICATE_COLUMN", "scan")
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["w" * (1 << 20)]))
    bomb = pa.table({"path": [f"{n}.png" for n in range(20_000)], "label": ["ill", "well"] * 10_000, "note": long})
    yield BadTable("dictionary_bomb", write.parquet("dictionary.parquet", bomb), "TAB_CELL_TOO_LARGE", "scan")
    many = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["w" * 100_000]))
    smaller = bomb.set_column(2, "note", many)
    yield BadTable("dictionary_of_2_gb", write.parquet("smaller.parquet", smaller), "TAB_TOO_LARGE", "scan")
    nested = pa.table({"image": images, "label": [{"a": label} for label in labels]})
    yield BadTable("struct_of_labels", write.parquet("struct.parquet", nested), "TAB_MULTI_LABEL", "scan")
    patients = [row["patient_id"] for row in good_rows()]
    for name, spoilt, code in (
        ("image_bomb_in_parquet", encoded(Image.new("L", (7500, 7500)), "PNG"), "IMG_TOO_LARGE"),
        ("no_bytes_in_parquet", None, "IMG_MISSING"),
        ("zero_bytes_in_parquet", b"", "IMG_EMPTY"),
    ):
        spoilt_cells = image_bytes()
        spoilt_cells[5]["bytes"] = spoilt
        one_bad = pa.table({"image": spoilt_cells, "label": labels, "patient_id": patients})
        yield BadTable(name, write.parquet(f"{name}.parquet", one_bad), code, "train")
    cells = image_bytes()
    cells[5]["bytes"] = cells[5]["bytes"][:200]
    cut_image = pa.table({"image": cells, "label": labels, "patient_id": [row["patient_id"] for row in good_rows()]})
    yield BadTable("truncated_image_in_parquet", write.parquet("bad_row.parquet", cut_image), "IMG_TRUNCATED", "train")
    shards = write.parquet("shards/data/train-00000-of-00002.parquet", cut_image.slice(12)).parent.parent
    (shards / "data" / "train-00001-of-00002.parquet").write_bytes(cut.read_bytes())
    yield BadTable("truncated_shard", shards, "TAB_PARQUET", "train")


def _npz(write: _Writer) -> Iterator[BadTable]:
    images = np.stack([small_image(n) for n in range(24)])
    labels = np.array([n // N_EACH % 2 for n in range(24)])
    several = write.npz("several.npz", train_images=images, train_labels=np.stack([labels, 1 - labels], axis=1))
    yield BadTable("several_labels_in_npz", several, "TAB_MULTI_LABEL", "scan")
    pickled = np.array([{"label": str(label)} for label in labels], dtype=object)
    yield BadTable(
        "pickled_npz", write.npz("pickled.npz", train_images=images, train_labels=pickled), "TAB_PICKLE", "scan"
    )
    # A whole pickle (protocol 0) of the number 1, written by hand.
    yield BadTable("pickle_named_npz", write.file("pickle.npz", b"I1\n."), "TAB_NPZ", "scan")
    yield BadTable("text_named_npz", write.file("text.npz", as_csv(good_rows())), "TAB_NPZ", "scan")
    yield BadTable("truncated_npz", write.file("cut.npz", several.read_bytes()[:-100]), "TAB_NPZ", "scan")
    huge = _npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999, 9, 9), }")
    yield BadTable("npz_that_declares_a_million_images", _zip(write, "huge.npz", huge), "TAB_TOO_LARGE", "scan")
    negative = _npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 9, 9), }")
    yield BadTable("npz_of_negative_length", _zip(write, "negative.npz", negative), "TAB_NPZ", "scan")
    code_in_header = _npy_header("{'descr': __import__('os').getpid(), 'shape': (1,)}")
    yield BadTable("npz_header_that_is_code", _zip(write, "code.npz", code_in_header), "TAB_NPZ", "scan")
    short = write.npz("short.npz", train_images=images, train_labels=labels[:-1])
    yield BadTable("fewer_labels_than_images", short, "TAB_NPZ", "scan")
    yield BadTable("npz_without_images", write.npz("weights.npz", weights=images), "TAB_NPZ", "scan")


def _npy_header(text: str) -> bytes:
    return np.lib.format.magic(1, 0) + struct.pack("<H", len(text) + 1) + text.encode() + b"\n"


def _zip(write: _Writer, name: str, array: bytes) -> Path:
    """An archive of one array, whose header is all there is."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("train_images.npy", array)
    return write.file(name, stream.getvalue())


def _folders(write: _Writer) -> Iterator[BadTable]:
    empty = write.root / "empty_folder"
    empty.mkdir()
    yield BadTable("empty_folder", empty, "TAB_NO_IMAGES", "scan")
    text = write.root / "text_folder"
    text.mkdir()
    (text / "README.md").write_text("no images")
    yield BadTable("folder_of_text", text, "TAB_NO_IMAGES", "scan")
    two_cases = write.class_folders("folders_in_two_cases")
    (two_cases / "Ill").mkdir(exist_ok=True)
    (two_cases / "Ill" / "x.png").write_bytes(encoded(small_image(50), "PNG"))
    yield BadTable("folders_in_two_cases", two_cases, "TAB_LABEL_VARIANTS", "scan")
    with_pipe = write.class_folders("pipe_among_images")
    os.mkfifo(with_pipe / "ill" / "pipe.png")
    yield BadTable("pipe_among_images", with_pipe, "IMG_NOT_A_FILE", "train")
    with_socket = write.class_folders("socket_among_images")
    _make_socket(with_socket / "ill" / "socket.png")
    yield BadTable("socket_among_images", with_socket, "IMG_NOT_A_FILE", "train")
    with_device = write.class_folders("device_among_images")
    (with_device / "ill" / "zero.png").symlink_to("/dev/zero")
    yield BadTable("device_among_images", with_device, "TAB_PATH_OUTSIDE", "train")
    with_link = write.class_folders("link_among_images")
    (with_link / "ill" / "link.png").symlink_to(write.root / "outside.png")
    yield BadTable("link_among_images", with_link, "TAB_PATH_OUTSIDE", "train")
    folder_link = write.class_folders("link_to_a_folder")
    (folder_link / "worse").symlink_to(write.root / "one_class" / "images")
    yield BadTable("link_to_a_folder", folder_link, "TAB_PATH_OUTSIDE", "train")
    broken = write.class_folders("broken_link")
    (broken / "ill" / "gone.png").symlink_to("nowhere.png")
    yield BadTable("broken_link", broken, "TAB_LINK_BROKEN", "train")
    circle = write.class_folders("link_to_itself")
    (circle / "ill" / "circle.png").symlink_to("circle.png")
    yield BadTable("link_to_itself", circle, "TAB_LINK_BROKEN", "train")


def _make_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket may not be long
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _places(write: _Writer) -> Iterator[BadTable]:
    pipe = write.root / "pipe.csv"
    os.mkfifo(pipe)
    yield BadTable("pipe_for_a_table", pipe, "TAB_NOT_A_FILE", "scan")
    yield BadTable("device", Path("/dev/null"), "TAB_NOT_A_FILE", "scan")
    yield BadTable("address", Path("https://127.0.0.1/data"), "TAB_URL", "scan")
    yield BadTable("absent", write.root / "absent", "TAB_MISSING", "scan")
    yield BadTable("name_too_long", write.root / ("x" * 300), "TAB_UNREADABLE", "scan")
    yield BadTable("spreadsheet", write.file("table.xlsx", b"PK\3\4"), "TAB_FORMAT", "scan")
    yield BadTable("bucket_address", Path("s3://bucket/data"), "TAB_URL", "scan")
    yield BadTable("endless_device", Path("/dev/zero"), "TAB_NOT_A_FILE", "scan")
    link = write.root / "zero.csv"
    link.symlink_to("/dev/zero")
    yield BadTable("link_to_an_endless_device", link, "TAB_NOT_A_FILE", "scan")
    socketed = write.root / "socket.csv"
    _make_socket(socketed)
    yield BadTable("socket_for_a_table", socketed, "TAB_NOT_A_FILE", "scan")
    yield from _archives(write)


def _archives(write: _Writer) -> Iterator[BadTable]:
    """None is unpacked: not a sound one, nor one that writes beside itself, holds links, or would fill a disk."""
    image = encoded(small_image(1), "PNG")
    for name, member in (
        ("archive", "ill/1.png"),
        ("archive_with_dots", "../../1.png"),
        ("archive_at_root", "/tmp/1.png"),
    ):
        archive = write.root / f"{name}.zip"
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr(member, image)
        yield BadTable(name, archive, "TAB_FORMAT", "scan")
    bomb = write.root / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("zeros.png", bytes(1 << 24))
    yield BadTable("archive_bomb", bomb, "TAB_FORMAT", "scan")
    for suffix in (".tar", ".tar.gz", ".tgz"):
        archive = write.root / f"images{suffix}"
        with tarfile.open(archive, "w:gz" if "gz" in suffix else "w") as packed:
            linked = tarfile.TarInfo("link.png")
            linked.type, linked.linkname = tarfile.SYMTYPE, "/etc/hostname"
            packed.addfile(linked)
        yield BadTable(f"archive{suffix}", archive, "TAB_FORMAT", "scan")
    yield BadTable("archive.7z", write.file("images.7z", b"7z\xbc\xaf\x27\x1c" + bytes(60)), "TAB_FORMAT", "scan")
    yield BadTable("archive.rar", write.file("images.rar", b"Rar!\x1a\x07\0" + bytes(60)), "TAB_FORMAT", "scan")
    yield BadTable("zipped_table", write.file("table.csv.gz", gzip.compress(b"path,label\n")), "TAB_FORMAT", "scan")


def _sound(write: _Writer) -> Iterator[BadTable]:
    """Odd, but nothing is wrong with them: all 24 images are used."""
    good = as_csv(good_rows())
    notes = _each(lambda n, _: {"note": f"two\nlines, {n}"})
    formulas = _each(lambda n, _: {"note": "=1+1", "status": "@x", "code": "-1", "format": "+", "fold": "1"})
    for name, table in (
        ("patient_with_two_labels", _each(lambda n, row: {"patient_id": f"{n // 3:03}"})),
        ("html_in_cells", _each(lambda n, _: {"note": "<script>alert(1)</script>", "site": '"><img src=x onerror=a>'})),
        ("column_named_like_ours", _each(lambda n, _: {"width": "9", "pixel_sha256": "x", "status": "used"})),
        ("byte_order_mark", good.encode("utf-8-sig")),
        ("utf_16", good.encode("utf-16")),
        ("windows_lines", good.replace("\n", "\r\n")),
        ("semicolons", as_csv(good_rows(), separator=";")),
        ("tabs", as_csv(good_rows(), separator="\t")),
        ("quoted_new_lines", as_csv(notes)),
        ("blank_lines_first", f"\n\n{good}\n\n"),
        ("formulas", as_csv(formulas)),
        ("listed_twice", as_csv([*good_rows(), good_rows()[0]])),
        ("white_space_around", good.replace(",", " , ")),
        ("windows_separators", good.replace("images/", ".\\images\\")),
    ):
        yield BadTable(name, write.manifest(name, table), "", "nothing")
    yield BadTable("names_in_two_cases", _names_in_two_cases(write), "", "nothing")
    yield BadTable("odd_names", _odd_names(write), "", "nothing")
    yield BadTable("what_systems_leave", _leftovers(write), "", "nothing")
    around = write.root / "link_to_the_root"
    write_images(around, [{"path": f"{row['label']}/{row['patient_id']}/{row['path'][-6:]}"} for row in good_rows()])
    (around / "ill" / "000").mkdir()
    (around / "ill" / "000" / "up").symlink_to(around)
    yield BadTable("link_to_the_root", around, "", "nothing")


def _names_in_two_cases(write: _Writer) -> Path:
    """Names that are one on other systems, in folders whose files have the same names."""
    folder = write.root / "names_in_two_cases"
    places = []
    for row in good_rows():
        places.append(f"{row['label']}/{row['patient_id']}/{('a.png', 'A.png')[len(places) % 2]}")
    write_images(folder, [{"path": place} for place in places])
    return folder


def _odd_names(write: _Writer) -> Path:
    """Class and patient folders; image names as strange as the file system allows."""
    folder = write.root / "odd_names"
    strange = [
        "x" * 251,
        "smile 😀",
        "new\nline",
        "bad\udcffbyte",
        'quo"te',
        "right\u202eleft",
        "=1+1",
        "-rf",
        "e\u0301",
    ]
    rows = good_rows()
    names = [*strange, *(f"plain {n}" for n in range(len(rows) - len(strange)))]
    places = [f"{r['label']}/{r['patient_id']}/{n}.png" for r, n in zip(rows, names, strict=True)]
    write_images(folder, [{"path": place} for place in places])
    return folder


def _leftovers(write: _Writer) -> Path:
    """Class and patient folders, with what operating systems and annotators leave beside images."""
    folder = write.root / "what_systems_leave"
    rows = good_rows()
    write_images(folder, [{"path": f"{r['label']}/{r['patient_id']}/{r['path'][-6:]}"} for r in rows])
    for name in (".DS_Store", "Thumbs.db", "ill/desktop.ini", "ill/.hidden.png", "well/000/notes.txt", "LICENSE.md"):
        (folder / name).write_bytes(b"x")
    mask = encoded(small_image(77), "PNG")
    (folder / "well" / "000" / "00_mask.png").write_bytes(mask)
    (folder / "well" / "000" / "00_mask_1.png").write_bytes(mask)
    for place in ("well/masks", "__MACOSX/ill", ".git/objects"):
        (folder / place).mkdir(parents=True)
        (folder / place / "1.png").write_bytes(mask)
    return folder
