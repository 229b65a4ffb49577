"""An audit of very many images: what it holds for each of them, and what it looks at instead of all."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from plainfilm.auditing.cases import FIRST, Cases, cases_of
from plainfilm.auditing.labels import check_labels
from plainfilm.auditing.neighbours import Neighbours, need_turns
from plainfilm.auditing.patients import RecoveryOptions, _pairs, _Tree
from plainfilm.auditing.potential import PotentialOptions, check_learning_curve
from plainfilm.auditing.probing import ProbeOptions
from plainfilm.auditing.shortcuts import ask_shortcuts
from plainfilm.auditing.subject import Subject
from plainfilm.auditing.thumbnails import thumbnails, to_compare, unit_vectors
from plainfilm.data.pixels import PixelStore
from plainfilm.learning_curve import LearningCurveOptions

N, STACK, SIDE = 30_000, 10, 32
KIB = 1024


@pytest.fixture(scope="module")
def many() -> Subject:
    """Noise in stacks of 10, brighter in one of two classes."""
    rng = np.random.default_rng(0)
    store = PixelStore(N, SIDE, SIDE)
    label = np.arange(N) // STACK % 2
    for index in range(N):
        store.put(index, rng.integers(0, 200, (SIDE, SIDE), dtype=np.uint8) + np.uint8(20 * label[index]))
    rows = pd.DataFrame({"path": [f"{index}.png" for index in range(N)], "label": np.where(label, "b", "a")})
    return Subject(rows=rows, pixels=store, patients="documented", group=np.arange(N) // STACK)


def held(call) -> float:
    """KiB an image at the peak of a call, beside what was there before."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return (peak - before) / N / KIB


def test_images_are_compared_in_half_precision_and_never_all_in_more(many):
    small = to_compare(many.pixels, SIDE, most_exact=1_000)

    assert held(lambda: to_compare(many.pixels, SIDE, most_exact=1_000)) < 3
    assert small.dtype == np.float16
    np.testing.assert_allclose(
        unit_vectors(small[:50]) @ unit_vectors(small[:50]).T,
        unit_vectors(thumbnails(many.pixels, SIDE, np.arange(50)))
        @ unit_vectors(thumbnails(many.pixels, SIDE, np.arange(50))).T,
        atol=1e-4,
    )


def test_links_take_little_more_than_the_neighbours_themselves():
    rng = np.random.default_rng(0)
    # Each image with 32 of the 50 that follow it: no pair is named twice, which is the worst there can be.
    ahead = np.argsort(rng.random((N, 50)), axis=1)[:, :32] + 1
    near = Neighbours(
        ((np.arange(N)[:, None] + ahead) % N).astype(np.int32), np.float32(1 - rng.random((N, 32))), True, False
    )

    assert held(lambda: _Tree.of(near)) < 2.5


def test_each_pair_is_linked_once_at_the_distance_of_the_smaller_row():
    rng = np.random.default_rng(1)
    index = np.array([rng.permutation(np.delete(np.arange(600), row))[:40] for row in range(600)])
    near = Neighbours(index, rng.random((600, 40), dtype=np.float32), True, False)
    both = np.sort(np.column_stack([np.repeat(np.arange(600), 40), index.ravel()]), axis=1)
    expected, first = np.unique(both, axis=0, return_index=True)

    one, other, distance = _pairs(near)

    order = np.lexsort((other, one))
    np.testing.assert_array_equal(np.column_stack([one, other])[order], expected)
    np.testing.assert_array_equal(distance[order], near.distance.ravel()[first])


def test_a_sample_is_asked_whether_turns_are_needed_without_vectors_of_all(many):
    small = to_compare(many.pixels, SIDE, most_exact=1_000)
    usual = RecoveryOptions()

    # 20,000 images at once are 4 KiB each in single precision, whatever there is beyond.
    assert held(lambda: need_turns(small[:1], contrast=2, share=0.5, sample=1, seed=0)) < 1
    assert held(lambda: need_turns(small, contrast=usual.contrast, share=0.01, sample=20, seed=0)) < 7


def test_probes_look_at_a_sample_and_hold_nothing_of_the_others(many):
    few = ProbeOptions(probe_images=1_000, probe_draws=99, probe_alpha=0.2)
    potential, curve = PotentialOptions(curve_images=1_000), LearningCurveOptions(curve_seeds=3)
    asked = []

    assert held(lambda: asked.append(ask_shortcuts(many, probing=few))) < 2
    assert held(lambda: asked.append(check_labels(many, probing=few))) < 2
    assert held(lambda: asked.append(check_learning_curve(many, potential, curve=curve))) < 2
    said = [*(finding.sentence for finding in asked[0].findings()), asked[1].sentence, asked[2].sentence]
    assert sum("balanced accuracy" in sentence for sentence in said) > 5
    assert all("Whole patients were drawn from 30000 images." in sentence for sentence in said)


def test_rare_classes_stay_when_patients_are_drawn(many):
    rows = many.rows.assign(label=np.where(np.arange(N) >= N - 6 * STACK, "rare", many.rows["label"]))
    cases = cases_of(Subject(rows=rows, pixels=None, patients="documented", group=many.group), min_patients=5)

    drawn = cases.drawn(2_000, seed=0)

    assert drawn.classes == ("a", "b", "rare")
    assert len(np.unique(drawn.group[drawn.y == 2])) == 6 < FIRST
    assert len(drawn) <= 2_000
    assert drawn.drawn_from == N
    assert set(np.bincount(drawn.group)) == {STACK}


def test_few_enough_images_are_all_looked_at():
    cases = Cases(
        rows=np.arange(4),
        y=np.array([0, 1, 0, 1]),
        group=np.arange(4),
        classes=("a", "b"),
        left_out=(),
        patients="unknown",
    )

    assert cases.drawn(4, seed=0) is cases
    assert "drawn" not in cases.remarks
