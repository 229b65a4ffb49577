"""The shape of the package: imports go one way, the public names are listed, nothing executes what it reads."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import plainfilm

SOURCE = Path(plainfilm.__file__).parent

# What a module may import stands before it. A folder counts as one.
ORDER = (
    "errors",
    "progress",
    "storage",
    "team",
    "metrics",
    "pairing",
    "calibration",
    "abstention",
    "calling",
    "novelty",
    "learning_curve",
    "data",
    "drift",
    "models",
    "training",
    "pretraining",
    "bundle",
    "hub",
    "features",
    "prediction",
    "exporting",
    "measures",
    "sampling",
    "reliability",
    "subgroups",
    "evaluation",
    "sitewise",
    "operating",
    "fold_thresholds",
    "comparison",
    "plots",
    "pages",
    "exploration",
    "explanation",
    "dicom_results",
    "bridging",
    "auditing",
    "mlflow_logger",
    "tracking",
    "config",
    "runs",
    "trials",
    "reporting",
    "summaries",
    "verbs",
    "web",
    "catalogue",
    "recipes",
    "demonstration",
    "machine",
    "terminal",
    "commands",
    "cli",
)

MODULES = sorted(path for path in SOURCE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Modules of plainfilm that a file imports, anywhere in it, without the leading `plainfilm.`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "plainfilm":
            inner = (node.module or "").removeprefix("plainfilm").removeprefix(".")
            for alias in node.names:
                target = f"{inner}.{alias.name}".strip(".")
                is_module = (SOURCE / (target.replace(".", "/") + ".py")).exists()
                found.add(target if is_module else inner)
    return frozenset(name for name in found if name)


def family(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_up_the_list(path):
    own = name_of(path)
    if not own:
        return  # the package itself only names what each module offers
    assert family(own) in ORDER, f"{own} has no place in the order"
    for imported in imports_of(path):
        assert ORDER.index(family(imported)) <= ORDER.index(family(own)), f"{own} imports {imported}"


def test_no_import_goes_round_in_a_circle():
    graph = {name_of(path): imports_of(path) for path in MODULES}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_every_public_name_can_be_had():
    for name in plainfilm.__all__:
        assert getattr(plainfilm, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        plainfilm.trian  # noqa: B018


RUNS_WHAT_IT_READS = {"pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal", "yaml", "code", "runpy"}
RUNS_ITS_ARGUMENT = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "torch.load",
    "torch.jit.load",
    "torch.hub.load",
    "os.popen",
}
RUNS_ITS_ARGUMENT |= {"os.system", "pd.read_pickle", "pandas.read_pickle", "torch.package.PackageImporter"}
MAY_UNPICKLE = {"np.load", "np.lib.format.read_array"}  # unless told not to


def what_it_would_run(tree: ast.AST) -> list[str]:
    """Imports and calls by which data could become code."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            names = {module.split(".")[0], *(alias.name.split(".")[0] for alias in node.names)}
            loads = module == "torch" and any(alias.name == "load" for alias in node.names)
            found += sorted(names & RUNS_WHAT_IT_READS) + ["torch.load"] * loads
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if called in RUNS_ITS_ARGUMENT or given.get("shell", "False") != "False":
                found.append(called)
            if (called in MAY_UNPICKLE or "allow_pickle" in given) and given.get("allow_pickle") != "False":
                found.append(f"{called} without allow_pickle=False")
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_executes_what_it_reads(path):
    assert what_it_would_run(ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from torch import load",
        "torch.load(path)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
        "subprocess.run(text, shell=True)",
        "eval(text)",
    ],
)
def test_what_executes_would_be_found(line):
    assert what_it_would_run(ast.parse(line))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["scan", "--help"]])
def test_help_loads_no_deep_learning_library(arguments):
    program = (
        "import sys\n"
        "from plainfilm.cli import run\n"
        "try:\n"
        f"    run({arguments!r})\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'torch', 'timm', 'torchvision', 'kornia', 'lightning_fabric', 'sklearn', 'matplotlib', 'mlflow'}\n"
        "sys.exit(f'{sorted(heavy & set(sys.modules))}' if heavy & set(sys.modules) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout
