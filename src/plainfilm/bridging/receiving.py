"""The side that images come in at: a C-STORE and C-ECHO service class provider.

An object is read and decoded while its sender waits for the answer, so that the answer says what became of it. Nothing
of it touches the disk.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from plainfilm.bridging.options import BridgeOptions
from plainfilm.data.dicom.tags import OWN_MANUFACTURER
from plainfilm.dicom_results.sources import SourceImage
from plainfilm.dicom_results.unheard import silence_loggers
from plainfilm.errors import DataError, PlainfilmError, ResourceError

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.events import Event

SUCCESS, OUT_OF_RESOURCES, DOES_NOT_MATCH, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000
MOST_PDU = 1 << 20  # bytes of one unit on the wire
OUR_PDU = 1 << 17  # what we tell senders to use
MOST_COMMAND = 1 << 16  # bytes of the words around an object
FAR_TOO_LARGE = 8  # times the limit: the sender is cut off instead of being heard out
SILENCE = 60.0  # seconds
GREETING = 10.0  # seconds within which a sender says who it is: until then it takes up one of the few places
PDU_SECONDS = 60.0  # for one unit, however slowly its bytes drip

# Uncompressed, and the compressions that the permissive decoders read. Not deflated: it may unpack to anything.
SYNTAXES = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.5",
)


class Admitted:
    """An image that was let in.

    Attributes:
        source: Its header.
        image: What the door made of its pixels.
    """

    def __init__(self, source: SourceImage, image: Any) -> None:
        self.source, self.image = source, image


Door = Callable[[bytes], Admitted]


class _Sender:
    """What one association has sent so far."""

    def __init__(self) -> None:
        self.object_bytes = 0
        self.command_bytes = 0
        self.admitted: list[Admitted] = []
        self.patient_of: dict[str, tuple[str, ...]] = {}
        self.refused: Counter[str] = Counter()
        self.has_released = False
        self.is_cut_off = False


class Receiver:
    """Listens, lets images in one by one, and hands them on when their sender has finished.

    Args:
        options: Where, and how much is borne.
        door: Reads and decodes one object, or says by a `PlainfilmError` why not.
        deliver: Given the images of one association, and how many were refused for each reason.
    """

    def __init__(
        self, options: BridgeOptions, door: Door, deliver: Callable[[list[Admitted], Counter[str]], None]
    ) -> None:
        self._options, self._door, self._deliver = options, door, deliver
        self._senders: dict[Association, _Sender] = {}
        self._lock = threading.Lock()
        self._waiting = 0
        self._limit = options.most_megabytes << 20
        self._server: Any = None
        self._closing = False

    def start(self) -> tuple[str, int]:
        """Listen; gives the address.

        Raises:
            ResourceError: `RES_PORT` if the port is taken or may not be used.
        """
        from pynetdicom import AE, evt
        from pynetdicom.presentation import AllStoragePresentationContexts
        from pynetdicom.sop_class import Verification  # type: ignore[attr-defined, unused-ignore]

        silence_loggers()
        ae = AE(ae_title=self._options.ae_title)
        ae.require_called_aet = True
        ae.require_calling_aet = list(self._options.calling_ae)
        ae.maximum_associations = self._options.most_associations
        ae.maximum_pdu_size = OUR_PDU
        ae.acse_timeout = GREETING
        ae.dimse_timeout = ae.network_timeout = SILENCE
        ae.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            uid = context.abstract_syntax
            if uid is not None and "Image" in uid.name:
                ae.add_supported_context(uid, list(SYNTAXES))
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_PDU_RECV, self._heard),
            (evt.EVT_C_ECHO, lambda event: SUCCESS),
            (evt.EVT_C_STORE, self._stored),
            (evt.EVT_RELEASED, self._finished),
            (evt.EVT_CONN_CLOSE, self._finished),
        ]
        try:
            self._server = ae.start_server((self._options.host, self._options.port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise ResourceError(
                f"Port {self._options.port} of {self._options.host} cannot be listened on: {error.strerror}. Choose "
                "another --port.",
                code="RES_PORT",
            ) from None
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def close(self, *, seconds: float) -> None:
        """Let nobody in any more, give those who are sending so long to finish, then cut them off."""
        self._closing = True
        if self._server is None:
            return
        deadline = time.monotonic() + seconds
        while self._server.active_associations and time.monotonic() < deadline:
            time.sleep(0.05)
        for association in self._server.active_associations:
            association.abort()
        self._server.shutdown()
        self._server = None

    def classified(self, count: int) -> None:
        """So many images no longer wait."""
        with self._lock:
            self._waiting -= count

    # --- one association ------------------------------------------------------------------------------------

    def _opened(self, event: Event) -> None:
        sender = _Sender()
        with self._lock:
            self._senders[event.assoc] = sender
        if event.assoc.dul.socket is not None:
            bound_reads(event.assoc.dul.socket, lambda: sender.is_cut_off)

    def _heard(self, event: Event) -> None:
        """Count what comes, and drop what goes past the limits as it comes: an object never takes more memory."""
        sender = self._senders.get(event.assoc)
        if sender is None:
            return
        sender.has_released |= type(event.pdu).__name__ == "A_RELEASE_RQ"
        for item in getattr(event.pdu, "presentation_data_value_items", ()):
            data = item.presentation_data_value
            if not data:
                continue
            if data[0] & 1:
                sender.command_bytes += len(data) - 1
                sender.object_bytes = 0
            else:
                sender.command_bytes = 0
                sender.object_bytes += len(data) - 1
            if sender.object_bytes > self._limit:
                item.presentation_data_value = data[:1]
            if sender.command_bytes > MOST_COMMAND or sender.object_bytes > FAR_TOO_LARGE * self._limit:
                item.presentation_data_value = data[:1]
                sender.is_cut_off = True

    def _stored(self, event: Event) -> Any:
        """Answer one C-STORE."""
        from pydicom import Dataset

        sender = self._senders.get(event.assoc)
        status, code = OUT_OF_RESOURCES, "BRG_CLOSING"
        if sender is not None:
            try:
                self._admit(event, sender)
                return SUCCESS
            except PlainfilmError as error:
                status, code = _STATUS.get(error.code, CANNOT_UNDERSTAND), error.code
            except Exception as error:  # whatever an object does, the bridge goes on
                status, code = CANNOT_UNDERSTAND, f"INTERNAL {type(error).__name__}"
            sender.refused[code] += 1
        answer = Dataset()
        answer.Status = status
        answer.ErrorComment = code[:64]
        return answer

    def _admit(self, event: Event, sender: _Sender) -> None:
        if self._closing:
            raise ResourceError("stopping.", code="BRG_CLOSING")
        if sender.object_bytes > self._limit:
            raise ResourceError("the object is too large.", code="BRG_TOO_LARGE")
        with self._lock:
            if self._waiting >= self._options.most_images:
                raise ResourceError("too many images wait.", code="BRG_FULL")
            self._waiting += 1
        try:
            admitted = self._door(event.encoded_dataset())
            self._check(event, sender, admitted.source)
        except BaseException:
            self.classified(1)
            raise
        sender.admitted.append(admitted)

    def _check(self, event: Event, sender: _Sender, source: SourceImage) -> None:
        request: Any = event.request
        if source.instance != (str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)):
            raise DataError("the object is not the one that was announced.", code="BRG_MISMATCH")
        if str(source.header.get("Manufacturer")) == OWN_MANUFACTURER:
            raise DataError("a picture that plainfilm made.", code="SKIP_DERIVED")
        study = source.series[0]
        if sender.patient_of.setdefault(study, source.patient) != source.patient:
            raise DataError("images of one study name different patients.", code="SRC_MIXED_PATIENTS")

    def _finished(self, event: Event) -> None:
        """The sender has released the association, or its connection is gone: whichever is noticed first.

        What a sender sent that did not release is dropped: it will send all again.
        """
        with self._lock:
            sender = self._senders.pop(event.assoc, None)
        if sender is None:
            return
        if not sender.has_released:
            self.classified(len(sender.admitted))
            sender.refused["BRG_ABORTED"] += len(sender.admitted)
            sender.admitted = []
        if sender.admitted or sender.refused.total():
            self._deliver(sender.admitted, +sender.refused)


_STATUS = {
    "BRG_CLOSING": OUT_OF_RESOURCES,
    "BRG_TOO_LARGE": OUT_OF_RESOURCES,
    "BRG_FULL": OUT_OF_RESOURCES,
    "RES_WORKER": OUT_OF_RESOURCES,
    "BRG_MISMATCH": DOES_NOT_MATCH,
    "SRC_MIXED_PATIENTS": DOES_NOT_MATCH,
    "SRC_NO_UID": DOES_NOT_MATCH,
}


def bound_reads(connection: Any, is_cut_off: Callable[[], bool]) -> None:
    """Let a connection read no unit of more than `MOST_PDU` bytes, and none that takes longer than `PDU_SECONDS`.

    pynetdicom believes the length that a sender declares, up to 4 GiB, and waits for it for ever.

    Args:
        connection: A socket as pynetdicom wraps it.
        is_cut_off: Whether nothing more is to be read.
    """

    def recv(count: int) -> bytearray:
        if count > MOST_PDU or is_cut_off():
            raise OSError("nothing more is read")
        raw: socket.socket = connection.socket
        deadline = time.monotonic() + PDU_SECONDS
        data = bytearray()
        while len(data) < count:
            raw.settimeout(max(0.001, deadline - time.monotonic()))
            part = raw.recv(min(count - len(data), 1 << 16))
            if not part:
                break
            data += part
        return data

    connection.recv = recv
