"""Leave one site out: a rule that reads the site falls where the site is new; one that reads the disease does not."""

import numpy as np
import pytest
from tests.audit_subjects import array_subject

from plainfilm.auditing.held_out_sites import check_held_out_sites


def films(*, cue: str, n=120, side=64):
    """Patients of three sites with one image each; the label shows in the middle, or in a site's own way."""
    rng = np.random.default_rng(0)
    ill, site = np.arange(n) % 2, np.arange(n) // 2 % 3
    images = rng.integers(60, 140, (n, side, side))
    for index in range(n):
        # The site's own way: brighter where ill at the first two sites, darker at the third.
        sign = 1 if cue == "disease" or site[index] < 2 else -1
        images[index, 16:48, 16:48] += sign * 60 * ill[index]
    names = np.array(["north", "south", "west"], dtype=object)[site]
    return array_subject(
        np.clip(images, 0, 255).astype(np.uint8), np.where(ill, "ill", "well"), np.arange(n), hospital_site=names
    )


def test_what_shows_everywhere_alike_holds_at_a_new_site():
    finding = check_held_out_sites(films(cue="disease"))

    assert finding.verdict == "PASS"
    assert finding.details["outside"] > 0.95
    assert [each["site"] for each in finding.details["by_site"]] == ["north", "south", "west"]
    assert all(each["low"] <= each["value"] <= each["high"] for each in finding.details["by_site"])
    assert finding.n_patients == 120


def test_what_shows_at_each_site_in_its_own_way_is_lost_at_a_new_one():
    finding = check_held_out_sites(films(cue="site"))

    assert finding.verdict == "WARN"
    assert finding.low >= 0.05
    assert finding.details["by_site"][2]["value"] <= 0.5  # there the sign is the other one


def test_without_a_site_nothing_can_be_held_out():
    subject = films(cue="disease")
    nowhere = type(subject)(**{**vars(subject), "rows": subject.rows.drop(columns="hospital_site")})

    finding = check_held_out_sites(nowhere)

    assert finding.verdict == "NOT ASSESSABLE"
    assert "no column" in finding.sentence


@pytest.mark.parametrize("few", [3])
def test_a_site_of_few_patients_is_left_out(few):
    subject = films(cue="disease")
    names = subject.rows["hospital_site"].to_numpy(dtype=object).copy()
    names[:few] = "east"
    subject = type(subject)(**{**vars(subject), "rows": subject.rows.assign(hospital_site=names)})

    assert check_held_out_sites(subject).details["sites_left_out"] == ["east"]
