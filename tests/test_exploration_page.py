import hashlib
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from base64 import b64decode, b64encode
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.cluster.hierarchy import fcluster, linkage

from plainfilm.exploration.page import as_json, map_data, write_page
from plainfilm.exploration.results import (
    Agreement,
    Components,
    Dendrogram,
    Embedding,
    Exploration,
    KMeansScan,
    NetworkScore,
)
from plainfilm.plots.exploration import dendrogram_plot, drawings, in_order, scatter_plot, texts

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
VOID = {"meta", "br", "img", "input", "link", "hr", "path", "use", "rect", "image"}
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    "</script><script>alert(1)</script>",
    "</ScRiPt ><img src=x onerror=alert(1)>",
    "<!--<script>",
    "<!-- ",
    "-->",
    "]]>",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script href='data:,alert(1)'/>",
    "\"><script>alert(1)</script>",
    "'><script>alert(1)</script>",
    "\" autofocus onfocus=alert(1) x=\"",
    "' onmouseover=alert(1) '",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<base href=//evil.example>",
    "<meta http-equiv=refresh content=0;url=//evil.example>",
    "<a href=javascript:alert(1)>x</a>",
    "<style>*{display:none}</style>",
    "</style><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</textarea><script>alert(1)</script>",
    "<form action=//evil.example><input name=x>",
    "<math><mtext><script>alert(1)</script>",
    "<template><script>alert(1)</script></template>",
    "<object data=data:text/html,x>",
    "{{7*7}}{% raw %}",
    "${alert(1)}`\\",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\u2028alert(1)\u2029",
    "a\u202egnp.exe\x00",
]  # fmt: skip


HANDS = """
const $ = (id) => document.getElementById(id), stage = $("stage"), told = {};
stage.setPointerCapture = () => {};  // refuses pointers that no hand moves
const point = (type, x, y, more) => {
  const { left, top } = stage.getBoundingClientRect();
  stage.dispatchEvent(new PointerEvent(type, { clientX: left + x, clientY: top + y, pointerType: "mouse", ...more }));
};
const press = (key) => stage.dispatchEvent(new KeyboardEvent("keydown", { key, cancelable: true }));
press("ArrowRight");
told.first = $("said").textContent;
press("ArrowRight");
told.next = $("said").textContent;
press("Enter");
told.pins = $("pinned").children.length;
press("Escape");
told.closed = $("tip").hidden;
const { width, height } = stage.getBoundingClientRect();
for (let x = 0; x < width; x += 6) for (let y = 0; y < height; y += 6) if ($("tip").hidden) point("pointermove", x, y);
told.hovered = $("tip").textContent;
point("pointerdown", 1, 1, { shiftKey: true });
point("pointermove", width / 2, height - 1, { shiftKey: true });
point("pointerup", width / 2, height - 1);
told.selected = $("selected-title").textContent;
told.paths = $("paths").value.split("\\n");
document.querySelector("#legend button").click();
told.pressed = [...document.querySelectorAll("#legend button")].map((one) => one.getAttribute("aria-pressed"));
document.title = JSON.stringify(told);
"""


