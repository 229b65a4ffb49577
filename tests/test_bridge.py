"""The bridge: images in by C-STORE, reports out by C-STORE or STOW-RS, and nothing that a sender does stops it."""

import gc
import logging
import signal
import socket
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import CTImageStorage

from bridge_peers import (
    CLASSES,
    Archive,
    Running,
    WebArchive,
    association,
    echoes,
    free_port,
    program,
    send,
    until,
    write_tiny_bundle,
)
from dicom_sources import dicom_dataset, faults_of, picture
from plainfilm.bridging.addresses import check_service, parse_peer
from plainfilm.bridging.options import BridgeOptions
from plainfilm.bridging.running import check_bridge
from plainfilm.dicom_results.header import new_uid
from plainfilm.dicom_results.reading import read_result
from plainfilm.errors import ResourceError, UsageError
from small_runs import start

# pynetdicom leaves some sockets of its own to the garbage collector, which complains; that none are left for good has
# a test below.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

REPORT = "1.2.840.10008.5.1.4.1.1.88.22"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="module")
def archive():
    with Archive() as opened:
        yield opened


@pytest.fixture(scope="module")
def bridge(bundle, archive, tmp_path_factory):
    """One bridge for all that is done to it."""
    with Running(bundle, tmp_path_factory.mktemp("bridge") / "spool", peer=archive.peer, most_megabytes=1) as running:
        yield running


def series(count: int, **elements):
    """Images of one series."""
    ids = {"StudyInstanceUID": new_uid(None), "SeriesInstanceUID": new_uid(None)}
    return [dicom_dataset(picture(seed=number), **ids, **elements) for number in range(count)]


def reports_about(archive, dataset):
    return [one for one in archive.stored if one.StudyInstanceUID == dataset.StudyInstanceUID]


# --- in and out ---------------------------------------------------------------------------------------------


def test_a_report_comes_back_about_the_images_that_were_sent(bridge, archive, tmp_path):
    sent = series(3)

    assert send(bridge, *sent) == [(0, "")] * 3

    (report,) = until(lambda: reports_about(archive, sent[0]))
    path = tmp_path / "report.dcm"
    report.save_as(path)
    found = read_result(path)
    assert [image.sop_instance_uid for image in found.images] == [image.SOPInstanceUID for image in sent]
    assert found.images[0].answer.classes == CLASSES
    assert found.model == "plainfilm resnet1d"
    assert (report.PatientName, report.PatientID) == ("Doe^Jane", "000123")
    assert faults_of(path) == []
    until(lambda: not bridge.waiting())


def test_what_the_bridge_answers_is_what_predict_says(bridge, archive, bundle, tmp_path):
    from plainfilm import verbs
    from plainfilm.verbs.answering import ResultMaker, read_sources  # noqa: F401 - they make both

    (sent,) = series(1)
    (tmp_path / "images").mkdir()
    sent.save_as(tmp_path / "images" / "a.dcm", enforce_file_format=True)

    send(bridge, sent)
    predictions, _ = verbs.predict(
        bundle, tmp_path / "images", dicom_output=tmp_path / "results", workers=0, device="cpu"
    )

    (report,) = until(lambda: reports_about(archive, sent))
    report.save_as(tmp_path / "report.dcm")
    (image,) = read_result(tmp_path / "report.dcm").images
    (written,) = read_result(tmp_path / "results" / "report-00001.dcm").images
    assert image.answer.scores == written.answer.scores == tuple(predictions.scores[0])
    assert image.comment == written.comment


def test_two_series_and_two_patients_in_one_association_get_a_report_each(bridge, archive):
    first, second = series(1), series(1, PatientID="other", PatientName="Other")

    send(bridge, *first, *second)

    reports = [until(lambda one=one: reports_about(archive, one))[0] for one in (first[0], second[0])]
    assert [report.PatientID for report in reports] == ["000123", "other"]


def test_the_bridge_answers_an_echo(bridge):
    assert echoes(bridge)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
