import xml.etree.ElementTree as ET
from dataclasses import replace
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from plainfilm import plots
from plainfilm.measures import Measure

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = ['<script>alert("1")</script>', '"><img onerror=alert(1)>', "$\\frac{1}{0$", "{{7*7}}", "a\u202egnp.exe"]


def measure(*, name="roc_auc", of="lung", value=0.9, low=0.8, high=0.95):
    return Measure(
        name=name,
        unit="patient",
        of=of,
        value=value,
        low=low,
        high=high,
        n_images=120,
        n_patients=40,
        interval="bootstrap" if value is not None else "none",
        reason="" if value is not None else "only 2 patients",
    )


def history(epochs=6):
    epoch = np.arange(1, epochs + 1)
    return pd.DataFrame(
        {
            "epoch": epoch,
            "train_loss": 1 / epoch,
            "validation_loss": 1 / epoch + 0.1,
            "train_accuracy": 1 - 0.5 / epoch,
            "validation_accuracy": 1 - 0.6 / epoch,
            "learning_rate": np.where(epoch < 4, 0.1, 0.001),
        }
    )


def curve(name="lung"):
    x = np.linspace(0, 1, 20)
    return plots.Curve(name=name, x=x, y=np.sqrt(x), area=measure(of=name), prevalence=0.3)


def all_drawings(names):
    counts = 3 * np.eye(len(names), dtype=int) + 1
    return {
        "training": plots.training_plot(history(), chosen_epoch=4),
        "confusion": plots.confusion_plot(counts, names),
        "roc": plots.roc_plot([curve(name) for name in names]),
        "precision_recall": plots.precision_recall_plot([curve(name) for name in names]),
        "reliability": plots.reliability_plot([0.2, 0.7], [0.3, 0.6], low=[0.2, 0.5], high=[0.5, 0.7]),
        "interval": plots.interval_plot([measure(name=kind, of=of) for kind in ("recall", "f1") for of in names]),
        "contact_sheet": plots.contact_sheet([np.arange(64, dtype=np.uint16).reshape(8, 8)] * 2, names[:2]),
    }


def texts(svg):
    root = ET.fromstring(svg) if isinstance(svg, str) else svg
    return [element.text for element in root.iter(f"{SVG}text")]


@pytest.fixture(scope="module")
def drawings():
    return all_drawings(["lung", "heart", "bone"])


@pytest.fixture(scope="module")
def svgs(drawings):
    return {name: drawing.svg() for name, drawing in drawings.items()}


@pytest.fixture(scope="module")
def pages(drawings):
    """As a page holds them, parsed; only the namespace is added that a page knows by itself."""
    return {name: for_page(drawing) for name, drawing in drawings.items()}


def for_page(drawing):
    namespace = '<svg xmlns:xlink="http://www.w3.org/1999/xlink" '
    return ET.fromstring(drawing.svg(for_page=True).replace("<svg ", namespace, 1))


def test_every_drawing_is_an_svg(svgs):
    assert {ET.fromstring(svg).tag for svg in svgs.values()} == {f"{SVG}svg"}


def test_a_drawing_is_a_png_too(drawings):
    with Image.open(BytesIO(drawings["confusion"].png(dpi=40))) as image:
        assert image.format == "PNG"
        assert not image.info.get("Software")


def test_the_same_input_gives_the_same_bytes(drawings, svgs):
    again = plots.training_plot(history(), chosen_epoch=4)

    assert again.svg() == drawings["training"].svg() == svgs["training"]
    assert again.png(dpi=40) == drawings["training"].png(dpi=40)


def test_no_date_and_no_tool_is_written_into_a_file(svgs):
    for svg in svgs.values():
        assert "<dc:date>" not in svg
        assert "Matplotlib" not in svg


def test_a_drawing_for_a_page_says_in_words_what_it_shows(drawings, pages):
    for name, page in pages.items():
        assert page.get("role") == "img"
        assert page.get("aria-label") == drawings[name].alt
        assert drawings[name].alt.endswith(".")


def test_two_drawings_on_a_page_share_no_id(pages):
    drawn = ("training", "roc", "precision_recall", "interval")
    ids = [element.get("id") for name in drawn for element in pages[name].iter() if element.get("id")]

    assert ids
    assert len(ids) == len(set(ids))


def test_every_reference_inside_a_drawing_for_a_page_has_its_target(pages):
    for page in pages.values():
        values = [value for element in page.iter() for value in element.attrib.values()]
        ids = {element.get("id") for element in page.iter()}

        assert {value[5:-1] for value in values if value.startswith("url(#")} <= ids
        assert {value[1:] for value in values if value.startswith("#")} <= ids


def test_a_drawing_for_a_page_takes_the_pages_colors_and_styles_nothing_else(drawings):
    svg = drawings["roc"].svg(for_page=True)

    assert "var(--ink, #1f2328)" in svg
    assert "var(--series-1, #0072b2)" in svg
    assert "<style" not in svg
    assert "<?xml" not in svg


def test_a_file_of_its_own_uses_no_variables(svgs):
    assert "var(--" not in svgs["roc"]