class Page(HTMLParser):
    """What a browser would make of a page: its tags, its attributes, its text and what stands in its scripts."""

    def __init__(self, html):
        super().__init__()
        self.html = html
        self.tags, self.attributes, self.open, self.texts, self.scripts = [], [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def values(self, name):
        return [value for _, attribute, value in self.attributes if attribute == name]


def column_of(exploration, name):
    return next(column for column in map_data(exploration)["columns"] if column["name"] == name)


def components_of(points):
    ratios = 0.5 ** np.arange(1, 9)
    return Components(
        scores=points,
        ratios=ratios[:4],
        all_ratios=ratios,
        variance_kept=0.9,
        n_images=len(points),
        n_values=4096,
        whitened=True,
    )


def tree_of(points, method="ward", most=300):
    rows = np.arange(len(points))[:most]
    merged = linkage(points[rows], method)
    gaps = np.diff(merged[:, 2])
    cut = merged[:, 2][gaps.argmax()] + gaps.max() / 2
    labels = (fcluster(merged, cut, "distance") - 1).astype(np.intp)
    return Dendrogram(method=method, linkage=merged, rows=rows, cut_height=cut, gap=gaps.max(), labels=labels)


def scan_of(n):
    k = np.arange(1, 9)
    return KMeansScan(
        k=k,
        inertia=45_000 / k,
        mean_distance=20 / np.sqrt(k),
        silhouette=np.where(k == 1, np.nan, 0.5 - 0.04 * k),
        n_images=n,
        n_silhouette=n,
        elbow=3,
        best_silhouette=2,
        labels=np.arange(n) % 3,
    )


def agreement(clustering="ward", column="label", kind="label", ari=0.8, low=0.7, high=0.9):
    return Agreement(
        clustering=clustering,
        column=column,
        kind=kind,
        ari=ari,
        ari_low=low,
        ari_high=high,
        nmi=0.7,
        n_images=60,
        n_groups=2,
        n_clusters=2,
    )


def network(name="paper", struck="Scored on the images it was trained on.", epochs=12):
    epoch = np.arange(1, epochs + 1)
    history = pd.DataFrame({"epoch": epoch, "train_loss": 1 / epoch, "train_accuracy": 1 - 0.5 / epoch})
    return NetworkScore(
        name=name,
        accuracy=0.987,
        low=0.93,
        high=0.998,
        n_images=60,
        loss=0.122,
        mae=0.107,
        struck=struck,
        history=history,
        seconds=1.5,
    )


def make_exploration(n=60, *, rows=None, thumbnails=None, **changes):
    noise = np.random.default_rng(0)
    side = np.arange(n) % 2
    points = noise.normal(size=(n, 4)) + 6 * side[:, None]
    table = {
        "path": [f"{'chest' if one else 'abdomen'}/image_{i:05d}.png" for i, one in enumerate(side)],
        "label": np.where(side, "chest", "abdomen"),
        "patient_id": [f"{i // 3:03d}" for i in range(n)],
        "split": np.where(np.arange(n) % 5, "train", "test"),
        "width": noise.integers(100, 600, n),
        "age": [str(age) for age in noise.integers(20, 90, n)],
    }
    sample = points[:, :2].copy()
    sample[1::4] = np.nan
    many = n if thumbnails is None else thumbnails
    found = Exploration(
        source="two regions",
        seen="pixels, 64 x 64",
        rows=pd.DataFrame(table | (rows or {})),
        thumbnails=noise.integers(0, 256, (many, 48, 48), dtype=np.uint8),
        thumbnail_rows=np.sort(noise.choice(n, many, replace=False)),
        components=components_of(points),
        embeddings=(
            Embedding(name="PCA", coordinates=points[:, :2], settings="Components 1 and 2.", seconds=0.1),
            Embedding(name="t-SNE", coordinates=sample, settings="Perplexity 15.", seconds=1.2),
        ),
        dendrograms=tuple(tree_of(points, method) for method in ("ward", "complete", "single")),
        kmeans=scan_of(n),
        agreements=(agreement(), agreement(column="width", kind="file", ari=0.1, low=-0.02, high=0.2)),
        networks=(network(), network("paper, labels shuffled"), network("cross-validation", None, epochs=0)),
        notes=("t-SNE: a sample.",),
        options={"variance": 0.9, "seed": 0},
    )
    return replace(found, **changes)


def make_small(n=60, **changes):
    """With the fewest pictures, which take most of the time."""
    found = make_exploration(n, **changes)
    return replace(found, embeddings=found.embeddings[1:], dendrograms=(), agreements=(), networks=())


@pytest.fixture(scope="module")
def exploration():
    return make_exploration()


@pytest.fixture(scope="module")
def html(exploration):
    return write_page(exploration)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


@pytest.fixture(scope="module")
def drawn(exploration):
    return drawings(exploration)


def test_every_picture_of_an_exploration_is_drawn(drawn):
    trees = {f"dendrogram_{method}" for method in ("ward", "complete", "single")}

    assert set(drawn) == {"variance", "scatter_pca", "scatter_t_sne", *trees, "kmeans", "agreement", "networks"}
    for drawing in drawn.values():
        ET.fromstring(drawing.svg())


def test_what_was_not_computed_is_not_drawn():
    found = make_exploration(dendrograms=(), agreements=(), networks=())

    assert set(drawings(found)) == {"variance", "scatter_pca", "scatter_t_sne", "kmeans"}
    assert not {"networks", "agreement"} & set(Page(write_page(make_small())).values("id"))


def test_the_words_for_a_picture_carry_its_numbers(drawn):
    assert "4 components for the 90 % asked for, together 93.8 %" in drawn["variance"].alt
    assert drawn["scatter_pca"].alt == "PCA of 60 images by label: abdomen 30; chest 30."
    assert drawn["scatter_t_sne"].alt.startswith("t-SNE of 45 images")
    assert "leaves 2 clusters" in drawn["dendrogram_ward"].alt
    assert "elbow of the inertia is at k = 3; the largest mean silhouette of 0.420" in drawn["kmeans"].alt
    assert "Ward and label 0.80 (0.70 to 0.90)" in drawn["agreement"].alt
    assert "paper ends at accuracy 0.987 (0.930 to 0.998, 60 images)" in drawn["networks"].alt


def words_of(drawing):
    return [element.text for element in ET.fromstring(drawing.svg()).iter(f"{SVG}text")]


def test_a_legend_counts_the_images_of_each_label(drawn):
    assert {"abdomen  (30)", "chest  (30)"} <= set(words_of(drawn["scatter_pca"]))


def test_labels_differ_by_shape_too(drawn):
    lines = drawn["scatter_pca"].figure.axes[0].get_lines()

    assert len({line.get_marker() for line in lines}) == len({line.get_color() for line in lines}) == 2


def test_a_branch_has_a_color_only_where_all_its_images_share_a_label(drawn):
    (branches,) = drawn["dendrogram_ward"].figure.axes[0].collections
    colors = [tuple(color) for color in branches.get_colors()]

    assert len(set(colors)) == 3  # two labels, and the one merge of both
    assert min(colors.count(color) for color in set(colors)) == 1


def test_a_large_tree_is_cut_short_but_counts_every_image():
    found = make_exploration(250)
    tree = dendrogram_plot(found.dendrograms[1], texts(found.rows["label"]))

    assert "the last 100 branches are drawn" in tree.alt
    assert {"abdomen (125)", "chest (125)"} <= set(words_of(tree))


def test_many_points_are_drawn_as_pixels_so_that_the_page_stays_light():
    found = make_exploration(3_000, thumbnails=0)

    assert len(scatter_plot(found.embeddings[0], texts(found.rows["label"])).svg(for_page=True)) < 400_000


def test_rare_labels_are_counted_together_where_there_are_too_many():
    found = make_exploration(rows={"label": [f"class {i}" for i in range(60)]})

    assert "(others)  (40)" in words_of(scatter_plot(found.embeddings[0], texts(found.rows["label"])))


def test_images_without_a_label_are_shown_as_such():
    found = make_exploration(rows={"label": ["chest", None, ""] * 20, "patient_id": [None] * 60})

    assert "(no value)  (40)" in words_of(scatter_plot(found.embeddings[0], texts(found.rows["label"])))
    assert column_of(found, "label")["codes"] == [0, -1, -1] * 20
    assert column_of(found, "patient_id")["names"] == []


def test_names_stand_as_a_reader_looks_for_them():
    assert in_order({"10": 1, "2": 1, "(no value)": 5, "b1": 1}) == ["2", "10", "b1", "(no value)"]
    assert in_order({f"n{i}": i for i in range(30)})[0] == "n29"


def test_a_number_column_with_gaps_reads_as_whole_numbers():
    assert texts(pd.Series([1.0, np.nan, 2.5])).tolist() == ["1", "(no value)", "2.5"]


def test_the_tags_of_a_page_are_balanced(page):
    assert page.open == []


def test_the_policy_names_the_hash_of_the_one_script_that_runs(page):
    policy = next(value for value in page.values("content") if "default-src" in value)
    data, script = page.scripts
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()

    assert page.tags.count("script") == 2
    assert [value for tag, name, value in page.attributes if tag == "script" and name == "type"] == ["application/json"]
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe-inline" not in policy.split("script-src")[1]
    assert json.loads(data)


def test_a_page_asks_for_nothing_from_outside(html, page):
    # Names of XML languages are no addresses: nothing is fetched from them.
    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'<>)]*", re.sub(r"base64,[\w+/=]+", "", html)))

    assert {address for address in addresses if "www.w3.org" not in address} == set()
    assert not {"link", "iframe", "object", "embed", "form"} & set(page.tags)
    for name in ("src", "href", "xlink:href"):
        assert all(value.startswith(("data:image/png;base64,", "#")) for value in page.values(name))
    for word in ("fetch(", "XMLHttpRequest", "WebSocket", "import(", "eval(", "innerHTML", "Function("):
        assert word not in page.scripts[1]


def test_the_same_exploration_gives_the_same_bytes():
    assert write_page(make_small()) == write_page(make_small())


def test_every_picture_has_words_and_every_table_a_caption(page):
    assert page.tags.count("caption") == page.tags.count("table") >= 6
    assert page.tags.count("svg") == len(
        [one for one in page.attributes if one[:2] == ("svg", "aria-label") and one[2]]
    )


def test_every_link_leads_somewhere_and_no_id_is_used_twice(page):
    ids = page.values("id")

    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.values("href")} <= set(ids)
    assert set(page.values("aria-labelledby") + page.values("aria-describedby")) <= set(ids)


