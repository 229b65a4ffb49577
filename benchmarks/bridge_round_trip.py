"""Round trips over loopback: images in by C-STORE, reports and overlays out by C-STORE, each judged by the validators.

    python -m benchmarks.bridge_round_trip [--run RUN]

Without a run a ResNet1d is trained for eight epochs on 180 chest phantoms of 128x128 pixels. The bridge is `plainfilm
bridge` in a process of its own; sender and receiver are pynetdicom's, in this one. The images are 12-bit noise: what
the model says of them does not matter here.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, AllStoragePresentationContexts, evt

import plainfilm
from plainfilm.data.phantoms import PhantomOptions, write_phantoms


class Archive:
    """Keeps what comes, with the time at which it came."""

    def __init__(self) -> None:
        self.stored: list[tuple[float, bytes]] = []
        self.changed = threading.Condition()
        node = AE(ae_title="ARCHIVE")
        for context in AllStoragePresentationContexts:
            node.add_supported_context(str(context.abstract_syntax))
        self.server = node.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._keep)])
        self.port = self.server.server_address[1]

    def _keep(self, event: evt.Event) -> int:
        with self.changed:
            self.stored.append((time.perf_counter(), event.encoded_dataset()))
            self.changed.notify_all()
        return 0

    def wait(self, count: int) -> None:
        """Until so many objects have come."""
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.stored) >= count, timeout=600):
                sys.exit(f"only {len(self.stored)} of {count} results came back")


def image(side: int, seed: int, study: str, series: str) -> Dataset:
    """One 12-bit film."""
    found = Dataset()
    found.SOPClassUID, found.SOPInstanceUID = DigitalXRayImageStorageForPresentation, generate_uid()
    found.StudyInstanceUID, found.SeriesInstanceUID = study, series
    found.PatientID, found.PatientName, found.Modality = "P1", "Phantom", "DX"
    found.Rows = found.Columns = side
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, "MONOCHROME2"
    found.BitsAllocated, found.BitsStored, found.HighBit, found.PixelRepresentation = 16, 12, 11, 0
    found.PixelData = np.random.default_rng(seed).integers(0, 4096, (side, side), dtype=np.uint16).tobytes()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return found


def send(port: int, images: list[Dataset]) -> float:
    """One association; gives when the first byte left."""
    node = AE(ae_title="MODALITY")
    node.add_requested_context(DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian)
    began = time.perf_counter()
    opened = node.associate("127.0.0.1", port, ae_title="PLAINFILM")
    for one in images:
        status = opened.send_c_store(one).get("Status")
        if status != 0:
            sys.exit(f"an image was refused: {status}")
    opened.release()
    return began


def faults(data: bytes) -> int:
    """Lines of the validators that say Error."""
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(data)
        file.flush()
        programs = [["dciodvfy", file.name]]
        if dcmread(BytesIO(data)).Modality == "SR":
            programs.append(["dsrdump", file.name])
        said = [subprocess.run(program, capture_output=True, check=False) for program in programs]
    lines = b"\n".join(done.stdout + done.stderr for done in said).splitlines()
    return sum(line.startswith((b"Error", b"E: ")) for line in lines)


def train(place: Path) -> Path:
    """A run on phantoms."""
    chests = write_phantoms(
        place / "chests", PhantomOptions(kind="chest", patients=60, images_per_patient=3, effect=1.5)
    )
    options = {"image_size": 128, "epochs": 8, "audit": False}
    return plainfilm.train(chests.folder / "manifest.csv", options, output=place / "run").folder


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="a finished run; with heat maps in its report: overlays")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--single", type=int, default=20, help="images sent one by one")
    parser.add_argument("--series", type=int, default=100, help="images sent as one series")
    parser.add_argument("--overlay", action="store_true")
    asked = parser.parse_args()
    archive = Archive()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "spool"
        run = asked.run or train(Path(place))
        flags = ["--port", "0", "--spool", folder, "--peer", f"ARCHIVE@127.0.0.1:{archive.port}", "--quiet"]
        flags += ["--overlay"] if asked.overlay else []
        bridge = subprocess.Popen(
            [sys.executable, "-m", "plainfilm.cli", "bridge", run, *flags], stdout=subprocess.PIPE, text=True
        )
        assert bridge.stdout is not None
        port = int(bridge.stdout.readline().split(":")[1].split()[0])
        each = 2 if asked.overlay else 1
        waits = []
        for number in range(asked.single):
            began = send(port, [image(asked.side, number, generate_uid(), generate_uid())])
            archive.wait(each * (number + 1))
            waits.append(archive.stored[-1][0] - began)
        study, series = generate_uid(), generate_uid()
        images = [image(asked.side, 1000 + number, study, series) for number in range(asked.series)]
        before = len(archive.stored)
        began = send(port, images)
        sent = time.perf_counter()
        archive.wait(before + 1 + (asked.series if asked.overlay else 0))
        ended = archive.stored[-1][0]
        bridge.terminate()
        bridge.wait()
        left = [path for path in folder.rglob("*") if path.is_file()]
    low, middle, high = np.percentile(waits, (5, 50, 95))
    print(
        f"one image at a time, {asked.single}: {middle:.2f} s from association to report (5-95 %: {low:.2f}-{high:.2f})"
    )
    print(
        f"one series of {asked.series}: sent and decoded in {sent - began:.1f} s, answered after {ended - began:.1f} s "
        f"({asked.series / (ended - began):.1f} images/s)"
    )
    print(f"left in the spool: {len(left)} files")
    if shutil.which("dciodvfy") and shutil.which("dsrdump"):
        counts = [faults(data) for _, data in archive.stored]
        print(f"objects that came back: {len(counts)}; lines of dciodvfy and dsrdump that say Error: {sum(counts)}")
    archive.server.shutdown()


if __name__ == "__main__":
    main()
