"""The page in a real browser: images in, answers, heat map, window, keyboard, dark, phone, and nothing from outside."""

import io
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from plainfilm.runs import Run
from served import CLASSES, picture, serving, write_bundle
from small_runs import train_small, write_small_data

sync_api = pytest.importorskip("playwright.sync_api", reason="the page is tried in a browser by playwright")
expect = sync_api.expect
CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), "")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SLOW = 30_000  # milliseconds
HOSTILE = "<img src=x onerror=document.title='hurt'>.png"

# Text on its background: every visible text must have a contrast of 4.5 (3 where large), as WCAG 2.2 AA asks.
# And what a screen reader needs: names of controls, texts of images, one heading, no id twice.
ACCESSIBILITY = """() => {
  const faults = [];
  const parse = (colour) => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = (top, under) => top.slice(0, 3).map((v, i) => v * top[3] + under[i] * (1 - top[3]));
  const linear = (v) => v / 255 <= .04045 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
  const light = (rgb) => { const [r, g, b] = rgb.map(linear);
    return .2126 * r + .7152 * g + .0722 * b; };
  const paper = (node) => { const layers = [];
    for (let at = node; at; at = at.parentElement) layers.unshift(parse(getComputedStyle(at).backgroundColor));
    return layers.reduce((under, layer) => over(layer, under), [255, 255, 255]); };
  const seen = (node) => node.checkVisibility() && !node.closest(".unseen, [hidden]");
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text; (text = walker.nextNode()); ) {
    const node = text.parentElement;
    if (!text.data.trim() || !seen(node) || node.closest("script, noscript, :disabled, svg")) continue;
    const style = getComputedStyle(node), under = paper(node), ink = over(parse(style.color), under);
    const [a, b] = [light(ink), light(under)], ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) faults.push(`contrast ${ratio.toFixed(2)}: ${text.data.trim().slice(0, 30)}`);
  }
  for (const node of document.querySelectorAll("button, input, a, summary")) {
    if (!seen(node)) continue;
    const said = [node.getAttribute("aria-label"), node.textContent.trim(), node.labels?.[0]?.textContent, node.title];
    const name = said.find(Boolean);
    if (!name) faults.push(`no name: ${node.outerHTML.slice(0, 60)}`);
    if (node.matches("button") && node.getBoundingClientRect().height < 24) faults.push(`too small: ${name}`);
  }
  for (const node of document.querySelectorAll("img")) if (!node.hasAttribute("alt")) faults.push("img without alt");
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  if (new Set(ids).size !== ids.length) faults.push("an id comes twice");
  for (const tag of ["h1", "main", "header", "footer"])
    if (document.querySelectorAll(`body > ${tag}, body > header > ${tag}`).length !== 1) faults.push(`not one ${tag}`);
  if (document.documentElement.lang !== "en") faults.push("no language");
  const wide = document.documentElement.scrollWidth;
  if (wide > innerWidth) faults.push(`wider than the window: ${wide}`);
  return faults;
}"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("page")
    return train_small(write_small_data(folder / "data", patients=12), folder / "run")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def service(run):
    with serving(run.folder) as running:
        yield running


@pytest.fixture(scope="module")
def bundled(tmp_path_factory):
    with serving(
        write_bundle(tmp_path_factory.mktemp("bundled") / "bundle"), token="a-token-of-some-length"
    ) as running:
        yield running


@pytest.fixture
def page(browser):
    """A page that notes what goes wrong in it, and every place it asks."""
    opened = browser.new_page(viewport={"width": 1100, "height": 800})
    opened.set_default_timeout(SLOW)
    opened.wrong, opened.asked = [], []
    opened.on("pageerror", lambda error: opened.wrong.append(str(error)))
    opened.on("console", lambda said: said.type == "error" and opened.wrong.append(said.text))
    opened.on("request", lambda request: opened.asked.append(request.url))
    yield opened
    opened.close()


def file(name: str, data: bytes) -> dict:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": data}


def give(page, *files: dict) -> None:
    """Choose files, and wait for their answers."""
    page.locator("#progress").evaluate("node => { node.textContent = '' }")
    page.set_input_files("#files", list(files))
    expect(page.locator("#progress")).to_contain_text("scored", timeout=SLOW)


def grey(page) -> np.ndarray:
    """What the canvas shows."""
    width, *pixels = page.evaluate(
        """() => { const canvas = document.getElementById("picture");
        return [canvas.width, ...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data
          .filter((_, at) => at % 4 === 0)]; }"""
    )
    return np.array(pixels).reshape(-1, width)


def training_image(run: Run) -> bytes:
    rows = run.read_table()
    name = rows.loc[rows["split"] == "train", "path"].iloc[0]
    return (run.folder.parent / "data" / name).read_bytes()


def test_images_are_scored_shown_and_walked_through_by_key(page, service, run):
    page.goto(service.url)
    expect(page.locator("#level")).to_contain_text("Evidence level 2")
    expect(page.locator(".notice").first).to_contain_text("not a medical device")
    give(page, file("one.png", picture(1, 32, 32)), file("two.png", training_image(run)), file(HOSTILE, b"no image"))

    expect(page.locator("#list button")).to_have_count(3)
    expect(page.locator("#name")).to_have_text("one.png")
    expect(page.locator("#words")).to_contain_text("Highest score")
    expect(page.locator("#scores tbody tr")).to_have_count(2)
    expect(page.locator("#calibration")).to_contain_text("not calibrated")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#name")).to_have_text("two.png")
    expect(page.locator("#warnings")).to_contain_text("trained on this very image")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#name")).to_have_text(HOSTILE)
    expect(page.locator("#words")).to_contain_text("IMG_NOT_AN_IMAGE")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#name")).to_have_text("two.png")
    expect(page.locator("#alike li").first).to_contain_text("1.00", timeout=SLOW)

    assert page.title() == "plainfilm"
    assert page.wrong == []
    assert {url.startswith((service.url, "data:")) for url in page.asked} == {True}


def test_the_heat_map_lies_over_the_picture_at_the_chosen_opacity(page, service):
    page.goto(service.url)
    give(page, file("high.png", picture(3, 40, 20)))
    expect(page.locator("#overlay")).to_be_enabled()
    assert page.locator("#layer").is_hidden()

    page.keyboard.press("o")
    expect(page.locator("#layer")).to_be_visible()
    expect(page.locator("#verdict")).to_contain_text("Grad-CAM for")
    for _ in range(3):
        page.keyboard.press("]")
    expect(page.locator("#opacity-said")).to_have_text("90 %")
    assert page.locator("#layer").evaluate("node => node.style.opacity") == "0.9"
    layer, canvas = page.locator("#layer").bounding_box(), page.locator("#picture").bounding_box()
    assert layer["height"] / layer["width"] == pytest.approx(2, rel=0.02)  # the picture's shape, not its frame's
    assert layer["x"] >= canvas["x"] - 1
    page.get_by_role("button", name="Heat map").click()
    expect(page.locator("#layer")).to_be_hidden()


def test_a_sixteen_bit_image_is_seen_through_a_window(page, service):
    ramp = np.tile(np.linspace(1000, 3000, 64).astype(np.uint16), (64, 1))
    stream = io.BytesIO()
    Image.fromarray(ramp).save(stream, "PNG")
    page.goto(service.url)
    give(page, file("deep.png", stream.getvalue()))

    expect(page.locator("#window-said")).to_contain_text("10")
    expect(page.locator("#warnings")).to_contain_text("12 bits")
    fitted = grey(page)
    assert fitted[0, 0] == 0
    assert fitted[0, -1] >= 250
    assert (np.diff(fitted[0]) >= 0).all()
    page.locator("#window-width").evaluate("node => { node.value = 200; node.dispatchEvent(new Event('input')) }")
    narrow = grey(page)
    assert ((narrow > 0) & (narrow < 255)).mean() == pytest.approx(0.2, abs=0.05)
    page.get_by_role("button", name="Invert").click()
    assert np.array_equal(grey(page), 255 - narrow)
    page.keyboard.press("i")
    page.keyboard.press("f")
    assert np.array_equal(grey(page), fitted)
    page.keyboard.press("m")  # the model was trained on 8 bits: 0 to 65535 is one grey here
    assert np.ptp(grey(page)) < 12


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1100, 390])
def test_every_text_can_be_read_and_every_control_has_a_name(page, service, run, theme, width):
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(service.url)
    expect(page.locator("#level")).to_be_visible()
    assert page.evaluate(ACCESSIBILITY) == []
    give(page, file("two.png", training_image(run)), file("deep.png", picture(2, dtype=np.uint16)))
    expect(page.locator("#overlay")).to_be_enabled()
    page.keyboard.press("o")
    page.locator("#window-box").evaluate("node => { node.open = true }")

    assert page.evaluate(ACCESSIBILITY) == []
    page.keyboard.press("d")
    assert page.locator("html").get_attribute("data-theme") == {"light": "dark", "dark": "light"}[theme]
    assert page.evaluate(ACCESSIBILITY) == []
    page.get_by_role("button", name="About this model").click()
    expect(page.locator("#about")).to_contain_text("Saying nothing")
    assert page.evaluate(ACCESSIBILITY) == []


def test_files_can_be_dropped(page, service):
    page.goto(service.url)
    data = page.evaluate_handle(
        """(bytes) => { const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], "dropped.png")); return transfer; }""",
        list(picture(4)),
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": data})

    expect(page.locator("#list button")).to_contain_text("dropped.png")
    expect(page.locator("#progress")).to_contain_text("1 scored")


def test_a_folder_can_be_chosen(page, service, tmp_path):
    (tmp_path / "inner").mkdir()
    for number, name in enumerate(("a.png", "inner/b.png", ".DS_Store")):
        (tmp_path / name).write_bytes(picture(number))
    page.goto(service.url)
    page.set_input_files("#folder", tmp_path)

    expect(page.locator("#progress")).to_contain_text("2 scored")


def test_a_service_with_a_token_asks_for_it_and_a_bundle_says_what_it_lacks(page, bundled):
    page.goto(bundled.url)
    expect(page.locator("#token-form")).to_be_visible()
    assert page.locator("#drop").is_hidden()
    page.fill("#token", "a-token-of-another-length")
    page.keyboard.press("Enter")
    expect(page.locator("#model")).to_contain_text("token")
    page.fill("#token", "a-token-of-some-length")
    page.keyboard.press("Enter")
    expect(page.locator("#drop")).to_be_visible()
    expect(page.locator("#level")).to_have_text("Test not known")
    give(page, *(file(f"{number}.png", picture(number)) for number in range(10)))

    expect(page.locator("#alike-said")).to_contain_text("bundle holds no images")
    expect(page.locator("#verdict")).to_contain_text("not checked")
    answered = page.locator("#list .said").all_text_contents()
    assert all("no answer" in said or said.split()[0] in CLASSES for said in answered)
    page.goto(f"{bundled.url}docs")
    assert page.evaluate("() => document.querySelectorAll('h2').length") > 8


def test_the_address_can_carry_the_token_and_forgets_it(page, bundled):
    page.goto(f"{bundled.url}#token=a-token-of-some-length")
    expect(page.locator("#drop")).to_be_visible()
    expect(page.locator("#level")).to_be_visible()

    assert "token" not in page.url


def test_the_routes_page_can_be_read(page, service):
    page.goto(f"{service.url}docs")

    assert [fault for fault in page.evaluate(ACCESSIBILITY) if not fault.startswith("not one")] == []


@pytest.mark.skipif(not os.environ.get("PLAINFILM_AXE"), reason="PLAINFILM_AXE names no axe.min.js")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(page, service, run, theme):
    page.emulate_media(color_scheme=theme)
    page.goto(service.url)
    give(page, file("two.png", training_image(run)), file("deep.png", picture(2, dtype=np.uint16)))
    page.keyboard.press("o")
    with open(os.environ["PLAINFILM_AXE"], encoding="utf-8") as script:
        page.evaluate(script.read())

    found = page.evaluate("() => axe.run().then((told) => told.violations.map(({ id, nodes }) => [id, nodes[0].html]))")
    assert found == []


def test_the_rows_of_the_scores_stand_below_one_another_in_one_grid(page, service, run):
    page.goto(service.url)
    give(page, file("one.png", training_image(run)))

    lefts = page.eval_on_selector_all(
        "#scores tbody tr",
        "rows => rows.map(row => [...row.cells].map(cell => Math.round(cell.getBoundingClientRect().x)))",
    )
    assert len(lefts) == 2
    assert lefts[0] == lefts[1]