def test_hostile_class_names_are_shown_as_text():
    for draw in (plots.roc_plot, plots.precision_recall_plot):
        page = for_page(draw([curve(name) for name in HOSTILE]))
        shown = " ".join(texts(page))

        assert not {element.tag for element in page.iter()} & {f"{SVG}script", f"{SVG}img", f"{SVG}foreignObject"}
        assert "\u202e" not in shown
        assert all(plots.readable(name, limit=24) in shown for name in HOSTILE)


def test_a_class_named_like_markup_of_ours_keeps_its_name():
    name = ' id="x" #1f2328'

    assert any(name in text for text in texts(for_page(plots.roc_plot([curve(name)]))))


@settings(max_examples=5, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=8, max_size=8))
def test_any_class_names_give_a_sound_svg(names):
    ET.fromstring(plots.interval_plot([measure(of=name) for name in names]).svg())


@given(st.text(max_size=400), st.integers(10, 100))
def test_readable_text_is_short_and_hides_nothing(text, limit):
    shown = plots.readable(text, limit=limit)

    assert len(shown) <= limit
    assert not set(shown) & {chr(code) for code in (*range(32), 0x200E, 0x200F, *range(0x202A, 0x202F), 0x2066)}
    shown.encode("utf-8")  # no lone surrogate is left


def test_readable_leaves_ordinary_text_of_any_script_alone():
    for text in ("Non demented", "肺炎", "ذات الرئة", "می\u200cخواهم", "µm ± 5 %"):
        assert plots.readable(text) == text


def test_a_long_name_keeps_its_beginning_and_its_end():
    shown = plots.readable("a" * 5_000 + "z" * 5_000, limit=30)

    assert (shown[0], shown[-1], len(shown)) == ("a", "z", 30)


def test_the_confusion_plot_prints_every_count_with_its_row_share():
    shown = texts(plots.confusion_plot([[90, 10], [1, 3]], ["a", "b"]).svg())

    assert {"90", "10", "1", "3", "90 %", "10 %", "25 %", "75 %"} <= set(shown)


def test_a_class_without_images_has_an_empty_row():
    assert "0 %" in texts(plots.confusion_plot([[5, 0], [0, 0]], ["a", "b"]).svg())


def test_the_legend_gives_the_area_with_its_interval(svgs):
    assert any("0.900 (0.800-0.950)" in text for text in texts(svgs["roc"]))


def test_a_withheld_figure_is_said_to_be_withheld():
    drawing = plots.interval_plot([measure(name="recall"), measure(name="recall", of="rare", value=None)])

    assert texts(drawing.svg()).count("withheld") == 1


def test_a_precision_recall_plot_drops_the_thresholds_that_find_nobody_new():
    spiky = replace(curve(), x=(0.5, 0.5, 1.0), y=(1.0, 0.6, 0.7))
    smooth = replace(curve(), x=(0.5, 1.0), y=(1.0, 0.7))

    assert plots.precision_recall_plot([spiky]).svg() == plots.precision_recall_plot([smooth]).svg()


def test_the_kept_epoch_is_marked_and_named(drawings, svgs):
    assert "Kept: 4" in texts(svgs["training"])
    assert "epoch 4" in drawings["training"].alt


@pytest.mark.parametrize(
    "missing",
    [["learning_rate"], ["train_accuracy", "validation_accuracy"], ["validation_loss", "validation_accuracy"]],
)
def test_training_curves_need_only_some_columns(missing):
    assert texts(plots.training_plot(history().drop(columns=missing)).svg())


def test_a_single_epoch_is_still_drawn():
    assert "Training" in texts(plots.training_plot(history(1), chosen_epoch=1).svg())


def test_eight_bit_pixels_are_shown_as_they_are():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)

    assert np.array_equal(plots.to_eight_bits(image), image)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_deeper_pixels_are_stretched_to_the_screen(dtype):
    shown = plots.to_eight_bits(np.linspace(1000, 3000, 1024).astype(dtype).reshape(32, 32))

    assert (shown.min(), shown.max()) == (0, 255)
    assert (np.diff(shown.ravel().astype(int)) >= 0).all()


def test_pixels_that_are_not_numbers_do_not_break_a_picture():
    image = np.full((8, 8), np.nan, dtype=np.float32)
    image[0, 0] = 1.0

    assert plots.to_eight_bits(image).shape == (8, 8)
    assert plots.to_eight_bits(np.full((8, 8), np.nan, dtype=np.float32)).max() == 0


@settings(deadline=None)
@given(st.integers(8, 300), st.integers(8, 300))
def test_a_thumbnail_is_small_and_keeps_its_shape(height, width):
    image = np.zeros((height, width), dtype=np.uint8)
    with Image.open(BytesIO(plots.thumbnail_png(image, side=100))) as thumbnail:
        assert max(thumbnail.size) == min(max(height, width), 100)
        assert thumbnail.mode == "L"


def test_measures_are_named_as_people_say_them():
    assert plots.title_of("macro_roc_auc") == "Macro ROC AUC"
    assert plots.title_of("balanced_accuracy") == "Balanced accuracy"
    assert plots.title_of("f1") == "F1"
