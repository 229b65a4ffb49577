from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plainfilm.evaluation import evaluate_predictions
from plainfilm.measures import EvaluationOptions
from plainfilm.prediction import Predictions
from plainfilm.reporting import (
    DataSummary,
    Example,
    FoldSummary,
    LeftOut,
    ModelFacts,
    ReportData,
    SplitCount,
    TrainingFacts,
    write_report,
)

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real images in ../shared/data")

VOID = {"meta", "img", "br", "hr", "link", "input", "path", "rect", "use"}
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><style>body{display:none}",
    "</title></head><body onload=alert(1)>",
    "{{7*7}}{% raw %}",
    "javascript:alert(1)",
    "url(https://example.org/x.png)",
    "&lt;b&gt; & 'quoted'",
)


class Page(HTMLParser):
    """What a browser would make of a report: its tags, its attributes and its text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.open, self.texts = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def values(self, name):
        return [value for _, attribute, value in self.attributes if attribute == name]


def predictions(classes=("abdomen", "chest"), *, patients=12, images=2, wrong_every=4, known=True):
    rows, scores = [], []
    for index, label in enumerate(classes):
        for patient in range(patients):
            for image in range(images):
                score = np.full(len(classes), 0.1)
                answer = (index + (patient % wrong_every == 0)) % len(classes)
                score[answer] = 1 + 0.1 * patient + 0.01 * image
                name = f"P{index}{patient:02d}"
                path = f"{label}/{name}_{image}.png"
                rows.append({"path": path, "label": label, "patient_id": name if known else None, "split": "test"})
                scores.append(score / score.sum())
    return Predictions(tuple(classes), pd.DataFrame(rows), np.array(scores))


def make_report(scored=None, *, patients="documented", split_unit="patient", positive=(), **changes):
    scored = scored if scored is not None else predictions()
    options = EvaluationOptions(draws=100, positive=positive)
    evaluation = evaluate_predictions(scored, patients=patients, split_unit=split_unit, options=options)
    report = ReportData(
        title="Chest or abdomen",
        question="Is this a chest or an abdomen?",
        when=datetime(2026, 11, 22, 9, 30),
        version="0.1.0",
        command="plainfilm train --options options.toml",
        options={"training.epochs": 3, "model.model": "resnet1d"},
        data=DataSummary(
            source="openi",
            counts=[
                SplitCount(split=split, label=label, n_images=images, n_patients=images // 2)
                for split, images in (("train", 40), ("test", 24))
                for label in scored.classes
            ],
            left_out=[LeftOut(code="IMG_TRUNCATED", reason="The file ends early.", n_images=3, names=["a.png"])],
        ),
        patients=patients,
        split_unit=split_unit,
        preprocessing=["Resized to 128 x 128 pixels."],
        model=ModelFacts(name="resnet1d", parameters=2_800_000, flops=310_000_000, input_size=(128, 128)),
        training=None,
        evaluation=evaluation,
        examples=[
            example("sure and wrong", score=0.98, predicted="abdomen"),
            example("unsure and wrong", score=0.55, predicted="abdomen"),
            example("right", score=0.9, predicted="chest"),
        ],
    )
    return replace(report, **changes)


def trained():
    return TrainingFacts(
        epochs=2,
        chosen_epoch=2,
        seconds=75,
        device="CPU, 2 cores",
        precision="float32",
        history=pd.DataFrame({"epoch": [1, 2], "train_loss": [0.7, 0.5], "validation_loss": [0.7, 0.6]}),
    )


def example(name, *, score=0.9, predicted="chest", truth="chest", size=32):
    thumbnail = np.arange(size * size, dtype=np.uint16).reshape(size, size)
    return Example(thumbnail=thumbnail, path=f"{name}.png", truth=truth, predicted=predicted, score=score)


@pytest.fixture(scope="module")
def report():
    return make_report(training=trained())


@pytest.fixture(scope="module")
def html(report):
    return write_report(report)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


@pytest.fixture(scope="module")
def split_by_image():
    """A report whose numbers may not stand, whatever the audit found."""
    return make_report(split_unit="image", evidence_level=4)


@pytest.fixture(scope="module")
def struck_html(split_by_image):
    return write_report(split_by_image)


@pytest.fixture(scope="module")
def full_html():
    """A page with what the first one leaves out."""
    return write_report(
        make_report(
            positive=("chest",),
            evidence_level=3,
            folds=FoldSummary(measure="balanced_accuracy", values=[0.6, 0.7, 0.8]),
            warnings=["肺炎 ذات الرئة"],
        )
    )


@pytest.fixture(scope="module")
def full_page(full_html):
    return Page(full_html)


def test_the_tags_of_a_report_are_balanced(page):
    assert page.open == []


def test_a_report_has_no_script_and_asks_for_nothing_from_outside(html, page):
    assert not set(page.tags) & {"script", "link", "iframe", "object", "embed", "form", "base"}
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert all(source.startswith("data:image/png;base64,") for source in page.values("src"))
    assert all(target.startswith("#") for target in page.values("href") + page.values("xlink:href"))
    assert "@import" not in html
    assert "url(http" not in html


def test_a_content_security_policy_comes_before_anything_it_governs(html):
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

    assert policy in html
    assert html.index(policy) < html.index("<style>") < html.index("<body>")


def test_the_same_run_gives_the_same_bytes(report, html):
    assert write_report(report) == html


def test_the_training_is_told_with_its_curves(page):
    assert "The dotted line is the epoch that was kept." in page.text
    assert "epoch 2, lowest validation loss" in page.text
    assert "75 s" in page.text


def test_every_link_of_the_contents_leads_somewhere(page):
    targets = {f"#{identifier}" for identifier in page.values("id")}

    assert {target for tag, name, target in page.attributes if (tag, name) == ("a", "href")} <= targets


def test_no_id_is_used_twice(page):
    assert len(page.values("id")) == len(set(page.values("id")))


def test_every_picture_has_words_and_every_table_a_caption(page):
    assert all(alt.startswith("Truth ") for alt in page.values("alt"))
    assert len(page.values("alt")) == page.tags.count("img") == 3
    assert page.tags.count("caption") == page.tags.count("table")
    assert page.tags.count("h1") == 1


def test_the_headline_is_by_patient_with_its_lower_bound_and_count(report, page):
    headline = report.evaluation.headline

    assert headline.unit == "patient"
    assert f"{headline.value:.3f} At least {headline.low:.3f} , at most {headline.high:.3f}" in page.text
    assert "On 24 patients of the test set" in page.text
    assert "Guessing gives 0.500" in page.text


def test_a_number_from_a_patient_split_stands(html):
    assert "<s>" not in html


def test_a_number_that_does_not_hold_is_struck_through_and_the_reason_said(split_by_image, struck_html):
    assert_struck(split_by_image, struck_html)


def test_a_number_over_unknown_patients_is_struck_through_too():
    report = make_report(predictions(known=False), patients="unknown", split_unit="image")

    assert_struck(report, write_report(report))


def assert_struck(report, html):
    assert f"<s>{report.evaluation.headline.value:.3f}</s>" in html
    assert "Not valid" in html
    assert report.evaluation.struck in Page(html).text


def test_the_audit_cannot_raise_a_number_that_may_not_stand(struck_html):
    assert reached_level(struck_html) == 1


def test_the_audit_raises_the_evidence_level_of_a_clean_patient_split(html, full_html):
    assert reached_level(html) == 2  # before any audit
    assert reached_level(full_html) == 3


def reached_level(html):
    return int(html.split('aria-current="true"><b>')[1][0])


def test_the_surest_mistake_comes_first(page):
    order = [page.text.index(name) for name in ("sure and wrong.png", "unsure and wrong.png", "right.png")]

    assert order[0] == min(order)
    assert order[0] < page.text.index("unsure and wrong.png") < page.text.rindex("right.png")


def test_the_matrix_has_the_truth_on_its_rows(report):
    classes = ("a", "b", "c")
    rows = [("a", 0)] * 7 + [("a", 1)] * 5 + [("b", 1)] * 6 + [("c", 2)] * 8
    table = pd.DataFrame(
        {
            "path": [f"{n}.png" for n in range(len(rows))],
            "label": [label for label, _ in rows],
            "patient_id": [f"P{n}" for n in range(len(rows))],
            "split": "test",
        }
    )
    data = Predictions(classes, table, np.eye(3)[[answer for _, answer in rows]] * 0.9 + 0.1 / 3)
    html = write_report(make_report(data))

    assert "Rows are the truth" in html
    first_row = html.split('<tr><th scope="row"><bdi>a</bdi></th><td class=')[1].split("</tr>")[0]
    assert [cell.split("</b>")[0] for cell in first_row.split("<b>")[1:]] == ["7", "5", "0"]
    assert '<td class="total">12</td>' in first_row


def test_a_class_of_two_patients_is_withheld_and_the_reader_is_told():
    data = predictions(("a", "b", "c"), patients=6)
    few = data.where(~((data.table["label"] == "c") & (data.table["patient_id"] > "P201")).to_numpy())
    page = Page(write_report(make_report(few)))

    assert "withheld" in page.text
    assert "over a + b" in page.text


def test_the_two_way_reading_appears_only_when_a_class_is_positive(page, full_page):
    assert "Read as yes or no" not in page.text
    assert "Read as yes or no" in full_page.text
    assert "Sensitivity" in full_page.text
    assert "ROC AUC for chest, by patient" in full_page.text


def test_images_are_not_repeated_where_every_patient_has_one(report):
    single = Page(write_report(make_report(predictions(images=1), patients="declared")))

    assert "Class by class, by image" not in single.text
    assert "Class by class, by patient" in single.text


def test_what_was_left_out_is_listed_with_its_code(page):
    assert "IMG_TRUNCATED" in page.text
    assert "128 images used, 0 skipped, 3 refused" in page.text


def test_a_report_without_pictures_date_or_anything_left_out_is_whole(report):
    data = replace(report.data, left_out=())
    bare = replace(report, data=data, training=None, examples=(), when=None, notes=["One note."])
    page = Page(write_report(bare))

    assert page.open == []
    assert "every file that was found was used" in page.text
    assert "No pictures were kept" in page.text
    assert "One note." in page.text


def test_the_split_table_adds_images_over_classes_but_never_patients(page):
    assert "abdomen 40 (20) 24 (12) 64 (32)" in page.text
    assert "All 80 48 128" in page.text


def test_patients_are_not_added_over_splits_that_may_share_them(struck_html):
    assert "abdomen 40 (20) 24 (12) 64 chest" in Page(struck_html).text


def test_the_run_can_be_repeated_from_the_page(page):
    assert "plainfilm train --options options.toml" in page.text
    assert "training.epochs 3" in page.text


def test_a_report_says_that_it_is_no_medical_device(page):
    assert "Research software, not a medical device." in page.text


def test_folds_are_summarised(full_page):
    assert "over 3 folds: mean 0.700 , standard deviation 0.100" in full_page.text


def test_many_classes_are_shown_by_their_most_frequent_mistakes():
    page = Page(write_report(make_report(predictions([f"class {n}" for n in range(16)], patients=5, images=1))))

    assert "16 classes are too many for a matrix" in page.text


def hostile_report(*payloads):
    """A report in which every text is one of the payloads, or all of them."""
    everything = " ".join(payloads)
    return make_report(
        predictions((*payloads, "chest"), patients=6, images=1),
        positive=payloads,
        title=everything,
        question=everything,
        version=everything,
        command=everything,
        options=dict.fromkeys(payloads, everything),
        data=DataSummary(
            source=everything,
            counts=[SplitCount(split=text, label=text, n_images=1, n_patients=1) for text in payloads],
            left_out=[LeftOut(code=text, reason=text, n_images=1, names=[text]) for text in payloads],
        ),
        preprocessing=payloads,
        model=ModelFacts(
            name=everything,
            summary=everything,
            parameters=1,
            input_size=(8, 8),
            weights=everything,
            licence=everything,
        ),
        training=TrainingFacts(
            epochs=1,
            chosen_epoch=1,
            chosen_by=everything,
            seconds=1,
            device=everything,
            precision=everything,
            history=pd.DataFrame({"epoch": [1], "train_loss": [0.5]}),
        ),
        examples=[example(text, truth=text, predicted=text) for text in payloads],
        notes=payloads,
        warnings=payloads,
    )


def test_hostile_text_is_shown_as_text_wherever_it_stands(html):
    page = Page(write_report(hostile_report(*HOSTILE)))
    harmless = Page(html)

    assert page.open == []
    assert "script" not in page.tags
    for tag in ("style", "body", "head", "title"):
        assert page.tags.count(tag) == harmless.tags.count(tag) == 1
    assert page.tags.count("img") == len(HOSTILE)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert all(source.startswith("data:image/png;base64,") for source in page.values("src"))
    for payload in HOSTILE:
        assert page.text.count(payload) >= 20


def test_a_name_that_turns_the_line_around_or_is_endless_is_written_out_and_shortened(html):
    page = write_report(hostile_report("photo\u202egnp.exe\u2066\x00", "n" * 10_000))

    assert not {"\u202e", "\u2066", "\x00"} & set(page)
    assert "photo\\u202egnp.exe" in page
    assert "n" * 2_000 not in page
    assert len(page) < len(html) + 100_000


def test_text_of_other_scripts_is_kept(full_page):
    assert full_page.text.count("肺炎 ذات الرئة") == 1


def test_a_report_with_24_pictures_is_below_a_megabyte_and_a_half():
    noise = np.random.default_rng(0)
    examples = [
        Example(
            thumbnail=noise.integers(0, 256, (512, 512), dtype=np.uint8),
            path=f"{number}.png",
            truth="chest",
            predicted="abdomen" if number % 2 else "chest",
            score=0.9,
        )
        for number in range(24)
    ]

    assert len(write_report(make_report(examples=examples)).encode()) < 1_500_000


@needs_shared
def test_a_real_x_ray_is_shrunk_for_the_page():
    from PIL import Image

    path = next(iter(sorted((SHARED / "openi-chest-abdomen").rglob("*.png"))))
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L"))
    shown = Example(thumbnail=pixels, path=path.name, truth="chest", predicted="chest", score=0.99)
    page = Page(write_report(make_report(examples=[shown])))

    assert max(int(page.values("width")[0]), int(page.values("height")[0])) == 160


def test_the_template_and_the_style_are_part_of_the_package():
    for name in ("template.html.j2", "style.css"):
        assert files("plainfilm.reporting").joinpath(name).is_file()