def test_programs_of_dcmtk_send_and_receive(bundle, tmp_path, syntax):
    port = free_port()
    (tmp_path / "received").mkdir()
    receiver = subprocess.Popen(
        [program("storescp"), "--aetitle", "STORESCP", "-od", str(tmp_path / "received"), "+xe", str(port)]
    )
    try:
        with Running(bundle, tmp_path / "spool", peer=f"STORESCP@127.0.0.1:{port}") as running:
            images = series(2)
            paths = []
            for number, image in enumerate(images):
                paths.append(tmp_path / f"{number}.dcm")
                image.save_as(paths[-1], enforce_file_format=True)
            proposed = "-xi" if syntax.endswith(".1.2") else "-xe"
            done = subprocess.run(
                [program("storescu"), proposed, "-aet", "STORESCU", "-aec", "PLAINFILM", "127.0.0.1",
                 str(running.port), *map(str, paths)],
                capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            (received,) = until(lambda: list((tmp_path / "received").iterdir()))
            until(lambda: not running.waiting())
    finally:
        receiver.terminate()
        receiver.wait()

    assert [image.sop_instance_uid for image in read_result(received).images] == [
        image.SOPInstanceUID for image in images
    ]
    assert faults_of(received) == []


def test_overlays_come_too_where_the_run_keeps_the_verdict(bundle, archive, tmp_path):
    import json
    import shutil

    from plainfilm.dicom_results.options import DicomResultOptions
    from plainfilm.errors import DataError

    overlay = DicomResultOptions(overlay=True)
    with pytest.raises(DataError) as caught, Running(bundle, tmp_path / "a", overlay):
        pass
    assert caught.value.code == "XAI_UNCHECKED"
    run = tmp_path / "run"
    shutil.copytree(bundle, run / "bundle")
    (run / "examples").mkdir()
    verdict = {"method": "Grad-CAM", "verdict": "passed", "sentence": "passed: 0.1"}
    (run / "examples" / "heat.json").write_text(json.dumps(verdict))
    sent = series(2)

    with Running(run, tmp_path / "b", overlay, peer=archive.peer) as running:
        send(running, *sent)
        until(lambda: len(reports_about(archive, sent[0])) == 3)

    captures = [one for one in reports_about(archive, sent[0]) if one.Modality == "OT"]
    assert {one.SourceImageSequence[0].ReferencedSOPInstanceUID for one in captures} == {
        one.SOPInstanceUID for one in sent
    }
    assert len({one.SeriesInstanceUID for one in captures}) == 1
    assert send_to(archive, tmp_path, run, captures[0]) == (0xC000, "SKIP_DERIVED")


def send_to(archive, tmp_path, run, dataset):
    """The answer of a bridge that is sent what a bridge has made."""
    with Running(run, tmp_path / "c", peer=archive.peer) as running:
        return send(running, dataset)[0]


# --- what senders do ----------------------------------------------------------------------------------------


def test_objects_that_cannot_be_answered_are_refused_and_the_others_are_not(bridge, archive):
    good = series(1)[0]
    study = {"StudyInstanceUID": new_uid(None)}
    patients = [dicom_dataset(**study, PatientID=patient) for patient in ("1", "2")]
    no_pixels = dicom_dataset(PixelData=None)
    too_large = dicom_dataset(np.zeros((1024, 1024), np.uint16) + np.arange(1024, dtype=np.uint16))
    short = dicom_dataset()
    short.PixelData = short.PixelData[:100]
    frames = dicom_dataset(np.stack([picture(seed=number) for number in range(3)]))
    unnamed = dicom_dataset(SeriesInstanceUID="")

    answers = send(bridge, no_pixels, *patients, too_large, short, frames, unnamed, good)

    statuses = [status for status, _ in answers]
    comments = [comment for _, comment in answers]
    assert statuses == [0xC000, 0, 0xA900, 0xA700, 0xC000, 0xC000, 0xA900, 0]
    assert comments[0] == "DCM_NO_PIXELS"
    assert comments[2:4] == ["SRC_MIXED_PATIENTS", "BRG_TOO_LARGE"]
    assert comments[4].startswith("DCM_")
    assert comments[5:] == ["IMG_MULTIFRAME", "SRC_NO_UID", ""]
    assert until(lambda: reports_about(archive, good))
    assert until(lambda: reports_about(archive, patients[0]))[0].PatientID == "1"
    assert echoes(bridge)


def test_an_object_that_is_not_the_one_announced_is_refused(bridge):
    image = series(1)[0]
    with association(bridge, CTImageStorage) as opened:
        from pynetdicom.dimse_primitives import C_STORE

        request = C_STORE()
        request.MessageID = 1
        request.AffectedSOPClassUID = CTImageStorage
        request.AffectedSOPInstanceUID = "1.2.3"
        request.Priority = 2
        from io import BytesIO

        from pynetdicom.dsutils import encode

        request.DataSet = BytesIO(encode(image, False, True))
        context = next(one for one in opened.accepted_contexts if one.abstract_syntax == CTImageStorage)
        opened._reactor_checkpoint.clear()  # the answer is for us, not for the thread that waits for releases
        opened.dimse.send_msg(request, context.context_id)
        _, answer = opened.dimse.get_msg(block=True)
        opened._reactor_checkpoint.set()

    assert answer.Status == 0xA900
    assert echoes(bridge)


def test_what_does_not_end_is_cut_off(bridge):
    huge = dicom_dataset()
    huge.PixelData = bytes(16 << 20)
    with association(bridge, CTImageStorage) as opened:
        answer = opened.send_c_store(huge)
        assert "Status" not in answer
    assert until(lambda: echoes(bridge))


@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">BBL", 4, 0, 0xFFFFFFF0) + bytes(100_000),  # a unit of 4 GiB, it says
        struct.pack(">BBL", 1, 0, 70) + bytes(70),
        struct.pack(">BBL", 99, 0, 10) + bytes(10),
    ],
)
def test_who_does_not_speak_dicom_does_no_harm(bridge, words):
    with socket.create_connection(("127.0.0.1", bridge.port), timeout=30) as connection:
        connection.sendall(words)
        connection.shutdown(socket.SHUT_WR)
        try:
            while connection.recv(4096):
                pass
        except OSError:
            pass

    assert until(lambda: echoes(bridge))


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="files that are open are counted on Linux")
def test_senders_that_come_and_go_leave_nothing_open(bridge):
    def count() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    until(lambda: echoes(bridge))
    before = count()
    for _ in range(8):
        until(lambda: echoes(bridge))
        with socket.create_connection(("127.0.0.1", bridge.port), timeout=30) as connection:
            connection.sendall(b"hello")

    until(lambda: count() <= before + 2)


