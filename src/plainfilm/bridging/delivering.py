"""Sending reports: by C-STORE or STOW-RS, as often as it takes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from plainfilm.bridging.addresses import Peer, parse_peer
from plainfilm.bridging.options import BridgeOptions
from plainfilm.bridging.spool import Spool
from plainfilm.dicom_results.unheard import unheard

if TYPE_CHECKING:
    from pydicom import Dataset

LONGEST_WAIT = 300.0  # seconds between two attempts
TIMEOUT = 30.0  # seconds of silence from a receiver
OUT_OF_RESOURCES = range(0xA700, 0xA800)
WARNINGS = range(0xB000, 0xC000)

Outcome = Literal["sent", "again", "refused"]


class Sender(Protocol):
    """One way to a receiver."""

    def send(self, dataset: Dataset) -> Outcome:
        """Try once."""
        ...


class StoreSender:
    """Sends by C-STORE.

    Args:
        title: Our own.
        peer: The receiver.
    """

    def __init__(self, title: str, peer: Peer) -> None:
        from pynetdicom import AE

        self._peer = peer
        self._ae = AE(ae_title=title)
        self._ae.acse_timeout = self._ae.dimse_timeout = self._ae.network_timeout = TIMEOUT
        self._ae.connection_timeout = TIMEOUT

    def send(self, dataset: Dataset) -> Outcome:
        """See `Sender`; a warning of the receiver (Bxxx) means that it has stored the object."""
        from pynetdicom import build_context

        context = build_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        association = self._ae.associate(
            self._peer.host, self._peer.port, contexts=[context], ae_title=self._peer.title
        )
        if not association.is_established:
            # A receiver that is there and takes no reports will not take them later either.
            return "refused" if association.rejected_contexts else "again"
        try:
            answer = association.send_c_store(dataset)
        except ValueError:  # no context for this class was accepted
            return "refused"
        finally:
            association.release() if association.is_established else association.abort()
        status = answer.get("Status")
        if status is None or status in OUT_OF_RESOURCES:
            return "again"
        return "sent" if status == 0 or status in WARNINGS else "refused"


class StowSender:
    """Sends by STOW-RS.

    Args:
        url: The DICOMweb service.
    """

    def __init__(self, url: str) -> None:
        from dicomweb_client import DICOMwebClient
        from requests import Session

        session = Session()
        session.trust_env = False  # no proxy, no .netrc: what leaves goes where it was told to and nowhere else
        session.max_redirects = 0
        session.mount("http://", _OneAnswer())
        session.mount("https://", _OneAnswer())
        self._client = DICOMwebClient(url, session=session)
        self._client.set_http_retry_params(retry=False)

    def send(self, dataset: Dataset) -> Outcome:
        """See `Sender`."""
        from requests import RequestException

        try:
            answer = self._client.store_instances([dataset])
        except RequestException as error:
            status = None if error.response is None else error.response.status_code
            is_final = status is not None and 300 <= status < 500 and status not in (408, 425, 429)
            return "refused" if is_final else "again"
        return "refused" if answer.get("FailedSOPSequence") else "sent"


def _OneAnswer() -> Any:  # noqa: N802 - makes an adapter, as the class would
    from requests.adapters import HTTPAdapter

    class OneAnswer(HTTPAdapter):
        """Waits only so long for an answer."""

        def send(self, *arguments: Any, **options: Any) -> Any:
            return super().send(*arguments, **{**options, "timeout": TIMEOUT})

    return OneAnswer()


def sender_for(options: BridgeOptions) -> Sender:
    """The way to the receiver that the options name."""
    if options.stow is not None:
        return StowSender(options.stow)
    assert options.peer is not None
    return StoreSender(options.ae_title, parse_peer(options.peer))


class Courier:
    """A thread that sends what is in the spool, and keeps at it.

    Args:
        spool: What to send.
        sender: How.
        retry_seconds: First wait after a failure.
        say: Told, in words without patients, when something has become of a report.
    """

    def __init__(self, spool: Spool, sender: Sender, *, retry_seconds: float, say: Callable[[str], None]) -> None:
        self._spool, self._sender, self._retry, self._say = spool, sender, retry_seconds, say
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="plainfilm-courier")

    def start(self) -> None:
        """Begin with what an earlier bridge left."""
        self._thread.start()

    def close(self, *, seconds: float) -> None:
        """Try once more what is waiting, then stop; the rest stays in the spool."""
        self._stop.set()
        self._spool.changed.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        wait = self._retry
        while True:
            self._spool.changed.clear()
            is_last = self._stop.is_set()
            all_gone = self._send_all()
            if is_last:
                return
            if all_gone:
                wait = self._retry
                self._spool.changed.wait()
            else:
                self._stop.wait(wait)
                wait = min(2 * wait, LONGEST_WAIT)

    def _send_all(self) -> bool:
        """Whether nothing is left; the first that must wait ends the round, since the others go the same way."""
        counts = {"sent": 0, "refused": 0}
        left = False
        for path in self._spool.waiting():
            outcome = self._attempt(path)
            if outcome == "again":
                left = True
                break
            self._spool.sent(path) if outcome == "sent" else self._spool.refuse(path)
            counts[outcome] += 1
        said = [f"{count} {what}" for what, count in counts.items() if count]
        if left:
            said.append(f"{len(self._spool.waiting())} wait for the receiver")
        if said:
            self._say(f"results: {', '.join(said)}")
        return not left

    def _attempt(self, path: Path) -> Outcome:
        from pydicom import dcmread

        try:
            with unheard():
                dataset = dcmread(BytesIO(path.read_bytes()))
                return self._sender.send(dataset)
        except OSError:
            return "again"
        except Exception as error:  # a receiver may answer with anything
            self._say(f"a result could not be sent ({type(error).__name__})")
            return "again"
