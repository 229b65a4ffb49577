"""One linked offline HTML page from an `Exploration`: a map of the images to walk through, and every number.

Without its script the page still shows every picture and every number. Nothing in the data can become markup: Jinja
escapes every value, hidden and bidirectional characters are written out, the data for the script stand in a JSON
block without `<`, `>` or `&`, and the content security policy allows the page's own script only, by its hash.
"""

from __future__ import annotations

import io
import json
import math
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from jinja2 import Environment
from markupsafe import Markup
from PIL import Image

from plainfilm.exploration.results import Agreement, Embedding, Exploration, Floats
from plainfilm.pages import TEXT_LIMIT, packaged, page_environment, page_style, script_hash
from plainfilm.plots import readable
from plainfilm.plots.exploration import MISSING, clustering_title, drawings, in_order, texts

NAME_LIMIT: Final = 80  # characters of one name
PATH_LIMIT: Final = 300
COLUMNS_LIMIT: Final = 2_500_000  # characters of all further columns together: the page stays quick to open
FEW: Final = 12  # different numbers that still read as categories
STEPS: Final = 10_000  # across the longer side of an embedding
MANY: Final = 1_000  # thumbnails above which the sheet keeps 64 greys: a quarter less to carry, and not to be seen
CROSSED: Final = 12  # rows and columns of a table of counts
WEAK: Final = 0.1  # an adjusted Rand index below this follows nothing worth a sentence
WITHIN: Final = {"label", "patient_id", "split"}  # always categories, and never left out
NOT_SHOWN: Final = {"path", "file_sha256", "pixel_sha256"}  # a hash says nothing to the eye
NUMBER: Final = r"[-+]?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?"  # "007" is a name

CAPTIONS: Final = {
    "variance": "Bars: what each component explains. Line: their sum; dashed, the share that was asked for.",
    "kmeans": "The elbow is where more clusters stop paying; the silhouette is best where clusters stand apart.",
    "agreement": "1: the clusters are the column's groups. 0 (line): no better than chance. Clusters that follow the "
    "patient, the source or the file more than the label warn of a shortcut.",
    "networks": "The paper's network, trained and scored on the same images, on the right labels and on shuffled ones. "
    "Where both learn, the curves show memory and not skill.",
}
TREE: Final = (
    "A branch has the colour of a label where all images below it carry that label. The cut lies in the middle of the "
    "largest gap between two merges."
)
GLOSSARY: Final = (
    ("Component", "A direction in which the images differ; the first explains the most variance."),
    ("t-SNE, UMAP", "Maps that keep neighbours together. Sizes of and distances between far groups mean little."),
    ("Adjusted Rand index", "How far two groupings agree: 1 the same, 0 as by chance, below 0 less than chance."),
    ("Mutual information", "Normalised, 0 to 1. Not corrected for chance: many small groups raise it."),
    ("Silhouette", "How much nearer an image is to its own cluster than to the next one; -1 to 1."),
    ("Ward, complete, single", "The distance of two clusters: growth of variance, farthest pair, nearest pair."),
)


def write_page(exploration: Exploration) -> str:
    """The whole page as HTML text: for 100,000 images and 4,000 thumbnails about 13 MB."""
    data = map_data(exploration)
    script = packaged("plainfilm.exploration", "page.js")
    template = _environment().from_string(packaged("plainfilm.exploration", "page.html.j2"))
    return template.render(
        found=exploration,
        style=page_style(("plainfilm.exploration", "page.css")),
        script=Markup(script),
        script_hash=script_hash(script),
        data=Markup(as_json(data)),
        atlas=_atlas(exploration.thumbnails),
        left_out=data["left_out"],
        words=GLOSSARY,
        **_drawn(exploration),
        **_tables(exploration),
    )


def _environment() -> Environment:
    environment = page_environment()
    environment.filters |= {
        "brief": lambda text, limit=NAME_LIMIT: readable(str(text), limit=limit),
        "count": lambda number, noun: f"{number:,} {noun}{'' if number == 1 else 's'}",
        "decimal": lambda value, digits=3: f"{value:.{digits}f}" if math.isfinite(value) else "–",
        "figures": lambda value: f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}",
        "percent": lambda share, digits=1: f"{100 * share:.{digits}f} %",
        "thousands": lambda number: f"{number:,}",
        "title": clustering_title,
    }
    return environment


# For the script


