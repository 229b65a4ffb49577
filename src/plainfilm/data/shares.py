"""Decoding shared among processes: each reads a part of the files, and all get all of the images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from plainfilm.data.fitting import Fit, Resample
from plainfilm.data.grey import Channel
from plainfilm.data.images import DecodeRecord, ImageLimits, ImageRef
from plainfilm.data.messages import Decoded
from plainfilm.data.pixels import DTYPES, PixelStore
from plainfilm.data.workers import decode_images
from plainfilm.team import Team

ROUND = 1024  # images of each process that are passed on at a time: bounds memory


def decode_together(
    team: Team,
    refs: Sequence[ImageRef],
    *,
    limits: ImageLimits,
    size: tuple[int, int] | None,
    fit: Fit,
    resample: Resample,
    channel: Channel,
    workers: int | None,
) -> Iterator[Decoded]:
    """As `workers.decode_images`; with a team, each process decodes a share of the files, which it must be able to see.

    Args:
        team: The processes; the others are asked to help.
        refs: Where the images are.
        limits: See there, as the rest.
        size: See there.
        fit: See there.
        resample: See there.
        channel: See there.
        workers: Decoding processes of each process.
    """
    how: dict[str, Any] = {"size": size, "fit": fit, "resample": resample, "channel": channel, "workers": workers}
    if team.size == 1:
        return decode_images(refs, limits=limits, **how)
    team.ask("scan")
    team.agree({"refs": [_named(ref) for ref in refs], "limits": asdict(limits), **how})
    return _decoded(team, refs, limits, how)


def help_decoding(team: Team) -> PixelStore | None:
    """Another process's part in `decode_together`: gives all images, in the order of the table; None without a size."""
    asked = team.agree(None)
    refs = [_ref(named) for named in asked.pop("refs")]
    limits, size = ImageLimits(**asked.pop("limits")), asked["size"]
    asked["size"] = None if size is None else tuple(size)
    store = None if size is None else PixelStore(len(refs), *size)
    good = []
    for decoded in _decoded(team, refs, limits, asked):
        if decoded.record is not None:
            good.append(decoded.index)
            if store is not None and decoded.pixels is not None:
                store.put(decoded.index, decoded.pixels)
    return store if store is None or len(good) == len(refs) else store.take(sorted(good))


def _decoded(team: Team, refs: Sequence[ImageRef], limits: ImageLimits, how: dict[str, Any]) -> Iterator[Decoded]:
    """What this process reads, then what the others read, in rounds."""
    own = range(len(refs))[team.rank :: team.size]
    mine = decode_images([refs[index] for index in own], limits=limits, **how)
    for _ in range(0, len(range(len(refs))[:: team.size]), ROUND):  # as many as the largest share takes
        part = [replace(decoded, index=own[decoded.index]) for decoded in itertools.islice(mine, ROUND)]
        team.meet("decoded")
        yield from part
        for source, told in enumerate(team.join([_told(decoded) for decoded in part])):
            arrays = _passed_on(team, part if source == team.rank else None, told, source)
            if source != team.rank:
                yield from (_heard(each, next(arrays[each["depth"]])) for each in told if each["depth"] is not None)
                yield from (_heard(each, None) for each in told if each["depth"] is None)


def _passed_on(team: Team, part: Sequence[Decoded] | None, told: list[dict[str, Any]], source: int) -> dict[int, Any]:
    """The pixels of one process's images, those of each depth in the order in which they were told."""
    arrays = {}
    for depth in sorted({each["depth"] for each in told if each["depth"] is not None}):
        own = None
        if part is not None:
            own = np.stack([each.pixels for each in part if each.pixels is not None and _depth(each) == depth])
        arrays[depth] = iter(team.spread(own, source=source))
    return arrays


def _told(decoded: Decoded) -> dict[str, Any]:
    record = None if decoded.record is None else vars(decoded.record)
    depth = None if decoded.pixels is None else _depth(decoded)
    return {
        "index": decoded.index,
        "record": record,
        "code": decoded.code,
        "detail": decoded.detail,
        "depth": depth,
    }


def _depth(decoded: Decoded) -> int:
    assert decoded.pixels is not None
    return DTYPES.index(decoded.pixels.dtype)


def _heard(told: dict[str, Any], pixels: Any) -> Decoded:
    record = told["record"]
    if record is not None:
        record = DecodeRecord(**{**record, "notes": tuple(record["notes"])})
    return Decoded(told["index"], record, pixels, told["code"], told["detail"])


def _named(ref: ImageRef) -> list[Any]:
    return [str(ref.path.absolute()), ref.member, ref.row, ref.window]


def _ref(named: list[Any]) -> ImageRef:
    path, member, row, window = named
    return ImageRef(Path(path), member, row, window)