def test_the_script_finds_every_element_it_asks_for(page):
    assert set(re.findall(r"\$\(\"([\w-]+)\"\)", page.scripts[1])) <= set(page.values("id"))


def test_without_script_every_number_stands_in_the_page(page, exploration):
    for words in (
        "60 images of 20 patients",
        "Ward clusters follow label most: 0.800 (0.700 to 0.900, 60 images)",
        "50.00 %",
        "15,000",
        "elbow",
        "t-SNE: a sample.",
        "4,096 numbers each",
    ):
        assert words in page.text


def test_a_number_that_may_not_stand_is_struck_through_with_its_reason(html):
    table = html[html.index('<section id="networks">') :]

    assert table.count('<s class="value">0.987</s>') == 2
    assert table.count('<span class="value">0.987</span>') == 1
    assert "Scored on the images it was trained on." in table


def test_clusters_that_follow_the_file_are_warned_of_first():
    by_file = agreement(column="format", kind="file", ari=0.95, low=0.9, high=0.99)
    by_chance = agreement(clustering="k-means", column="format", kind="file", ari=0.05, low=-0.02, high=0.1)
    found = replace(make_small(), agreements=(agreement(), by_file, by_chance))
    page = Page(write_page(found))

    assert page.text.index("Ward clusters follow format more than the label") < page.text.index("The map")
    assert page.text.count("more than the label:") == 1
    assert "k-means clusters follow no column: the largest index is 0.050" in page.text


