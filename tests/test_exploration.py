"""Components, embeddings and clusters of images; what they follow; and the PCA network, honest and not."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import linkage
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from plainfilm.commands import exploring as commands
from plainfilm.config import SECTION_OF
from plainfilm.data.pixels import PixelStore
from plainfilm.data.sources import SourceOptions
from plainfilm.errors import DataError, UsageError
from plainfilm.exploration.agreement import agreement_notes, agreements_of
from plainfilm.exploration.clustering import Clustering, find_elbow, grow_trees, scan_clusters
from plainfilm.exploration.columns import columns_of
from plainfilm.exploration.exploring import embedding_frame, exploration_facts, explore_table
from plainfilm.exploration.neighbours import nearest_images, neighbour_notes
from plainfilm.exploration.network import labelled_rows, train_networks
from plainfilm.exploration.options import ExploreOptions
from plainfilm.exploration.projection import Features, Planes, embed_tsne, embed_umap, fit_axes, project
from plainfilm.verbs.exploring import explore
from small_runs import train_small, write_small_data

SHARED = Path(__file__).resolve().parents[2] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real images in ../shared")

FAST = {"umap": False, "most_clusters": 4}
PCA_OPTIONS = {"variance": 0.9, "most_components": 50, "seed": 0}
# The appendix of the X-ray paper, "Variance explained per principal component".
PAPER_RATIOS = """
    0.35792896 0.09307032 0.08756059 0.06722919 0.04470531 0.03544107 0.03251029 0.02894042 0.02251312 0.01800812
    0.0156776 0.01442149 0.01145873 0.01030645 0.00957115 0.00832101 0.00770599 0.0075008 0.00680107 0.00658203
    0.00599622 0.00534516 0.00500807