def test_images_of_a_sender_that_breaks_off_are_dropped(bridge, archive):
    sent = series(2)
    until(lambda: echoes(bridge))
    with association(bridge, CTImageStorage) as opened:
        assert opened.send_c_store(sent[0]).Status == 0
        opened.abort()
    until(lambda: any("BRG_ABORTED" in said for said in bridge.heard.said))

    other = series(1)
    send(bridge, *other)
    until(lambda: reports_about(archive, other[0]))
    assert not reports_about(archive, sent[0])


def test_reports_are_not_taken_for_images(bridge):
    with association(bridge, REPORT) as opened:
        assert REPORT not in {context.abstract_syntax for context in opened.accepted_contexts}


def test_a_bridge_is_called_by_its_name_and_lets_in_whom_it_knows(bundle, bridge, archive, tmp_path):
    with association(bridge, called="OTHER") as opened:
        assert opened.is_rejected
    with Running(bundle, tmp_path / "spool", peer=archive.peer, calling_ae=("CT1",)) as running:
        with association(running, calling="CT2") as opened:
            assert opened.is_rejected
        with association(running, calling="CT1") as opened:
            assert opened.is_established


def test_too_many_images_are_told_to_come_again(bundle, archive, tmp_path):
    sent = series(3)
    with Running(bundle, tmp_path / "spool", peer=archive.peer, most_images=2) as running:
        assert send(running, *sent) == [(0, ""), (0, ""), (0xA700, "BRG_FULL")]
        until(lambda: reports_about(archive, sent[0]))
        until(lambda: send(running, *series(1)) == [(0, "")])


# --- what receivers do --------------------------------------------------------------------------------------


def test_reports_wait_for_a_receiver_that_is_away_and_outlive_the_bridge(bundle, tmp_path):
    port = free_port()
    first, second = series(1), series(1)
    with Running(bundle, tmp_path / "spool", peer=f"ARCHIVE@127.0.0.1:{port}") as running:
        send(running, *first)
        until(running.waiting)
    assert len(running.waiting()) == 1
    assert any("stay in the spool" in said for said in running.heard.said)

    with Running(bundle, tmp_path / "spool", peer=f"ARCHIVE@127.0.0.1:{port}") as running:
        send(running, *second)
        until(lambda: len(running.waiting()) == 2)
        with Archive(port) as late:
            until(lambda: len(late.stored) == 2)
            until(lambda: not running.waiting())

    assert [one.StudyInstanceUID for one in late.stored] == [first[0].StudyInstanceUID, second[0].StudyInstanceUID]


