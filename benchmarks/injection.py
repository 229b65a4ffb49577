"""Hostile texts in every string that is printed: none may run, load, hide or break anything.

    python -m benchmarks.injection [--keep FOLDER]

Phantom images get the payloads of `benchmarks.payloads` as classes, patients, further columns and their cells, file
names, and the names of data and runs. All that the program makes of them is looked at: pages in a real headless
Chromium and by their elements, CSV and TSV cell by cell, LaTeX, Markdown and the model card as they would be rendered,
and what was printed. Needs Chromium. Ends with 1 if anything is live.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import re
import shutil
import sys
import tempfile
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.forked import Child, Ending, warm
from benchmarks.payloads import PAYLOADS

CLASSES = [name for name in PAYLOADS if name != "console_markup"]
"""Payloads that a class may be named by; a `|` is replaced, as it would name two."""

HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b\ufeff\u2028\u2029]")
FORMULA = re.compile(r"^['\"]*[=+\-@\t\r\0]")
NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
LATEX_COMMAND = re.compile(r"\\(immediate|write|input|include|openout|csname|def|catcode)\b")

LOOK = """() => {
  const found = [];
  const away = /^\\s*(javascript|vbscript|https?:|\\/\\/|data:text)/i;
  if (window.__pwned) found.push("a script ran");
  if (document.title === "__pwned") found.push("the title was changed");
  for (const e of document.querySelectorAll("*")) {
    for (const a of e.attributes) {
      const said = `${e.tagName} ${a.name}=${a.value.slice(0, 60)}`;
      if (/^on/i.test(a.name) || a.name === "data-pwned") found.push(said);
      const loads = /^(href|src|action|xlink:href)$/i.test(a.name);
      if (loads && away.test(a.value) && /pwned/.test(a.value)) found.push(said);
      if (a.name === "style" && /pwned|url\\(/i.test(a.value)) found.push(said);
    }
    if (/^(iframe|object|embed|base|form|frame|applet)$/i.test(e.tagName)) found.push(`${e.tagName} element`);
    if (/^style$/i.test(e.tagName) && /pwned/.test(e.textContent)) found.push("a text inside a style");
  }
  if (/pwned49/.test(document.body.innerText)) found.push("a template was filled in");
  const scripts = [...document.querySelectorAll("script")].filter(s => !s.type || /javascript|module/.test(s.type));
  return {found, scripts: scripts.map(s => s.textContent), text: document.documentElement.innerText};
}"""


# --- hostile data, and what is made of it -------------------------------------------------------------------


def hostile_data(folder: Path) -> Path:
    """90 and more small images; every text in their table is a payload. Gives the table, a parquet file."""
    import numpy as np
    import pandas as pd
    from PIL import Image

    drawn = np.random.default_rng(0)
    rows = []
    texts = list(PAYLOADS.values())
    for number, name in enumerate(CLASSES):
        label = PAYLOADS[name].replace("|", "/").replace("\n---\nlicense", "license") or name
        for image in range(3):
            path = Path("images", *_file_name(texts[(number + image) % len(texts)], f"{number}-{image}"))
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            pixels = drawn.integers(0, 120, (32, 32), dtype=np.uint8)
            pixels[number % 8 : number % 8 + 16] += 100
            Image.fromarray(pixels).save(folder / path)
            cells = {text[:200]: texts[(number + image + 7) % len(texts)] for text in texts[image::9]}
            site = texts[number % len(texts)]
            rows.append(
                {
                    "path": path.as_posix(),
                    "label": label,
                    "patient_id": f"{texts[number % len(texts)][:300]} {image}",
                    "split": ("train", "validation", "test")[image],
                    "site": site,
                    **cells,
                }
            )
    table = folder / 'x"><img data-pwned src=x onerror=window.__pwned=1>.parquet'
    pd.DataFrame(rows).to_parquet(table)
    return table


def _file_name(text: str, number: str) -> list[str]:
    """A payload as a path: what a file system allows, the parts between slashes as folders."""
    parts = [part[:80] for part in re.sub(r"[\0\\]", "", text).split("/") if part not in ("", ".", "..")]
    return [*parts[:4], f"{number}.png"] if parts else [f"{number}.png"]


def outputs(place: Path) -> Iterator[tuple[str, Ending]]:
    """Run every command that prints or writes what the data say; gives what each printed."""
    table = hostile_data(place / "data")
    small = ["--model", "perceptron", "--image-size", "16", "--epochs", "1", "--batch-size", "32", "--workers", "0"]
    common = [*small, "--subgroup", "site", "--precision", "32-true"]
    first, second = place / "run <b data-pwned>", place / "run 'two'"
    yield "scan", run("scan", table, "--workers", "0", "-o", place / "account.csv")
    yield "audit", run("audit", table, "--workers", "0", "-o", place / "audit")
    yield "train", run("train", table, "-o", first, *common, "--accept", "A1=<script>window.__pwned=1</script>")
    yield "train", run("train", table, "-o", second, *common, "--seed", "1", "--no-audit")
    yield "evaluate", run("evaluate", first, "-q")
    yield "predict", run("predict", first, table, "--workers", "0", "-o", place / "predictions.csv")
    yield "predict", run("predict", first, table, "--workers", "0", "-o", place / "predictions.json")
    yield "explain", run("explain", first, table, "--methods", "gradient", "--workers", "0", "-o", place / "explained")
    yield "explore", run("explore", table, "--side", "8", "--no-umap", "--workers", "0", "-o", place / "explored")
    yield "compare", run("compare", first, second, "-o", place / "compared")
    yield "report", run("report", first)


def run(*arguments: object) -> Ending:
    """One command, in a child."""
    words = [str(argument) for argument in arguments]

    def call() -> int:
        from plainfilm.cli import run as run_command

        return run_command(words)

    return Child(call, seconds=900).wait()


# --- looking at it ------------------------------------------------------------------------------------------


def live_in_pages(pages: list[Path]) -> Iterator[str]:
    """Open each page in Chromium, and say what in it is not text."""
    from playwright.sync_api import sync_playwright

    chromium = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if chromium is None:
        sys.exit("Chromium is needed.")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for page_path in pages:
            page = browser.new_page()
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.on("dialog", lambda dialog: dialog.dismiss())
            page.goto(page_path.as_uri(), wait_until="load", timeout=120_000)
            page.wait_for_timeout(200)
            seen = page.evaluate(LOOK)
            away = [url for url in asked if not url.startswith(("file://", "data:", "blob:"))]
            for what in (*seen["found"], *(f"asked for {url}" for url in away), *_policy(page_path, seen["scripts"])):
                yield f"{page_path.name}: {what}"
            if hidden := HIDDEN.findall(seen["text"]):
                yield f"{page_path.name}: hidden characters {Counter(hidden)}"
            page.close()
        browser.close()


def _policy(page: Path, scripts: list[str]) -> Iterator[str]:
    """What is wrong with the content security policy of a page, and with its scripts."""
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page.read_text())
    policy = found[1] if found else ""
    if "default-src 'none'" not in policy:
        yield "no content security policy"
    if "unsafe-eval" in policy or re.search(r"script-src[^;]*(unsafe-inline|\*|http)", policy):
        yield f"a lenient policy: {policy}"
    for script in scripts:
        if b64encode(hashlib.sha256(script.encode()).digest()).decode() not in policy:
            yield f"a script that is not the page's: {script[:60]!r}"


def live_in_tables(paths: list[Path]) -> Iterator[str]:
    """Cells that a spreadsheet would run, or that break out of their row."""
    for path in paths:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
        for number, row in enumerate(rows):
            if len(row) != len(rows[0]):
                yield f"{path.name}: row {number} has {len(row)} cells, not {len(rows[0])}"
            for cell in row:
                if FORMULA.match(cell) and not NUMBER.match(cell) and not cell.startswith("'"):
                    yield f"{path.name}: row {number}: {cell[:60]!r}"
                if "\0" in cell:
                    yield f"{path.name}: row {number}: a NUL"


def live_in_texts(paths: list[Path]) -> Iterator[str]:
    """Commands in LaTeX; markup, links and pictures in Markdown that come out of a payload."""
    from markdown_it import MarkdownIt

    for path in paths:
        text = path.read_text(encoding="utf-8")
        if hidden := HIDDEN.findall(text):
            yield f"{path.name}: hidden characters {Counter(hidden)}"
        if path.suffix == ".tex":
            if command := LATEX_COMMAND.search(text):
                yield f"{path.name}: {command[0]}"
            continue
        body = re.sub(r"\A---\n.*?\n---\n", "", text, count=1, flags=re.DOTALL)
        html = MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
        for what in re.findall(
            r"<(?:script|img|svg|iframe|base|meta|form|math|b|style)\b[^>]{0,60}|href=\"javascript[^\"]*", html, re.I
        ):
            yield f"{path.name}: {what}"
        if re.search(r"^(license: pwned|# pwned)", text, re.M):
            yield f"{path.name}: a line of its own"


def live_in_print(command: str, ending: Ending) -> Iterator[str]:
    """What a terminal would obey, and tracebacks."""
    for name, text in (("out", ending.out), ("err", ending.err)):
        if hidden := HIDDEN.findall(text):
            yield f"{command} std{name}: hidden characters {Counter(hidden)}"
        if "Traceback" in text:
            yield f"{command}: a traceback"
    if ending.status not in (0, 4):
        yield f"{command}: ended with {ending.status}: {ending.err[-300:]}"


def main() -> None:
    """Do what the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="leave everything in this folder")
    options = parser.parse_args()
    warm()
    with tempfile.TemporaryDirectory() as temporary:
        place = options.keep or Path(temporary)
        live = [what for command, ending in outputs(place) for what in live_in_print(command, ending)]
        made = [path for path in place.rglob("*") if path.is_file() and "data" not in path.relative_to(place).parts[:1]]

        def named(*suffixes: str) -> list[Path]:
            return sorted(path for path in made if path.suffix in suffixes)

        looks: list[tuple[Callable[[list[Path]], Iterator[str]], list[Path]]] = [
            (live_in_pages, named(".html")),
            (live_in_tables, named(".csv", ".tsv")),
            (live_in_texts, named(".tex", ".md")),
        ]
        for look, paths in looks:
            live += look(paths)
        counts = ", ".join(f"{len(paths)} {'/'.join(sorted({path.suffix for path in paths}))}" for _, paths in looks)
    for what in live:
        print(f"LIVE {what}")
    print(
        f"{len(PAYLOADS)} payloads as class, patient, file, column, cell and title; looked at {counts}: "
        f"{len(live)} live"
    )
    sys.exit(1 if live else 0)


if __name__ == "__main__":
    main()