def test_the_data_of_the_script_give_the_table_back(page, exploration):
    data, rows = json.loads(page.scripts[0]), exploration.rows
    paths = [data["folders"][folder] + file for folder, file in zip(data["folder"], data["files"], strict=True)]
    columns = {column["name"]: column for column in data["columns"]}

    assert data == map_data(exploration)
    assert paths == rows["path"].tolist()
    for name in ("label", "patient_id", "split"):
        assert [columns[name]["names"][code] for code in columns[name]["codes"]] == rows[name].tolist()
    assert columns["width"]["values"] == rows["width"].tolist()
    assert columns["age"] == {"name": "age", "kind": "number", "values": [int(age) for age in rows["age"]]}
    assert columns["k-means clusters"]["codes"] == exploration.kmeans.labels.tolist()


def test_a_sample_that_was_clustered_is_named_by_its_rows():
    found = make_exploration(400)
    ward = column_of(found, "Ward clusters")

    assert ward["rows"] == found.dendrograms[0].rows.tolist()
    assert [int(ward["names"][code]) for code in ward["codes"]] == found.dendrograms[0].labels.tolist()


def test_places_keep_four_digits(exploration):
    for place, embedding in zip(map_data(exploration)["embeddings"], exploration.embeddings, strict=True):
        rows = range(len(embedding.coordinates)) if place["rows"] is None else place["rows"]
        points = np.column_stack([place["x"], place["y"]]) * place["step"] + place["origin"]
        known = embedding.coordinates[list(rows)]

        assert len(points) == np.isfinite(embedding.coordinates).all(axis=1).sum()
        assert np.abs(points - known).max() <= np.ptp(known, axis=0).max() / 10_000
        assert max(place["x"] + place["y"]) == 9_999