def test_what_a_receiver_will_never_take_is_laid_aside(bundle, tmp_path):
    with Archive(status=0xA900) as strict, Running(bundle, tmp_path / "spool", peer=strict.peer) as running:
        send(running, *series(1))
        until(lambda: list((tmp_path / "spool" / "refused").glob("*.dcm")))
        assert not running.waiting()


def test_a_full_receiver_is_asked_again(bundle, tmp_path):
    with Archive(status=0xA700) as full, Running(bundle, tmp_path / "spool", peer=full.peer) as running:
        send(running, *series(1))
        until(running.waiting)
        full.status = 0
        until(lambda: full.stored)


def test_reports_go_to_a_dicomweb_service(bundle, tmp_path):
    sent = series(2)
    with (
        WebArchive(statuses=(503, 200)) as web,
        Running(bundle, tmp_path / "spool", peer=None, stow=web.url) as running,
    ):
        send(running, *sent)
        until(lambda: web.stored)
        until(lambda: not running.waiting())

    assert web.paths == ["/dicom-web/studies"] * 2
    (report,) = web.stored
    assert report.StudyInstanceUID == sent[0].StudyInstanceUID
    assert report.Modality == "SR"


@pytest.mark.parametrize(("statuses", "failed"), [((409,), False), ((307,), False), ((202,), True)])
def test_a_service_that_refuses_or_sends_elsewhere_gets_it_once(bundle, tmp_path, statuses, failed):
    with WebArchive(statuses, failed) as web, Running(bundle, tmp_path / "spool", peer=None, stow=web.url) as running:
        send(running, *series(1))
        until(lambda: list((tmp_path / "spool" / "refused").glob("*.dcm")))

    assert web.paths == ["/dicom-web/studies"]


# --- addresses and options ----------------------------------------------------------------------------------


def code_of(call) -> str:
    with pytest.raises(UsageError) as caught:
        call()
    return caught.value.code


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "hospital.example", "127.0.0.1.example"])
def test_other_addresses_than_this_machine_need_to_be_allowed(host):
    peer = "ARCHIVE@127.0.0.1:104"
    far = f"ARCHIVE@[{host}]:104" if ":" in host else f"ARCHIVE@{host}:104"

    assert code_of(lambda: check_bridge(BridgeOptions(host=host, peer=peer))) == "BRG_REMOTE"
    assert code_of(lambda: check_bridge(BridgeOptions(host=host, peer=peer, allow_remote=True))) == "BRG_REMOTE"
    assert code_of(lambda: check_bridge(BridgeOptions(peer=far))) == "BRG_REMOTE"
    assert code_of(lambda: check_bridge(BridgeOptions(stow=f"http://{far[8:-4]}:80/x"))) == "BRG_REMOTE"
    check_bridge(BridgeOptions(host=host, peer=far, allow_remote=True, calling_ae=("CT1",)))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.10"])
def test_addresses_of_this_machine_need_nothing(host):
    shown = f"[{host}]" if ":" in host else host
    check_bridge(BridgeOptions(host=host, peer=f"ARCHIVE@{shown}:104"))
    check_bridge(BridgeOptions(host=host, stow=f"https://{shown}:8042/dicom-web"))


def test_one_receiver_is_named():
    assert code_of(lambda: check_bridge(BridgeOptions())) == "BRG_NO_RECEIVER"
    both = BridgeOptions(peer="A@127.0.0.1:104", stow="http://127.0.0.1/")
    assert code_of(lambda: check_bridge(both)) == "BRG_NO_RECEIVER"


