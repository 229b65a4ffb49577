"""Bytes spoilt at random: what the fuzzer gives to the readers. The same draw gives the same bytes.

Blind changes (bits, runs, cuts, splices, numbers, words of the format) reach the headers. Where a checksum or a
compression would stop them before they get anywhere, the change is made inside and the wrapping is made good again.
"""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 1000, 32767, 32768, 65535, 65536, 10**6, 2**31 - 1, 2**31, 2**32 - 1)

TIFF_TAGS = (254, *range(256, 260), 262, 273, 277, 278, 279, 284, 317, 320, *range(322, 326), 330, 338, 339, 34665)
DICOM_TAGS = (
    *((0x0028, tag) for tag in (0x2, 0x4, 0x8, 0x10, 0x11, 0x100, 0x101, 0x102, 0x103, 0x1050, 0x1051, 0x1053, 0x3010)),
    *((0xFFFE, tag) for tag in (0xE000, 0xE00D, 0xE0DD)),
    *((0x7FE0, 0x0010), (0x0002, 0x0010), (0x5200, 0x9230)),
)
SYNTAXES = ("2\0", "2.1", "2.2", "2.5", "2.1.99", "2.4.50", "2.4.80", "2.4.90")

TOKENS: dict[str, tuple[bytes, ...]] = {
    "png": tuple(b"IHDR PLTE IDAT IEND tRNS acTL fdAT eXIf iCCP zTXt gAMA".split()),
    "jpeg": (*(bytes((0xFF, marker)) for marker in (*range(0xC0, 0xE2), 0xEE, 0xFE, 0x00, 0xFF)), b"Adobe\0"),
    "tiff": (
        *(struct.pack("<HH", tag, kind) for tag in TIFF_TAGS for kind in (1, 3, 4, 5, 16)),
        *(b"II*\0", b"MM\0*", b"II+\0"),
    ),
    "bmp": (b"BM", b"BGRs", b"\x0c\0\0\0", b"\x7c\0\0\0", b"\x01\0\x01\0", b"\x03\0\0\0", b"\0\0", b"\0\1"),
    "webp": (*b"RIFF WEBP VP8L VP8X ALPH ANIM ANMF EXIF ICCP /".split(), b"VP8 ", b"\x9d\x01\x2a"),
    "npz": (
        *(b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"\x93NUMPY\x01\0", b"\x93NUMPY\x02\0"),
        *b"'|O' '>f8' '<U4' True (99999999999,) (-1,) ../x.npy".split(),
    ),
    "parquet": (*b"PAR1 PARE bytes image".split(), b"\x15\x00", b"\x15\xff\xff\xff\xff\x0f", b"\x19\xfc", b"\x00"),
    "csv": (
        *b'" "" , ; =1+1 ../ http:// | nan path label'.split(),
        *(b"\t", b"\n", b"\r", b" ", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\xff", b"\xe2\x80\xae"),
    ),
    "dicom": (
        *b"DICM DS IS UN OB SQ MONOCHROME1 YBR_FULL_422 1\\2 1e400 -1 nan".split(),
        *(b"PALETTE COLOR", b"SQ\0\0", b"OW\0\0", b"US\x02\0", b"\xff\xff\xff\xff"),
        *(struct.pack("<HH", *tag) for tag in DICOM_TAGS),
        *(f"1.2.840.10008.1.{syntax}".encode() for syntax in SYNTAXES),
    ),
    "nifti": (
        *(b"n+1\0", b"ni1\0", b"n+2\0\r\n\x1a\n", struct.pack("<f", float("nan"))),
        *(struct.pack("<h", number) for number in (-1, 0, 128, 348, 540, 1792)),
    ),
}
"""Words that mean something to a format's readers."""


def mutate(data: bytes, kind: str, rng: Random, others: Sequence[bytes]) -> bytes:
    """One to four changes of a file of `kind`; `others` are files to splice with."""
    wrapped = WRAPPED.get(kind)
    if wrapped is not None and rng.random() < 0.5:
        data = wrapped(data, rng, lambda inner: _blind(inner, kind, rng, others))
        if rng.random() < 0.8:
            return data
    return _blind(data, kind, rng, others)


def _blind(data: bytes, kind: str, rng: Random, others: Sequence[bytes]) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not data:
            break
        change = rng.choice((_flip, _flip, _run, _cut, _splice, _number, _number, _token, _token, _double))
        data = change(bytearray(data), TOKENS[kind], rng, others)
    return data


def _place(data: bytearray, rng: Random) -> int:
    """Anywhere, but the head of the file as often as all the rest."""
    return rng.randrange(min(len(data), 400)) if rng.random() < 0.5 else rng.randrange(len(data))


def _flip(data: bytearray, tokens: Sequence[bytes], rng: Random, others: Sequence[bytes]) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 8, 32))):
        data[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(data)


def _run(data: bytearray, tokens: Sequence[bytes], rng: Random, others: Sequence[bytes]) -> bytes:
    start, length = _place(data, rng), rng.choice((1, 2, 4, 16, 300))
    fill = rng.choice((b"\0", b"\xff", b"\x7f", rng.randbytes(1), b""))
    length = min(length, len(data) - start)
    data[start : start + length] = fill * length if rng.random() < 0.7 else rng.randbytes(length)
    return bytes(data)


def _cut(data: bytearray, tokens: Sequence[bytes], rng: Random, others: Sequence[bytes]) -> bytes:
    if rng.random() < 0.5:
        return bytes(data[: rng.randrange(len(data))])
    start = _place(data, rng)
    return bytes(data[:start] + data[start + rng.choice((1, 2, 4, 64, 1000)) :])


def _splice(data: bytearray, tokens: Sequence[bytes], rng: Random, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    if rng.random() < 0.5:
        return bytes(data[: rng.randrange(len(data) + 1)]) + other[rng.randrange(len(other)) :]
    start = rng.randrange(len(other))
    place = _place(data, rng)
    part = other[start : start + rng.choice((4, 16, 64, 512))]
    return bytes(data[:place]) + part + bytes(data[place + rng.choice((0, len(part))) :])


def _number(data: bytearray, tokens: Sequence[bytes], rng: Random, others: Sequence[bytes]) -> bytes:
    """A length, size or count becomes another one."""
    layout = rng.choice(("<H", ">H", "<I", ">I", "<Q", "<I", ">I"))
    size = struct.calcsize(layout)
    if len(data) < size:
        return bytes(data)
    place = min(_place(data, rng), len(data) - size)
    (old,) = struct.unpack_from(layout, data, place)
    new = rng.choice((*NUMBERS, old + 1, old - 1, 2 * old, old // 2, 2**63, 2**64 - 1))
    struct.pack_into(layout, data, place, new % 2 ** (8 * size))
    return bytes(data)


def _token(data: bytearray, tokens: Sequence[bytes], rng: Random, others: Sequence[bytes]) -> bytes:
    """A word of the format, in place of another one or of anything."""
    word, known = rng.choice(tokens), rng.choice(tokens)
    place = data.find(known) if rng.random() < 0.5 else -1
    place = place if place >= 0 else _place(data, rng)
    data[place : place + rng.choice((0, len(word)))] = word
    return bytes(data)


def _double(data: bytearray, tokens: Sequence[bytes], rng: Random, others: Sequence[bytes]) -> bytes:
    """A part comes again, up to a hundred times."""
    start, length = _place(data, rng), rng.choice((1, 4, 16, 64))
    part = data[start : start + length]
    return bytes(data[:start] + part * rng.choice((2, 3, 100)) + data[start + length :])


# --- inside what wraps --------------------------------------------------------------------------------------

Change = Callable[[bytes], bytes]


def _in_png(data: bytes, rng: Random, change: Change) -> bytes:
    """A chunk changed, dropped, doubled or moved; or the pixels inside their stream. Checksums hold."""
    chunks = _png_chunks(data)
    if not chunks:
        return data
    number = rng.randrange(len(chunks))
    name, body = chunks[number]
    way = rng.randrange(6)
    if way == 0:
        del chunks[number]
    elif way == 1:
        chunks.insert(rng.randrange(len(chunks) + 1), (name, body))
    elif way == 2:
        chunks[number] = rng.choice(TOKENS["png"]), body
    elif way == 3:
        stream = b"".join(part for kind, part in chunks if kind == b"IDAT")
        changed = zlib.compress(change(_inflated(stream)), 1)
        first = next((n for n, (kind, _) in enumerate(chunks) if kind == b"IDAT"), 0)
        chunks = [chunk for chunk in chunks if chunk[0] != b"IDAT"]
        chunks.insert(first, (b"IDAT", changed))
    elif way == 4 and len(chunks[0][1]) == 13:
        chunks[0] = chunks[0][0], _header_numbers(chunks[0][1], rng)
    else:
        chunks[number] = name, change(body)
    parts = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return PNG_SIGNATURE + b"".join(parts)


def _header_numbers(header: bytes, rng: Random) -> bytes:
    width, height, *others = struct.unpack(">IIBBBBB", header)
    fields = [width, height, *others]
    place = rng.randrange(len(fields))
    fields[place] = rng.choice(NUMBERS) if place < 2 else rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
    return struct.pack(">IIBBBBB", *fields)


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], len(PNG_SIGNATURE)
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        found.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def _inflated(stream: bytes) -> bytes:
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return stream


def _in_zip(data: bytes, rng: Random, change: Change) -> bytes:
    """A member of a ZIP archive changed; the archive is written anew."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    number = rng.randrange(len(members))
    name, body = members[number]
    members[number] = name, change(body)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, body in members:
            archive.writestr(name, body)
    return stream.getvalue()


def _in_gzip(data: bytes, rng: Random, change: Change) -> bytes:
    if not data.startswith(b"\x1f\x8b"):
        return change(data)
    return gzip.compress(change(gzip.decompress(data)), 1, mtime=0)


WRAPPED: dict[str, Callable[[bytes, Random, Change], bytes]] = {"png": _in_png, "npz": _in_zip, "nifti": _in_gzip}
"""How to change what a format wraps up. Each is given a sound file."""
