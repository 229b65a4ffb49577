"""`make injection` finds what is live: here are outputs that escape nothing."""

import shutil

import pytest
from benchmarks.forked import Ending
from benchmarks.injection import live_in_pages, live_in_print, live_in_tables, live_in_texts
from benchmarks.payloads import PAYLOADS

CHROMIUM = any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))


@pytest.mark.long
@pytest.mark.skipif(not CHROMIUM, reason="needs chromium on the PATH")
def test_a_page_that_escapes_nothing_is_found_out(tmp_path):
    page = tmp_path / "page.html"
    texts = [PAYLOADS[name] for name in ("attribute_breaker", "iframe", "script", "right_to_left")]
    page.write_text(f'<!DOCTYPE html><title>a</title><body><p title="{texts[0]}">{" ".join(texts[1:])}</p></body>')

    found = "\n".join(live_in_pages([page]))

    for what in ("a script ran", "no content security policy", "IFRAME element", "IMG onerror", "hidden characters"):
        assert what in found


def test_tables_texts_and_prints_that_escape_nothing_are_found_out(tmp_path):
    table, latex, markdown = (tmp_path / name for name in ("a.csv", "a.tex", "a.md"))
    table.write_text("class,n\n=1+1,3\n'=1+1,-3.5\n")
    latex.write_text(PAYLOADS["latex"])
    markdown.write_text(f"# A\n\n{PAYLOADS['markdown']}\n\n{PAYLOADS['script']}\n")

    assert len(list(live_in_tables([table]))) == 1
    assert len(list(live_in_texts([latex]))) == 1
    assert len(list(live_in_texts([markdown]))) == 2
    assert len(list(live_in_print("scan", Ending(70, PAYLOADS["escape_codes"], "Traceback", 1.0)))) == 3