@pytest.mark.parametrize(
    "text",
    ["", "A", "A@b", "A@b:0", "A@b:99999", "@b:1", "A@b:x", "A@b c:1", "seventeen letters@b:1", "A\\B@b:1", "Ä@b:1"],
)
def test_a_peer_that_cannot_be_is_refused(text):
    assert code_of(lambda: parse_peer(text)) in ("BRG_PEER", "BRG_TITLE")
    with pytest.raises(ValueError, match=r"AE title|a peer is"):
        BridgeOptions(peer=text)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1",
        "ftp://127.0.0.1/",
        "http://",
        "http://me:secret@127.0.0.1/",
        "http://127.0.0.1/?a=b",
        "http://[::1",
    ],
)
def test_an_address_of_a_service_that_cannot_be_is_refused(url):
    assert code_of(lambda: check_service(url)) == "BRG_STOW"


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr("plainfilm.bridging.running.find_spec", lambda name: None)

    with pytest.raises(UsageError, match=r"pip install 'plainfilm\[dicom\]'") as caught:
        check_bridge(BridgeOptions(peer="A@127.0.0.1:104"))
    assert caught.value.code == "MISSING_EXTRA"


def test_a_port_that_is_taken_and_a_spool_in_use_are_told(bundle, bridge, tmp_path):
    with pytest.raises(ResourceError) as caught, Running(bundle, tmp_path / "spool", port=bridge.port):
        pass
    assert caught.value.code == "RES_PORT"
    with pytest.raises(ResourceError) as caught, Running(bundle, bridge.spool):
        pass
    assert caught.value.code == "RES_LOCKED"


# --- as a program -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.long)]
)
def test_the_program_says_where_it_listens_and_stops_when_told(bundle, archive, tmp_path, number, status):
    spool = tmp_path / "spool"
    process = start("bridge", bundle, "--port", 0, "--peer", archive.peer, "--spool", spool, "--device", "cpu")
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on 127.0.0.1:"), process.stderr.read()
        sent = series(1)
        bridge = type("Program", (), {"port": int(line.split(":")[1].split()[0])})
        assert send(bridge, *sent) == [(0, "")]
        until(lambda: reports_about(archive, sent[0]))
        process.send_signal(number)
        _, said = process.communicate(timeout=90)
    finally:
        process.kill()

    assert process.returncode == status, said
    assert "received 1 images" in said
    assert "[INTERRUPTED]" in said
    assert not [path for path in spool.rglob("*") if path.is_file()]


# --- patients -----------------------------------------------------------------------------------------------

NAMES = ["PatientName", "PatientID", "IssuerOfPatientID", "OtherPatientNames", "PatientAddress", "PatientComments",
         "PatientMotherBirthName", "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName",
         "SeriesDescription", "ProtocolName", "InstitutionName", "StationName", "OperatorsName", "ImageComments",
         "RequestingPhysician", "PerformingPhysicianName", "DeviceSerialNumber"]  # fmt: skip


def test_nothing_that_names_a_patient_is_logged_said_or_left(bundle, tmp_path, caplog, capfd, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    canaries = {name: f"CANARY{number:02d}" for number, name in enumerate(NAMES)}
    good = dicom_dataset(**canaries, PatientAge="CANARY", PatientBirthDate="CANARYDATE")
    bad = dicom_dataset(**canaries, PixelData=None)
    mixed = dicom_dataset(**{**canaries, "PatientID": "CANARYother"}, StudyInstanceUID=good.StudyInstanceUID)
    for name in ("pynetdicom", "pydicom", "highdicom", "dicomweb_client"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    with (
        caplog.at_level(logging.DEBUG),
        WebArchive(statuses=(503, 200)) as web,
        Running(bundle, tmp_path / "spool", peer=None, stow=web.url, retry_seconds=1.0) as running,
    ):
        answers = send(running, good, bad, mixed)
        waiting = until(running.waiting)
        names = [str(path) for path in tmp_path.rglob("*")]
        until(lambda: web.stored)
        until(lambda: not running.waiting())

    (report,) = web.stored
    assert report.PatientName == canaries["PatientName"]
    assert [status for status, _ in answers] == [0, 0xC000, 0xA900]
    said = "\n".join([*running.heard.said, caplog.text, *capfd.readouterr(), *names, *(c for _, c in answers)])
    assert waiting
    assert "CANARY" not in said
    assert good.SOPInstanceUID not in said
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in left if b"CANARY" in path.read_bytes()]


def test_only_its_owner_may_look_into_the_spool(bridge):
    assert all(path.stat().st_mode & 0o077 == 0 for path in (bridge.spool, *bridge.spool.iterdir()) if path.is_dir())
