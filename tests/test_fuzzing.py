"""A few hundred spoilt files through the readers; `make fuzz` does a hundred thousand."""

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from benchmarks.fuzz_images import mutant, run
from benchmarks.fuzz_seeds import SUFFIXES, seeds
from benchmarks.mutations import mutate

from plainfilm.data.images import read_image
from plainfilm.errors import ImageError

MUTANTS = 100
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("kind", SUFFIXES)
def test_a_mutant_follows_from_its_number(kind):
    sound = seeds(kind)

    assert [mutant(kind, number, 3, sound) for number in range(20)] == [
        mutant(kind, number, 3, sound) for number in range(20)
    ]
    changed = [mutate(data, kind, Random(number), sound) != data for number, data in enumerate(sound * 3)]
    assert sum(changed) > 0.8 * len(changed)


def test_spoilt_files_are_read_whole_or_refused_by_a_code(tmp_path):
    accounts = run(["png", "tiff", "parquet", "csv"], MUTANTS, 7, 1, tmp_path)

    assert {kind: account.faults for kind, account in accounts.items()} == {kind: [] for kind in accounts}
    assert [account.mutants for account in accounts.values()] == [MUTANTS] * 4
    assert all(len(account.said) > 3 for account in accounts.values())  # they fail in many ways, not in one


def test_what_a_large_parent_holds_is_not_counted():
    """As where the test before this one had trained something."""
    held = bytearray(b"1") * (1 << 29)
    asked = "from benchmarks.fuzz_images import most_mib; print(most_mib())"

    printed = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert len(held) == 1 << 29
    assert int(printed) < 400


def test_a_decoder_that_panics_is_an_error_like_any_other():
    """That of RLE is written in Rust; what it raises is no `Exception`."""
    whole = seeds("dicom")[-1]
    items = whole.index(b"\xfe\xff\x00\xe0", whole.index(b"\xe0\x7f\x10\x00") + 8)
    damaged = whole[: items + 29] + b"\x01" + whole[items + 30 :]  # where a segment of the frame is said to lie

    assert read_image(whole)[1].format == "DICOM"
    with pytest.raises(ImageError) as caught:
        read_image(damaged)
    assert caught.value.code in ("IMG_CORRUPT", "IMG_TRUNCATED", "DCM_CORRUPT")
