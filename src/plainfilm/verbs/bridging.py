"""A DICOM node that answers: images in by C-STORE, reports out by C-STORE or STOW-RS."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from plainfilm.bridging.options import BridgeOptions
from plainfilm.dicom_results.options import DicomResultOptions
from plainfilm.errors import ImageError
from plainfilm.progress import Progress, Silent
from plainfilm.storage import locked
from plainfilm.verbs.answering import ResultMaker
from plainfilm.verbs.overlaying import HeatPainter
from plainfilm.verbs.predicting import Predictor

if TYPE_CHECKING:
    from plainfilm.bridging.receiving import Admitted
    from plainfilm.data.decoders import DecoderPool
    from plainfilm.data.messages import Decoded

VIEW_SIDE = 768  # pixels of the longer side of an image that an overlay is drawn on


def bridge(
    run: str | Path,
    options: BridgeOptions | None = None,
    *,
    dicom: DicomResultOptions | None = None,
    workers: int = 1,
    device: str = "auto",
    ready: Callable[[str, int], None] | None = None,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
) -> None:
    """Listen for DICOM images, classify them, send a report of each series; until `stop` is set, or Ctrl-C.

    Nothing of an image touches the disk. Reports wait in the spool until they have arrived.

    Args:
        run: A run's folder, or a bundle's.
        options: Where to listen, and whom to answer.
        dicom: What results are; with `overlay` the run must hold a verdict of the randomisation check.
        workers: Decoding processes.
        device: Where to compute.
        ready: Called with address and port as soon as images can come.
        stop: Ends the bridge when set.
        progress: Told what comes and goes, without patients.

    Raises:
        UsageError: `BRG_...` or `MISSING_EXTRA`; `XAI_...` for an overlay of a model that was not checked.
        ResourceError: `RES_PORT` or `RES_LOCKED`.
    """
    from plainfilm.bridging.delivering import sender_for
    from plainfilm.bridging.running import Bridge, check_bridge
    from plainfilm.data.decoders import DecoderPool
    from plainfilm.data.images import ImageLimits
    from plainfilm.data.workers import Job

    options, dicom, progress = options or BridgeOptions(), dicom or DicomResultOptions(), progress or Silent()
    check_bridge(options)
    predictor = Predictor.load(Path(run), device=device)
    maker = ResultMaker.of(predictor, dicom)
    painter = HeatPainter.of(Path(run), predictor, None) if dicom.overlay else None
    preprocessing = predictor.config.preprocessing
    size = (preprocessing.height, preprocessing.width)
    job = Job(ImageLimits(), size, preprocessing.fit, preprocessing.resample, "grey", preprocessing.window)
    with locked(options.spool), DecoderPool(job, max(1, workers)) as pool:
        door = _Door(pool, None if painter is None else VIEW_SIDE)
        answerer = _Answerer(maker, painter)
        with Bridge(options, door.admit, answerer.answer, sender_for(options), progress.say) as running:
            if ready is not None:
                ready(*running.address)
            (stop or threading.Event()).wait()


class _Door:
    """Decodes objects in processes that can be killed; only what they have read is read here."""

    def __init__(self, pool: DecoderPool, view_side: int | None) -> None:
        self._pool, self._view_side = pool, view_side

    def admit(self, data: bytes) -> Admitted:
        from plainfilm.bridging.receiving import Admitted
        from plainfilm.dicom_results.sources import read_source

        decoded = self._pool.decode(data, view_side=self._view_side)
        if decoded.pixels is None:
            raise ImageError(decoded.detail, code=decoded.code)
        return Admitted(read_source(data), decoded)


class _Answerer:
    """The answers about the images of one association, as files."""

    def __init__(self, maker: ResultMaker, painter: HeatPainter | None) -> None:
        self._maker, self._painter = maker, painter

    def answer(self, images: list[Admitted]) -> Iterator[bytes]:
        from plainfilm.data.images import ImageRef
        from plainfilm.data.pixels import PixelStore
        from plainfilm.data.table import Table, make_rows
        from plainfilm.dicom_results.header import as_file

        decoded: list[Decoded] = [image.image for image in images]
        preprocessing = self._maker.predictor.config.preprocessing
        pixels = PixelStore(len(images), preprocessing.height, preprocessing.width)
        facts = []
        for index, one in enumerate(decoded):
            assert one.record is not None
            assert one.pixels is not None
            pixels.put(index, one.pixels)
            size = {"bits": one.record.bits, "width": one.record.width, "height": one.record.height}
            facts.append({"path": f"image {index + 1}", **size})
        table = Table(make_rows(facts), (ImageRef(Path()),) * len(images))
        predictions = self._maker.predictor.predict(table, pixels)
        views = {index: one.view for index, one in enumerate(decoded) if one.view is not None}
        sources = [image.source for image in images]
        for result in self._maker.results(sources, predictions, pixels, painter=self._painter, views=views):
            yield as_file(result.dataset)