def test_the_sheet_holds_the_thumbnail_of_each_row(page, exploration):
    sheet = np.asarray(Image.open(BytesIO(b64decode(page.values("src")[0].split(",")[1]))))
    side, across, rows = (map_data(exploration)["atlas"][name] for name in ("side", "across", "rows"))

    assert rows == exploration.thumbnail_rows.tolist()
    for place in (0, 7, 59):
        top, left = place // across * side, place % across * side
        assert (sheet[top : top + side, left : left + side] == exploration.thumbnails[place]).all()


def test_ids_that_look_like_numbers_stay_names():
    found = make_exploration(rows={"site": [f"{i:03d}" for i in range(30)] * 2})

    assert column_of(found, "site")["names"][:2] == ["000", "001"]


def test_a_column_too_long_for_the_page_is_named_and_left_out():
    n = 300
    notes = {f"text {k}": [f"{k} {i} " + "x" * 70 for i in range(n)] for k in range(150)}
    data = map_data(make_exploration(n, rows=notes))
    kept = {column["name"]: column["kind"] for column in data["columns"]}

    assert kept["text 0"] == "text"
    assert kept["width"] == "number"
    assert data["left_out"]
    assert {*data["left_out"], *kept} >= set(notes)
    assert len(as_json(data)) < 3_000_000


def hostile_exploration(payloads):
    """An exploration in which every text is one of the payloads."""
    n = 2 * len(payloads)
    texts = [*payloads, *payloads]
    found = make_exploration(n, rows={"label": texts, "patient_id": texts, "split": texts, "path": texts})
    found = replace(found, rows=found.rows.assign(**dict.fromkeys(payloads, texts)))
    return replace(
        found,
        source=" ".join(payloads),
        seen=" ".join(payloads),
        embeddings=tuple(replace(found.embeddings[0], name=text, settings=text) for text in payloads[:2]),
        dendrograms=found.dendrograms[:1],
        agreements=tuple(agreement(column=text, kind="file") for text in payloads),
        networks=tuple(network(name=text, struck=text, epochs=2) for text in payloads[:3]),
        notes=tuple(payloads),
        options=dict.fromkeys(payloads, payloads),
    )


@pytest.fixture(scope="module")
def hostile_html():
    return write_page(hostile_exploration(HOSTILE))


def test_thirty_hostile_texts_are_shown_as_text_wherever_they_stand(hostile_html, page):
    hostile = Page(hostile_html)
    names = next(one["names"] for one in json.loads(hostile.scripts[0])["columns"] if one["name"] == "label")

    assert hostile.open == []
    assert len(hostile.scripts) == 2
    assert hostile.scripts[1] == page.scripts[1]
    assert set(hostile.tags) <= set(page.tags)
    assert {(tag, name) for tag, name, _ in hostile.attributes} <= {(tag, name) for tag, name, _ in page.attributes}
    for tag in ("script", "style", "title", "body", "head", "meta", "img", "textarea"):
        assert hostile.tags.count(tag) == page.tags.count(tag)
    assert not {"\x00", "\u202e", "\u2028", "\u2029"} & set(hostile_html)
    for payload in HOSTILE[:-2]:
        assert " ".join(payload.split()) in hostile.text
        assert payload in names


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=30))
def test_no_text_leaves_the_block_of_data(text):
    written = as_json({text: [text, 0.5, None]})

    assert json.loads(written) == {text: [text, 0.5, None]}
    assert not set("<>&\u2028\u2029") & set(written)


def test_an_endless_name_is_shortened():
    html = write_page(make_small(rows={"label": ["n" * 10_000] * 60, "path": ["p" * 10_000] * 60}))

    assert "n" * 200 not in html
    assert "p" * 400 not in html