"""


def noise(n=30, d=12, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def blobs(n_each=20, n_blobs=3, d=8, seed=0):
    """Points round centres far apart, and the blob of each."""
    blob = np.repeat(np.arange(n_blobs), n_each)
    return noise(len(blob), d, seed) + 30 * np.eye(n_blobs, d, dtype=np.float32)[blob], blob


def table(n, **columns):
    rows = pd.DataFrame({"path": [f"a/{i}.png" for i in range(n)], "label": None, "patient_id": None, "split": None})
    return rows.assign(**{name: list(values) for name, values in columns.items()}).astype(object)


def in_words(codes, prefix="c"):
    return [f"{prefix}{code}" for code in codes]


def every_image(labels, name="ward"):
    return Clustering(name, np.arange(len(labels)), np.asarray(labels))


def pictures(n, side=8):
    store = PixelStore(n, side, side)
    for index in range(n):
        store.put(index, np.full((side, side), index % 256, dtype=np.uint8))
    return store


def explored(values, rows, **options):
    return explore_table(
        rows,
        Features(values),
        [pictures(len(rows))],
        source="blobs",
        looked_at="numbers",
        options=ExploreOptions(**{**FAST, **options}),
    )


# --- options ------------------------------------------------------------------------------------------------


def test_no_option_has_the_name_of_a_run_option_and_each_is_described():
    assert not set(ExploreOptions.model_fields) & set(SECTION_OF)
    assert all(field.description for field in ExploreOptions.model_fields.values())


# --- principal components -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d"), [(40, 300), (300, 40), (60, 60)])
def test_axes_are_those_of_scikit_learn(n, d):
    values = noise(n, d) * np.linspace(3, 1, d, dtype=np.float32)

    axes = fit_axes(values, **PCA_OPTIONS)
    pca = PCA(0.9, svd_solver="full").fit(values.astype(np.float64))

    assert axes.n_components == pca.n_components_
    assert axes.all_ratios[: axes.n_components] == pytest.approx(pca.explained_variance_ratio_, abs=1e-6)
    assert axes.deviations**2 == pytest.approx(pca.explained_variance_, rel=1e-4)
    assert np.abs(axes.scores(values)) == pytest.approx(np.abs(pca.transform(values)), abs=2e-2)


def test_where_all_axes_would_take_too_long_the_first_are_nearly_exact(monkeypatch):
    strong = noise(400, 5) @ noise(5, 100, seed=1) + 0.1 * noise(400, 100, seed=2)
    exact = fit_axes(strong, **PCA_OPTIONS)
    monkeypatch.setattr("plainfilm.exploration.projection.EXACT_COST", 0)

    quick = fit_axes(strong, variance=0.9, most_components=20, seed=0)

    assert len(quick.all_ratios) == 20
    assert quick.n_components == exact.n_components
    assert quick.all_ratios[:5] == pytest.approx(exact.all_ratios[:5], abs=1e-5)


@given(st.integers(3, 40), st.integers(2, 40), st.floats(0.05, 0.99), st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_components_keep_the_variance_asked_for_and_one_fewer_would_not(n, d, variance, seed):
    axes = fit_axes(noise(n, d, seed), variance=variance, most_components=50, seed=0)
    kept = axes.all_ratios[: axes.n_components]

    assert kept.sum() >= variance - 1e-6
    assert kept[:-1].sum() <= variance + 1e-6


def test_whitened_scores_have_unit_variance_and_plain_ones_the_distances_of_the_images():
    values = noise(50, 10)

    found = project(Features(values), variance=0.999999, whiten=True, most_components=10, most_fitted=50, seed=0)

    assert found.components.scores.std(axis=0, ddof=1) == pytest.approx(1, abs=1e-3)
    assert np.linalg.norm(found.plain[0] - found.plain[1]) == pytest.approx(
        np.linalg.norm(values[0] - values[1]), rel=1e-3
    )


def test_planes_are_the_pixels_of_every_colour_in_units_of_their_range():
    planes = Planes((pictures(4), pictures(4)))

    assert planes.values(np.array([2])) == pytest.approx(np.full((1, 128), 2 / 255))


def test_axes_fitted_on_a_sample_are_said_to_be_and_see_no_other_image():
    values = noise(100, 5)
    one = project(Features(values), variance=0.9, whiten=False, most_components=5, most_fitted=20, seed=0)
    outside = np.flatnonzero(~np.isin(np.arange(100), np.random.default_rng(0).choice(100, 20, replace=False)))
    values[outside] *= 50

    other = project(Features(values), variance=0.9, whiten=False, most_components=5, most_fitted=20, seed=0)

    assert one.components.n_images == 20
    assert "20 of 100" in one.notes[0]
    assert (one.components.ratios == other.components.ratios).all()


def test_too_few_components_for_the_variance_are_named(monkeypatch):
    monkeypatch.setattr("plainfilm.exploration.projection.EXACT_COST", 0)

    found = project(Features(noise(50, 40)), variance=0.9, whiten=True, most_components=3, most_fitted=50, seed=0)

    assert found.components.scores.shape == (50, 3)
    assert "90.0% was asked for" in found.notes[0]


@pytest.mark.parametrize(
    ("values", "code"),
    [(np.ones((5, 4), np.float32), "EXP_ALIKE"), (np.full((5, 4), np.nan, np.float32), "EXP_NOT_FINITE")],
)
def test_what_has_no_components_is_refused(values, code):
    with pytest.raises(DataError) as refused:
        fit_axes(values, **PCA_OPTIONS)

    assert refused.value.code == code


# --- embeddings ---------------------------------------------------------------------------------------------


def test_tsne_keeps_blobs_apart_and_images_outside_the_sample_have_no_place():
    values, blob = blobs(25)

    found = embed_tsne(values.astype(float), perplexity=5, rate=None, most=60, seed=0)

    placed = np.isfinite(found.coordinates).all(axis=1)
    points, own = found.coordinates[placed], blob[placed]
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert placed.sum() == 60
    assert (own[distances.argmin(axis=1)] == own).all()
    assert "60 of 75" in found.settings


def test_tsne_embeds_images_that_differ_in_one_way_alone():
    found = embed_tsne(np.arange(18.0)[:, None], perplexity=None, rate=None, most=100, seed=0)

    assert np.isfinite(found.coordinates).all()


def test_tsne_embeds_three_images_and_refuses_a_perplexity_they_cannot_have():
    few = noise(3, 2).astype(float)

    assert np.isfinite(embed_tsne(few, perplexity=None, rate=None, most=10, seed=0).coordinates).all()
    with pytest.raises(UsageError, match=r"must be below the number of images embedded, 3"):
        embed_tsne(few, perplexity=15, rate=1, most=10, seed=0)


def test_umap_that_is_not_installed_is_noted_and_refused_only_if_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    values, _ = blobs(4)

    found = explored(values, table(12), umap=None)

    assert [embedding.name for embedding in found.embeddings] == ["PCA", "t-SNE"]
    assert any("pip install 'plainfilm[explore]'" in note for note in found.notes)
    with pytest.raises(UsageError, match=r"plainfilm\[explore\]"):
        explored(values, table(12), umap=True)


@pytest.mark.long
def test_umap_keeps_blobs_apart_and_the_threads_of_the_process_as_they_were():
    pytest.importorskip("numba")
    values, blob = blobs(25)
    threads = torch.get_num_threads()

    found = embed_umap(values.astype(float), neighbours=10, most=100, seed=0)

    centres = np.array([found.coordinates[blob == b].mean(axis=0) for b in range(3)])
    nearest = np.linalg.norm(found.coordinates[:, None] - centres[None], axis=2).argmin(axis=1)
    assert (nearest == blob).all()
    assert torch.get_num_threads() == threads


# --- clusters -----------------------------------------------------------------------------------------------


def test_every_tree_is_cut_into_the_blobs_there_are():
    values, blob = blobs()

    trees = grow_trees(Features(values), values.astype(float), most=100, seed=0)

    assert [tree.method for tree in trees] == ["ward", "complete", "single"]
    assert all(adjusted_rand_score(blob, tree.labels) == 1 for tree in trees)


def test_the_tree_is_scipys_of_the_images_themselves():
    values, _ = blobs()

    ward = grow_trees(Features(values), noise(60, 1).astype(float), most=100, seed=0)[0]

    assert ward.linkage[:, 2] == pytest.approx(linkage(values.astype(float), method="ward")[:, 2], rel=1e-4)


def test_copies_of_images_do_not_decide_where_a_tree_is_cut():
    values, _ = blobs(n_each=10, n_blobs=2, d=4)
    values = values / 10 + 100 * np.arange(4, dtype=np.float32)  # blobs so near that the first merge is far
    values[1], values[11] = values[0], values[10]

    trees = grow_trees(Features(values), values.astype(float), most=100, seed=0)

    assert all(2 <= tree.n_clusters <= 10 for tree in trees)


def test_a_tree_of_many_images_is_of_a_sample():
    ward = grow_trees(Features(noise(50)), noise(50).astype(float), most=10, seed=0)[0]

    assert len(ward.rows) == len(ward.labels) == 10
    assert len(np.unique(ward.rows)) == 10


def test_elbow_and_silhouette_find_the_blobs():
    values, blob = blobs()

    found = scan_clusters(values.astype(float), most=8, seed=0)

    assert found.elbow == found.best_silhouette == 3
    assert adjusted_rand_score(blob, found.labels) == 1
    assert found.silhouette[2] > 0.8
    assert np.isnan(found.silhouette[0])


def test_above_ten_thousand_images_clusters_are_found_in_batches_and_hold_all():
    values, blob = blobs(n_each=4_000, d=3)

    found = scan_clusters(values.astype(float), most=5, seed=0)

    assert adjusted_rand_score(blob, found.labels) == 1
    assert (found.n_images, found.n_silhouette) == (12_000, 2_000)


def test_a_line_has_no_elbow():
    assert find_elbow(np.array([3.0, 2.0, 1.0])) == 0
    assert find_elbow(np.array([9.0, 1.0, 0.5, 0.0])) == 1


# --- agreement ----------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=6, max_size=40))
@settings(deadline=None, max_examples=50)
def test_agreement_is_the_adjusted_rand_index(pairs):
    clusters, labels = np.array(pairs).T

    found = agreements_of(
        table(len(pairs), label=in_words(labels)), [every_image(clusters)], seed=0, draws=10
    )  # `label` is left out where it has one value, or more than one for two images

    for agreement in found:
        expected = {"label": labels}[agreement.column]
        assert agreement.ari == pytest.approx(adjusted_rand_score(expected, clusters))
        assert agreement.n_images == len(pairs)


def test_the_same_groups_agree_wholly_and_chance_ones_not_at_all():
    labels = np.arange(60) % 3
    chance = np.random.default_rng(0).permutation(labels)

    same, by_chance = agreements_of(
        table(60, label=in_words(labels)), [every_image(labels), every_image(chance)], seed=0
    )

    assert (same.ari, same.ari_low, same.ari_high, same.nmi) == pytest.approx((1, 1, 1, 1))
    assert by_chance.ari_low < 0.02 < by_chance.ari_high + 0.02
    assert by_chance.ari_high < 0.2


def test_the_interval_of_agreement_with_patients_lies_round_the_number():
    patients = np.repeat(np.arange(40), 5)
    clusters = np.random.default_rng(0).integers(0, 12, 40)[patients]  # whole patients in twelve clusters

    found = agreements_of(table(200, patient_id=in_words(patients, "p")), [every_image(clusters)], seed=0)[0]

    assert found.kind == "patient"
    assert found.ari_low < found.ari < found.ari_high


def test_a_single_patient_cannot_vary():
    rows = table(8, patient_id=["p"] * 8, label=list("aaaabbbb"))

    found = agreements_of(rows, [every_image([0, 0, 0, 1, 1, 1, 1, 0])], seed=0)[0]

    assert np.isnan(found.ari_low)
    assert np.isnan(found.ari_high)


def test_columns_are_sorted_by_what_they_say():
    rows = table(
        40,
        label=list("ab") * 20,
        patient_id=in_words(np.arange(40) // 2, "p"),
        site=list("uuvv") * 10,
        age=[str(20 + i) for i in range(40)],
        report=[f"text {i}" for i in range(40)],
        scanner=["one"] * 40,
        width=[64 + i for i in range(40)],
        height=[64] * 40,
        format=["PNG"] * 20 + ["JPEG"] * 20,
        file_bytes=[1000 + i for i in range(40)],
        pixel_sha256=[f"{i // 4}" for i in range(40)],
    )

    found = {column.name: (column.kind, len(np.unique(column.codes))) for column in columns_of(rows)}

    assert found == {
        "label": ("label", 2),
        "patient_id": ("patient", 20),
        "site": ("source", 2),
        "age": ("source", 4),  # in quarters
        "format": ("file", 2),
        "size": ("file", 4),
        "file_bytes": ("file", 4),
    }


def test_patients_are_compared_as_soon_as_one_has_two_images():
    ids = in_words([0, 0, *range(1, 9)], "p")

    assert [column.name for column in columns_of(table(10, patient_id=ids))] == ["patient_id"]
    assert not columns_of(table(10, patient_id=in_words(range(10), "p")))


def test_patients_that_look_alike_are_said_to_leak():
    patients = np.repeat(np.arange(40), 5)
    rows = table(200, patient_id=in_words(patients, "p"), label=in_words(patients % 2))
    alike = np.random.default_rng(0).integers(0, 4, 40)[patients]
    mixed = np.random.default_rng(0).integers(0, 4, 200)

    told = agreement_notes(rows, [every_image(alike)], seed=0)

    assert told[0].startswith("Two images of one patient share a ward cluster in 100% of pairs")
    assert told[0].endswith("200 images of 40 patients): a split by image leaks.")
    assert not agreement_notes(rows, [every_image(mixed)], seed=0)


def test_a_file_property_that_gives_the_label_away_is_named_and_another_is_not():
    labels = np.arange(60) % 2
    rows = table(
        60,
        label=in_words(labels),
        format=np.where(labels == 0, "PNG", "JPEG"),
        site=in_words(np.random.default_rng(0).integers(0, 3, 60)),
    )

    found = agreement_notes(rows, [], seed=0)

    assert len(found) == 1
    assert found[0].startswith("The file format alone names the label of 100% of images (95% CI 94% to 100%, 60 images")


def test_a_property_each_patient_has_alone_gives_no_label_away():
    patients = np.repeat(np.arange(12), 5)
    rows = table(
        60, label=in_words(patients % 2), patient_id=in_words(patients, "p"), device=in_words(patients, "device")
    )

    assert not agreement_notes(rows, [], seed=0)


# --- neighbours ---------------------------------------------------------------------------------------------


def test_where_images_of_a_patient_are_nearest_the_label_comes_from_the_patient():
    patients = np.repeat(np.arange(30), 4)
    near = 20 * noise(30, 6)[patients] + noise(120, 6, seed=1) / 10
    labels = np.random.default_rng(0).integers(0, 2, 30)[patients]  # nothing of it is in the images
    rows = table(120, patient_id=in_words(patients, "p"), label=in_words(labels))

    found = nearest_images(near.astype(float), rows, seed=0)

    assert found.same_patient.value == found.label.value == 1
    assert 0.8 < found.same_patient.low < 1  # thirty patients, not 120 images
    assert found.by_chance == pytest.approx(3 / 119)
    assert found.label_elsewhere.high < 0.9
    assert (found.n_images, found.n_patients) == (120, 30)
    assert "a split by image leaks. It has the right label for 100.0%" in neighbour_notes(found)[0]


def test_where_patients_are_strangers_to_themselves_nothing_is_said():
    rows = table(120, patient_id=in_words(np.repeat(np.arange(30), 4), "p"))

    found = nearest_images(noise(120, 6).astype(float), rows, seed=0)

    assert found.same_patient.low <= found.by_chance <= found.same_patient.high
    assert found.label is None
    assert not neighbour_notes(found)


def test_an_image_is_never_its_own_neighbour_even_among_copies():
    rows = table(8, patient_id=list("aabbccdd"), label=list("xyxyxyxy"))

    found = nearest_images(np.zeros((8, 2)), rows, seed=0)

    assert found.label.value + found.same_patient.value <= 1  # only itself has both its patient and its label
    assert nearest_images(np.zeros((8, 2)), table(8, patient_id=list("abcdefgh")), seed=0) is None


# --- the PCA network ----------------------------------------------------------------------------------------


def networks_of(values, rows, **options):
    images = labelled_rows(
        Features(values), rows, most=options.pop("most", 100), single_images=options.pop("single_images", False), seed=0
    )
    return train_networks(images, variance=0.9, most_components=20, folds=options.pop("folds", 2), seed=0)


def test_the_papers_way_scores_high_on_noise_and_cross_validation_does_not():
    rows = table(25, label=[*"ab" * 12, "a"])

    paper, shuffled, honest = networks_of(noise(25, 30), rows)

    assert [paper.name, shuffled.name, honest.name] == ["paper", "paper, labels shuffled", "cross-validation"]
    assert min(paper.accuracy, shuffled.accuracy) > 0.9
    assert honest.low < 0.5 < honest.high
    assert "shuffled labels come out right" in paper.struck
    assert "nothing to learn" in shuffled.struck
    assert "Patients are not known" in honest.struck
    assert list(paper.history.columns) == ["epoch", "train_loss", "train_accuracy", "train_mae"]
    assert len(paper.history) == 20
    assert paper.history["train_loss"].iat[-1] < paper.history["train_loss"].iat[0]


def test_cross_validation_keeps_patients_together_and_resamples_them(monkeypatch):
    monkeypatch.setattr("plainfilm.exploration.network.EPOCHS", 6)
    patients = np.repeat(np.arange(8), 3)
    values = noise(24, 20) / 3 + 5 * noise(8, 20, seed=1)[patients]  # patients are told apart, labels are not
    rows = table(24, label=in_words(patients % 3), patient_id=in_words(patients, "p"))

    *_, honest = networks_of(values, rows)

    assert honest.struck is None
    assert honest.n_images == 24
    assert honest.low < 0.5
    assert honest.high - honest.low > 0.2  # eight patients, not 24 images


def test_declaring_single_images_lets_the_score_stand_and_says_so(monkeypatch):
    monkeypatch.setattr("plainfilm.exploration.network.EPOCHS", 1)
    rows = table(12, label=list("ab") * 6)

    found = explored(noise(12, 5), rows, network=True, single_images=True, network_folds=2)

    assert found.networks[-1].struck is None
    assert any("declared" in note for note in found.notes)


def test_networks_see_whole_patients_of_a_sample():
    patients = np.repeat(np.arange(20), 3)
    rows = table(60, label=in_words(patients % 2), patient_id=in_words(patients, "p"))

    images = labelled_rows(Features(noise(60)), rows, most=20, single_images=False, seed=0)

    assert len(images.rows) == 18
    assert set(np.bincount(images.patients)) == {3}


def test_labels_of_one_class_train_no_network():
    found = explored(noise(10, 5), table(10, label=["a"] * 10), network=True)

    assert not found.networks
    assert any("at least two classes" in note for note in found.notes)


# --- together -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found():
    values, blob = blobs()
    rows = table(60, label=in_words(blob), patient_id=in_words(np.arange(60) // 2, "p"), format=["PNG"] * 60)
    return explored(values, rows, thumbnails=25, most_linked=50)


def test_everything_is_found(found):
    best = next(a for a in found.agreements if (a.clustering, a.column) == ("k-means", "label"))

    assert best.ari == 1
    assert found.components.scores.shape[0] == 60
    assert [embedding.name for embedding in found.embeddings] == ["PCA", "t-SNE"]
    assert found.thumbnails.shape == (25, 48, 48)
    assert (found.thumbnails[:, 24, 24] == found.thumbnail_rows).all()
    assert any("Dendrograms are of 50 of 60" in note for note in found.notes)


def test_numbers_are_plain_json_without_nan(found):
    facts = json.loads(json.dumps(exploration_facts(found), allow_nan=False))

    assert facts["kmeans"]["silhouette"][0] is None
    assert facts["components"]["n_images"] == facts["n_images"] == 60
    assert facts["options"]["most_linked"] == 50


def test_points_are_one_row_per_image_and_no_cluster_is_made_up(found):
    frame = embedding_frame(found)

    assert len(frame) == 60
    assert frame["cluster_ward"].isna().sum() == 10
    assert frame["cluster_k_means"].notna().all()
    assert {"path", "label", "component_1", "pca_x", "t_sne_y"} <= set(frame.columns)


def test_two_images_are_too_few():
    with pytest.raises(DataError, match="at least 3"):
        explored(noise(2), table(2))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_small_data(tmp_path_factory.mktemp("data"))


def test_an_exploration_is_a_folder_a_person_can_open(data, tmp_path, capsys):
    output = tmp_path / "found"
    (output / "plots").mkdir(parents=True)
    (output / "explore.json").write_text("{}")  # an older one

    options = ExploreOptions(**FAST, side=16)
    commands.explore(data, output=output, overwrite=True, quiet=True, workers=0, options=options)

    assert sorted(path.name for path in output.iterdir()) == ["embedding.csv", "explore.html", "explore.json", "plots"]
    assert "<script src" not in (output / "explore.html").read_text()
    assert len(pd.read_csv(output / "embedding.csv")) == 80
    assert {path.suffix for path in (output / "plots").iterdir()} == {".png", ".svg"}
    printed = capsys.readouterr().out
    assert "80 images, pixels, 16x16, grey" in printed
    assert "patient_id" in printed
    assert f"page: {output / 'explore.html'}" in printed


def test_what_is_in_the_way_is_not_overwritten(data, tmp_path):
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "notes.txt").write_text("mine")
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / "explore.json").write_text("{}")
    (tmp_path / "file").write_text("mine")

    for name, overwrite, code in (
        ("strange", True, "OUT_STRANGE"),
        ("older", False, "OUT_EXISTS"),
        ("file", True, "OUT_EXISTS"),
    ):
        with pytest.raises(UsageError) as refused:
            explore(data, output=tmp_path / name, overwrite=overwrite)
        assert refused.value.code == code


def test_the_features_of_a_run_can_be_explored(data, tmp_path, monkeypatch):
    monkeypatch.setenv("PLAINFILM_CACHE", str(tmp_path / "cache"))
    run = train_small(data, tmp_path / "run", epochs=1)

    found = explore(data, ExploreOptions(**FAST), run=run.folder, workers=0, device="cpu")

    assert found.seen == "features of the model in 'run'"
    assert found.components.n_values >= 8
    assert "learnt the labels" in found.notes[0]


# --- the paper ----------------------------------------------------------------------------------------------


@needs_shared
def test_the_papers_components_and_its_two_clusters_come_out(tmp_path):
    images = SHARED / "data" / "openi-chest-abdomen"
    files = [path for split in ("TRAIN", "VAL") for path in sorted((images / split).rglob("*.png"))]
    rows = [(path.relative_to(images).as_posix(), path.parent.name) for path in files]
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(tmp_path / "table.csv", index=False)
    as_printed = ExploreOptions(**FAST, side=299, resizing="nearest", channels="rgb", perplexity=15, tsne_rate=1)

    found = explore(tmp_path / "table.csv", as_printed, source=SourceOptions(images=images))

    ward = next(a for a in found.agreements if (a.clustering, a.column) == ("ward", "label"))
    assert found.components.ratios == pytest.approx(np.array(PAPER_RATIOS.split(), dtype=float), abs=1e-5)
    assert found.dendrograms[0].n_clusters == 2
    assert (ward.ari, ward.n_images) == (1, 75)  # Ward's two clusters are chest and abdomen, without any label
