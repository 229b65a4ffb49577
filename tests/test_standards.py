"""CLAIM 2024 and TRIPOD+AI: every item is there, none leaves its reader alone, and the run fills what it knows."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from plainfilm.config import RunOptions
from plainfilm.reporting.sentences import SENTENCES, sentences_of
from plainfilm.reporting.standards import STATUSES, Item, checklists, read_standards
from test_cohort import cohort_of
from test_findings_page import all_kinds, audit_of
from test_reporting import make_report, trained


def full_report(**changes):
    """A report of a whole run, without an audit."""
    return make_report(training=trained(), asked=RunOptions(), cohort=cohort_of(), **changes)


@pytest.fixture(scope="module")
def lists():
    return {entry.standard.name: entry for entry in checklists(full_report())}


def test_claim_has_its_44_items_and_tripod_its_27_in_order():
    for standard, items in read_standards():
        assert [item.id for item in items] == [str(number) for number in range(1, standard.count + 1)]
    assert {standard.name: standard.count for standard, _ in read_standards()} == {"CLAIM 2024": 44, "TRIPOD+AI": 27}


def test_every_item_belongs_to_a_standard_and_asks_something_short():
    names = {standard.name for standard, _ in read_standards()}
    for _, items in read_standards():
        for item in items:
            assert item.standard in names
            assert 5 < len(item.asks) < 130
            assert item.asks.endswith(".")


def test_an_item_that_names_no_sentence_or_says_nothing_to_do_is_refused():
    with pytest.raises(ValueError, match="no sentence is named 'hopes'"):
        Item(standard="CLAIM 2024", id="1", part="front", asks="?", says=("hopes",), needs="x")
    with pytest.raises(ValueError, match="leave its reader alone"):
        Item(standard="CLAIM 2024", id="1", part="front", asks="?")


def test_every_item_has_an_answer_or_something_to_do(lists):
    for entry in lists.values():
        for answer in entry.answers:
            assert answer.status in STATUSES
            assert answer.said or answer.todo
            assert bool(answer.todo) == (answer.status == "needs you")


def test_most_method_and_result_items_of_claim_are_filled_by_the_tool_alone(lists):
    own = [answer for answer in lists["CLAIM 2024"].answers if answer.item.part in ("method", "result")]
    filled = [answer for answer in own if answer.status == "filled by the tool"]

    assert len(own) == 35
    assert all(answer.said or answer.todo for answer in own)  # filled or prompted: all of them
    assert len(filled) >= 17


def test_what_the_audit_answers_is_prompted_without_it_and_filled_with_it(lists):
    before = lists["CLAIM 2024"].answers[29]
    after = checklists(full_report(audit=audit_of(*all_kinds())))[0].answers[29]

    assert before.item.id == after.item.id == "30"
    assert (before.status, after.status) == ("needs you", "filled by the tool")
    assert "plainfilm audit" in before.todo
    assert "B1 FAIL: Sentence of B1" in after.said


def test_the_counts_of_the_statuses_add_up(lists):
    for entry in lists.values():
        assert sum(entry.count(status) for status in STATUSES) == entry.standard.count


def test_every_sentence_is_used_by_an_item_or_by_the_paper():
    from plainfilm.reporting.paper import METHODS, RESULTS

    used = {name for _, items in read_standards() for item in items for name in item.says}
    written = {name for _, names in METHODS for name in names} | set(RESULTS)

    assert set(SENTENCES) == used | written


def test_sentences_are_whole_and_name_no_patient():
    said = sentences_of(full_report(audit=audit_of(*all_kinds())))

    for name, sentence in said.items():
        assert sentence[0].isupper() or sentence[0].isdigit(), name
        assert sentence.rstrip().endswith((".", ")")), name
        assert not re.search(r"\bP\d{3}\b", sentence), name
        assert "  " not in sentence, name


def test_a_split_that_shares_patients_is_said_to_share_them():
    said = sentences_of(make_report(split_unit="image", cohort=cohort_of(split="image"), asked=RunOptions()))

    assert re.match(r"\d+ patients have images in more than one partition", said["disjoint"])
    assert "must not be reported as a result" in said["headline"]


def test_without_a_cohort_an_image_split_is_not_said_to_be_disjoint():
    said = sentences_of(make_report(split_unit="image"))

    assert "may be in more than one partition" in said["disjoint"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tuning": "logistic"}, "Logistic regression on the features of a frozen neural network"),
        ({"tuning": "head"}, "the last layers of a neural network"),
        ({}, "Deep learning was used: a neural network"),
    ],
)
def test_the_kind_of_model_is_named_as_what_it_is(options, said):
    report = full_report()

    assert said in sentences_of(replace(report, asked=RunOptions.from_flat(options)))["technology"]


def test_augmentation_is_listed_or_said_to_be_absent():
    report = full_report()
    plain = replace(report, asked=RunOptions.from_flat({"augment": False}))

    assert "rotation up to 8 degrees, shift up to 6 % of the side" in sentences_of(report)["training"]
    assert "Training images were not augmented." in sentences_of(plain)["training"]