def map_data(exploration: Exploration) -> dict[str, Any]:
    """What the script draws: places, columns as codes and names, paths as folder and file.

    `left_out` names the columns that would make the page too long.
    """
    columns, left_out = _columns(exploration)
    paths = [_shown(path, PATH_LIMIT) for path in texts(exploration.rows["path"])]
    split = [path.rpartition("/") for path in paths]
    folders = list(dict.fromkeys(folder + slash for folder, slash, _ in split))
    place_of = {folder: place for place, folder in enumerate(folders)}
    rows = exploration.thumbnail_rows
    side = exploration.thumbnails.shape[-1] if len(rows) else 0
    return {
        "folders": folders,
        "folder": [place_of[folder + slash] for folder, slash, _ in split],
        "files": [file for _, _, file in split],
        "embeddings": [_places(embedding) for embedding in exploration.embeddings],
        "columns": columns,
        "left_out": left_out,
        "atlas": {"side": side, "across": _across(len(rows)), "rows": rows.tolist()},
    }


def _places(embedding: Embedding) -> dict[str, Any]:
    """Where the embedded images lie, in whole steps of a ten-thousandth of the longer side: four digits each.

    `origin + step * number` is the coordinate; `rows` names the images where only a sample was embedded.
    """
    embedded = np.flatnonzero(np.isfinite(embedding.coordinates).all(axis=1))
    points = embedding.coordinates[embedded]
    origin = points.min(axis=0, initial=np.inf) if len(points) else np.zeros(2)
    step = float(np.ptp(points, axis=0).max()) / (STEPS - 1) if len(points) > 1 else 0.0
    x, y = np.rint((points - origin) / (step or 1)).astype(int).T.tolist()
    return {
        "name": _shown(embedding.name),
        "settings": _shown(embedding.settings, TEXT_LIMIT),
        "rows": None if len(embedded) == len(embedding.coordinates) else embedded.tolist(),
        "origin": origin.tolist(),
        "step": step,
        "x": x,
        "y": y,
    }


