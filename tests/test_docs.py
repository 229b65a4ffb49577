"""The documentation is true: its examples run, its commands parse, its links lead somewhere, its pages are current."""

import importlib.util
import re
import shlex
import tempfile
import tomllib
from pathlib import Path

import pytest

import plainfilm
from plainfilm.cli import COMMANDS, app
from plainfilm.config import RunOptions

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(
    r"\b(?:AUD|BUN|CMP|DAT|DCM|DEV|EVL|EXP|HUB|IMG|NII|ONX|OPT|OUT|PHA|PRD|PRE|RCP|REQ|RES|RUN|SKIP|SPL|SRV|TAB|TRK|TRN|XAI)"
    r"_[A-Z_]*[A-Z]\b"
)
OTHER_PROGRAMS = {"python", "python3", ".venv/bin/python"}


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=page_id)


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in these languages."""
    return [body for language, body in FENCED.findall(page.read_text("utf-8")) if language in languages]


def prose(page: Path) -> str:
    return FENCED.sub("", page.read_text("utf-8"))


def typed_lines(page: Path) -> list[list[str]]:
    """What a reader would type: lines after `$` in console blocks, every line of bash blocks; as words."""
    console = [line[2:] for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")]
    bash = [line for block in blocks(page, "bash") for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in [*console, *bash]]
    return [line for line in words if line]


@pytest.fixture(scope="module")
def generator():
    """The program `docs/generate.py`."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- examples -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=page_id)
def test_the_python_examples_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    namespace = {"__name__": "example"}

    for number, block in enumerate(blocks(page, "python"), start=1):
        exec(compile(block, f"{page_id(page)}, example {number}", "exec"), namespace)


@every_page
def test_command_lines_parse(page):
    for program, *arguments in typed_lines(page):
        if program == "plainfilm":
            app.parse_args(arguments, exit_on_error=False, print_error=False)
        elif program == "make":
            assert re.search(rf"^{re.escape(arguments[0])}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        else:
            assert program in OTHER_PROGRAMS, f"{program} is not known to be there"


def test_a_wrong_flag_would_be_noticed():
    with pytest.raises(Exception, match="--epohs"):
        app.parse_args(["train", "images", "--epohs", "3"], exit_on_error=False, print_error=False)


@every_page
def test_options_files_hold_options(page):
    for block in blocks(page, "toml"):
        values = tomllib.loads(block)
        values.pop("data", None)
        RunOptions.from_flat(values)


def test_the_scan_of_the_tutorial_prints_what_the_page_says(tmp_path, monkeypatch, capsys):
    from plainfilm.cli import run

    monkeypatch.chdir(tmp_path)
    said = [
        block.splitlines()
        for block in blocks(ROOT / "docs" / "tutorial.md", "console")
        if block.startswith(("$ plainfilm phantoms brains", "$ plainfilm scan"))
    ]
    assert len(said) == 2
    for command, *printed in said:
        assert run(shlex.split(command)[2:]) == 0
        assert capsys.readouterr().out.splitlines() == printed


# --- links --------------------------------------------------------------------------------------------------


@every_page
def test_links_and_pictures_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        place, _, heading = target.partition("#")
        linked = (page.parent / place).resolve() if place else page
        assert linked.exists(), target
        assert linked.is_relative_to(ROOT), target
        if heading:
            headings = re.findall(r"^#+ (.+)$", linked.read_text("utf-8"), re.MULTILINE)
            assert heading in [name.casefold().replace(" ", "-") for name in headings], target


@every_page
def test_no_page_names_an_outside_host(page):
    assert not re.findall(r"\w+://(?!127\.0\.0\.1[:/])|\bwww\.", page.read_text("utf-8"))


def test_every_page_can_be_reached_from_the_index():
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)\)", prose(index))}

    assert {page for page in PAGES if "docs" in page.parts} <= {*linked, index}


def test_the_pictures_are_small():
    for picture in (ROOT / "docs" / "images").iterdir():
        assert picture.stat().st_size < 400_000, picture.name


# --- the reference is current -------------------------------------------------------------------------------


@every_page
def test_generated_parts_are_current(page, generator):
    text = page.read_text("utf-8")

    assert generator.refreshed(text) == text, "run: python docs/generate.py"


def test_the_reference_names_every_command_option_and_public_name():
    reference = {page.stem: page.read_text("utf-8") for page in (ROOT / "docs" / "reference").glob("*.md")}

    assert all(f"\n## {name}\n" in reference["commands"] for name in COMMANDS)
    assert all(f"| `{name}` |" in reference["options"] for name in RunOptions().flat())
    assert all(f"\n## {name}\n" in reference["api"] for name in plainfilm.__all__ if not name.startswith("__"))


def test_the_codes_that_are_raised_are_the_codes_that_are_documented():
    source = "\n".join(path.read_text("utf-8") for path in Path(plainfilm.__file__).parent.rglob("*.py"))
    raised = {code for text in re.findall(r'"([A-Z_]+)"', source) for code in CODE.findall(text)}
    documented = set(CODE.findall((ROOT / "docs" / "reference" / "codes.md").read_text("utf-8")))

    assert raised - documented == set(), "add them to docs/reference/codes.md"
    assert documented - raised == set(), "no code raises them any more"


@every_page
def test_every_code_that_a_page_names_exists(page):
    documented = set(CODE.findall((ROOT / "docs" / "reference" / "codes.md").read_text("utf-8")))

    assert set(CODE.findall(page.read_text("utf-8"))) <= documented


def test_the_versions_agree():
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")

    assert f"\nversion: {plainfilm.__version__}\n" in citation
    assert f"## [{plainfilm.__version__}]" in changes