@pytest.mark.long
def test_a_hundred_thousand_images_stay_below_fifteen_megabytes():
    n = 100_000
    noise = np.random.default_rng(1)
    small = make_small()
    rows = pd.DataFrame(
        {
            "path": [f"train/images/slice_{i:06d}.png" for i in range(n)],
            "label": noise.choice(["mild", "moderate", "none"], n),
            "patient_id": [f"p{i // 32:05d}" for i in range(n)],
            "split": noise.choice(["train", "test"], n),
            "width": noise.integers(100, 600, n),
            "height": noise.integers(100, 600, n),
            "age": noise.integers(20, 90, n),
            "format": "PNG",
        }
    )
    planes = tuple(
        Embedding(name=name, coordinates=noise.normal(size=(n, 2)), settings="", seconds=1.0)
        for name in ("PCA", "t-SNE", "UMAP")
    )
    smooth = noise.normal(size=(4_000, 48, 48)).cumsum(axis=1).cumsum(axis=2)
    thumbnails = (128 + 3 * smooth).clip(0, 255).astype(np.uint8)
    html = write_page(
        replace(
            small,
            rows=rows,
            embeddings=planes,
            thumbnails=thumbnails,
            thumbnail_rows=np.arange(0, n, 25),
            kmeans=replace(small.kmeans, labels=np.arange(n) % 3),
        )
    )

    assert len(html.encode()) < 15_000_000
    assert len(json.loads(html.split('id="data">')[1].split("</script>")[0])["files"]) == n


def test_the_parts_of_the_page_are_part_of_the_package():
    for name in ("page.html.j2", "page.css", "page.js"):
        assert files("plainfilm.exploration").joinpath(name).is_file()


def opened(folder: Path, html: str, address: str = "") -> str:
    """The page as it stands after its script has run in a browser."""
    path = folder / "page.html"
    path.write_text(html, encoding="utf-8")
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder / 'profile'}",
        "--virtual-time-budget=3000",
        "--dump-dom",
        f"{path.as_uri()}{address}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout


@pytest.mark.skipif(not CHROMIUM, reason="needs chromium on the PATH")
def test_in_a_browser_the_map_draws_every_image_and_opens_as_its_address_says(tmp_path, html):
    page = opened(tmp_path, html, "#embed=tsne&colour=width&select=all&pin=3,4&find=chest")

    assert re.search(r'<canvas id="points"[^>]*data-drawn="45"[^>]*data-ready="true"', page)
    assert "45 images of 20 patients selected" in page
    assert "30 images found" in page
    assert page.count('aria-label="Unpin ') == 2
    assert 'id="map" aria-labelledby' in page  # no longer hidden


@pytest.mark.skipif(not CHROMIUM, reason="needs chromium on the PATH")
def test_in_a_browser_hostile_texts_stay_texts(tmp_path, hostile_html):
    opening = "#embed=&select=all&pin=0,1,2,3,4,5,6,7&image=8"
    page = opened(tmp_path, hostile_html.replace("script-src", "script-src 'unsafe-inline'; x"), opening)

    assert 'data-ready="true"' in page
    shown = page.split('<script type="application/json"')[0]
    assert len(re.findall(r"<img\b", shown)) == 1  # the sheet of thumbnails
    assert len(re.findall(r"<script\b", page)) == 2
    assert not re.findall(r"<[a-z]+ [^>]*\bon(?:error|load|focus|mouseover)=", re.sub(r'="[^"]*"', '=""', shown))
    assert shown.count('aria-label="Unpin ') == 8


@pytest.mark.skipif(not CHROMIUM, reason="needs chromium on the PATH")
def test_in_a_browser_keys_pointer_and_legend_do_what_they_say(tmp_path, html):
    without_policy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    page = opened(tmp_path, without_policy.replace("</body>", f"<script>{HANDS}</script></body>"))
    told = json.loads(unescape(re.search(r"<title>([^<]*)</title>", page)[1]))

    assert re.match(
        r"(abdomen|chest)/image_\d{5}\.png\. label (abdomen|chest)\. patient_id \d{3}\. 2 more", told["first"]
    )
    assert told["next"] != told["first"]
    assert told["pins"] == 1
    assert told["closed"]
    assert "2 more images of this patient, " in told["hovered"]
    assert told["selected"].startswith(f"{len(told['paths'])} images of ")
    assert {path.split("/")[0] for path in told["paths"]} == {"abdomen"}  # the left half of the map
    assert told["pressed"] == ["false", "true"]