def as_json(data: Any) -> str:
    """JSON that stays within a `<script>` element, whatever names the data hold."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _columns(exploration: Exploration) -> tuple[list[dict[str, Any]], list[str]]:
    """Every column of the table and every clustering for the script, and the names of those that are too large."""
    rows = exploration.rows
    first = [name for name in ("label", "patient_id", "split") if name in rows]
    columns = [_column(name, rows[name]) for name in first] + _clusters(exploration)
    further = [_column(str(name), rows[name]) for name in rows if name not in {*first, *NOT_SHOWN}]
    left_out, room = [], COLUMNS_LIMIT
    for column in sorted(further, key=lambda column: column["kind"] == "text"):  # texts last: they colour nothing
        room -= (size := len(json.dumps(column, ensure_ascii=False, separators=(",", ":"))))
        if room >= 0:
            columns.append(column)
        else:
            room += size
            left_out.append(column["name"])
    return columns, left_out


def _column(name: str, values: pd.Series[Any]) -> dict[str, Any]:
    numbers = None if name in WITHIN else _numbers(values)
    if numbers is not None:
        return {"name": _shown(name), "kind": "number", "values": [_rounded(number) for number in numbers.tolist()]}
    words = texts(values)
    counts = Counter(words)
    if name not in WITHIN and len(counts) > max(60, len(words) / 2):  # a text for each image: no groups to colour
        return {"name": _shown(name), "kind": "text", "values": [_shown(word) for word in words]}
    return _category(name, words, counts)


def _category(name: str, words: npt.NDArray[np.object_], counts: Counter[str]) -> dict[str, Any]:
    names = [word for word in in_order(counts) if word != MISSING]
    code_of = {word: code for code, word in enumerate(names)} | {MISSING: -1}
    return {
        "name": _shown(name),
        "kind": "category",
        "names": [_shown(word) for word in names],
        "codes": [code_of[word] for word in words],
    }


def _numbers(values: pd.Series[Any]) -> Floats | None:
    """The column as numbers, nan where missing; None where it holds names, or too few numbers for a scale."""
    if pd.api.types.is_bool_dtype(values) or values.nunique() <= FEW:
        return None
    if not pd.api.types.is_numeric_dtype(values):
        known = values.dropna().astype(str)
        if not known[known != ""].str.fullmatch(NUMBER).all():
            return None
    return pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _clusters(exploration: Exploration) -> list[dict[str, Any]]:
    """The cluster of each image as columns; `rows` names the images where only a sample was clustered."""
    columns = []
    for name, rows, labels in _clusterings(exploration):
        words = np.array([str(label) for label in labels], dtype=object)
        column = _category(f"{clustering_title(name)} clusters", words, Counter(words))
        columns.append(column | {"rows": None if len(rows) == len(exploration.rows) else rows.tolist()})
    return columns


def _clusterings(exploration: Exploration) -> Iterable[tuple[str, npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    for tree in exploration.dendrograms:
        yield tree.method, tree.rows, tree.labels
    yield "k-means", np.arange(len(exploration.kmeans.labels)), exploration.kmeans.labels


def _rounded(value: float) -> float | int | None:
    """A number to six significant digits, as short as JSON can write it; None where there is none."""
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() else float(f"{value:.6g}")


def _shown(text: str, limit: int = NAME_LIMIT) -> str:
    """`readable`, quick for the hundred thousand names that are so already."""
    return text if len(text) <= limit and text.isprintable() else readable(text, limit=limit)


def _across(n_pictures: int) -> int:
    return math.ceil(math.sqrt(n_pictures))


def _atlas(thumbnails: npt.NDArray[np.uint8]) -> Markup | None:
    """All thumbnails in one PNG, row by row, as a data address; in 64 greys where they are `MANY`."""
    if not len(thumbnails):
        return None
    n, side, _ = thumbnails.shape
    across = _across(n)
    down = math.ceil(n / across)
    sheet = np.zeros((down * across, side, side), dtype=np.uint8)
    sheet[:n] = thumbnails if n <= MANY else thumbnails // 4 * 4 + thumbnails // 64
    sheet = sheet.reshape(down, across, side, side).swapaxes(1, 2).reshape(down * side, across * side)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, format="PNG")
    return Markup(f"data:image/png;base64,{b64encode(buffer.getvalue()).decode('ascii')}")


# For the reader


def _drawn(exploration: Exploration) -> dict[str, Any]:
    pictures = {name: Markup(drawing.svg(for_page=True)) for name, drawing in drawings(exploration).items()}
    return {
        "scatters": [picture for name, picture in pictures.items() if name.startswith("scatter_")],
        "trees": [picture for name, picture in pictures.items() if name.startswith("dendrogram_")],
        "tree_caption": TREE,
        "pictures": pictures,
        "captions": CAPTIONS,
    }


def _tables(exploration: Exploration) -> dict[str, Any]:
    components = exploration.components
    return {
        "components": list(zip(components.ratios, np.cumsum(components.ratios), strict=True)),
        "embedded": [(e, int(np.isfinite(e.coordinates).all(axis=1).sum())) for e in exploration.embeddings],
        "crossed": [crossed for crossed in _crossed(exploration) if crossed is not None],
        "scan": list(zip(*_scanned(exploration), strict=True)),
        **_followed(exploration.agreements),
        "n_labels": _different(exploration.rows, "label"),
        "n_patients": _different(exploration.rows, "patient_id"),
        "options": [(name, str(value)) for name, value in exploration.options.items()],
    }


def _different(rows: pd.DataFrame, column: str) -> int:
    return len(set(texts(rows[column])) - {MISSING}) if column in rows else 0


def _scanned(exploration: Exploration) -> tuple[Sequence[Any], ...]:
    scan = exploration.kmeans
    return scan.k.tolist(), scan.inertia.tolist(), scan.mean_distance.tolist(), scan.silhouette.tolist()


def _crossed(exploration: Exploration) -> Iterable[dict[str, Any] | None]:
    """How many images of each label lie in each cluster; None where the table would be too large to read."""
    labels = texts(exploration.rows["label"])
    for name, rows, clusters in _clusterings(exploration):
        names, numbers = in_order(Counter(labels[rows])), np.unique(clusters)
        if len(names) > CROSSED or len(numbers) > CROSSED:
            yield None
            continue
        counts = [[int(((clusters == c) & (labels[rows] == n)).sum()) for n in names] for c in numbers]
        yield {"clustering": name, "names": names, "rows": list(zip(numbers.tolist(), counts, strict=True))}


def _followed(agreements: Iterable[Agreement]) -> dict[str, list[Agreement]]:
    """For each clustering the column it follows most; which of these are `weak`, and which are `shortcuts`."""
    best: dict[str, Agreement] = {}
    for agreement in agreements:
        known = best.get(agreement.clustering)
        if math.isfinite(agreement.ari) and (known is None or agreement.ari > known.ari):
            best[agreement.clustering] = agreement
    strongest = list(best.values())
    weak = [one for one in strongest if one.ari < WEAK or not one.ari_low > 0]
    shortcuts = [one for one in strongest if one.kind in ("source", "file") and one not in weak]
    return {"strongest": strongest, "weak": weak, "shortcuts": shortcuts}
