"""A folder that a machine without a network needs, and no more: the model, its papers, and how to install."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from plainfilm.bundle import CARD, ONNX, BundleConfig, find_bundles, put_onnx, read_config
from plainfilm.errors import BundleError, UsageError
from plainfilm.exporting.reading import OnnxModel, read_onnx
from plainfilm.storage import (
    MANIFEST,
    check_hash,
    delete,
    is_temporary,
    make_folder,
    noted_hash,
    verify_manifest,
    write_bytes,
    write_manifest,
    write_text,
)

REQUIREMENTS = "requirements.txt"
LICENCES = "LICENCES.md"
LICENCE = "LICENSE"
OWN = "plainfilm"
EXTRAS = ("onnx",)


def exported_model(place: Path) -> OnnxModel:
    """The `model.onnx` of a run, of a bundle or of an exported folder, if it is of the same weights.

    Raises:
        BundleError: `BUN_MISSING` if there is none; `BUN_MISMATCH` if it was made of other weights; as `read_onnx`.
    """
    folders = find_bundles(place)
    configs = [read_config(folder) for folder in folders]
    holder = folders[0] if len(folders) == 1 else place
    path = holder / ONNX
    noted = noted_hash(holder, ONNX)
    if noted is None or not path.is_file():
        raise BundleError(f"there is no '{ONNX}' here. Write it with: plainfilm export RUN.", code="BUN_MISSING")
    check_hash(path, noted, shown=ONNX)
    model = read_onnx(path)
    check_same_model(model, configs)
    return model


def check_same_model(model: OnnxModel, configs: Sequence[BundleConfig]) -> None:
    """Refuse a file that was exported from other weights, or whose scores have other names.

    Raises:
        BundleError: `BUN_MISMATCH`.
    """
    hashes = tuple(config.weights_sha256 for config in configs)
    if model.facts.sha256_weights != hashes or model.facts.classes != configs[0].classes:
        raise BundleError(
            f"'{ONNX}' was exported from other weights. Write it again with: plainfilm export RUN.",
            code="BUN_MISMATCH",
        )


# --- written ------------------------------------------------------------------------------------------------


def is_export(folder: Path) -> bool:
    """Whether `export --folder` wrote this."""
    return (folder / REQUIREMENTS).is_file() and (folder / MANIFEST).is_file()


def check_folder(folder: Path) -> None:
    """Check every file of an exported folder; anything else is left alone.

    Raises:
        BundleError: `BUN_MISSING`, `BUN_DAMAGED`, `BUN_EXTRA` or `BUN_OUTSIDE`.
    """
    if not is_export(folder):
        return
    named = verify_manifest(folder, required=[CARD, REQUIREMENTS, LICENCES])
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or (path.is_file() and name not in named and name != MANIFEST):
            raise BundleError(f"'{name[:80]}' is no part of this export; take it out.", code="BUN_EXTRA")


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Refuse a place that holds something other than an export that may be replaced.

    Raises:
        UsageError: `OUT_EXISTS` or `OUT_STRANGE`.
    """
    if folder.is_file():
        raise UsageError(f"'{folder}' is a file; --folder names a folder.", code="OUT_EXISTS")
    held = [path for path in folder.iterdir() if not is_temporary(path)] if folder.is_dir() else []
    if held and not is_export(folder):
        raise UsageError(f"'{folder}' holds something that is not an export. Choose another.", code="OUT_STRANGE")
    if held and not overwrite:
        raise UsageError(f"'{folder}' is not empty. Choose another; --overwrite replaces it.", code="OUT_EXISTS")


def write_folder(folder: Path, bundles: Sequence[Path], data: bytes) -> None:
    """Write the bundles, the ONNX file, licence notes and a README into a folder; the manifest of it all last."""
    make_folder(folder)
    delete(folder / MANIFEST)
    for path in folder.iterdir():
        delete(path)
    configs = [read_config(bundle) for bundle in bundles]
    for bundle, place in zip(bundles, _places(folder, len(bundles)), strict=True):
        named = [name for name in verify_manifest(bundle) if name != ONNX]
        make_folder(place)
        for name in [*named, CARD]:
            if (bundle / name).is_file():
                write_bytes(place / name, (bundle / name).read_bytes())
        write_manifest(place, named)
    if len(bundles) == 1:
        put_onnx(folder / "bundle", data)
    else:
        write_bytes(folder / ONNX, data)
    packages = sorted(installed_packages(OWN, EXTRAS).items(), key=lambda item: item[0].lower())
    write_text(folder / REQUIREMENTS, "".join(f"{name}=={version}\n" for name, version in packages if name != OWN))
    write_text(folder / LICENCES, _licences(configs[0], [name for name, _ in packages]))
    write_text(folder / LICENCE, _own_licence())
    write_text(folder / CARD, _readme(configs, has_folds=len(bundles) > 1))
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    write_manifest(folder, [name for name in files if name != MANIFEST])


def _places(folder: Path, n_bundles: int) -> list[Path]:
    if n_bundles == 1:
        return [folder / "bundle"]
    return [folder / "folds" / str(number) / "bundle" for number in range(1, n_bundles + 1)]


# --- what goes with it --------------------------------------------------------------------------------------


def installed_packages(name: str, extras: Sequence[str] = ()) -> dict[str, str]:
    """The versions of a package here, and of all that it needs with these extras.

    Args:
        name: As `pip` knows it.
        extras: Of this package.
    """
    from packaging.requirements import Requirement

    found: dict[str, str] = {}
    waiting = [(name, tuple(extras))]
    seen = set()
    while waiting:
        asked, wanted = waiting.pop()
        if (_plain(asked), wanted) in seen:
            continue
        seen.add((_plain(asked), wanted))
        try:
            package = metadata.distribution(asked)
        except metadata.PackageNotFoundError:  # of another system, or another Python
            continue
        found[package.metadata["Name"]] = package.version.partition("+")[0]  # a local build's mark is not published
        for line in package.requires or []:
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *wanted)):
                waiting.append((requirement.name, tuple(sorted(requirement.extras))))
    return found


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _licences(config: BundleConfig, packages: Sequence[str]) -> str:
    """Who wrote what is used here, and under which terms."""
    rows = "\n".join(f"| {name} | {_cell(_licence_of(name))} |" for name in packages)
    return f"""# Licences

- This model's weights began from: {config.weights_licence or "random numbers; no published weights"}. What was learnt
  from your images is yours, within the terms of those weights and of the images.
- plainfilm: Apache-2.0, see `{LICENCE}`.
- Packages that `{REQUIREMENTS}` names, as their own files state it:

| package | licence |
|---|---|
{rows}
"""


def _licence_of(name: str) -> str:
    """What a package says of its licence, in a few words."""
    about = metadata.metadata(name)
    named = about.get_all("License-Expression")
    if named:
        return str(named[0])
    classified = [line.rpartition(" :: ")[2] for line in about.get_all("Classifier") or [] if line.startswith("Licen")]
    if classified:
        return ", ".join(classified)
    first = "".join(about.get_all("License") or []).strip().partition("\n")[0]
    return first[:80] or "see its own files"


def _cell(text: str) -> str:
    return text.replace("|", "/")


def _own_licence() -> str:
    """The text of plainfilm's licence, from wherever it is installed."""
    for file in metadata.files(OWN) or []:
        if file.name == LICENCE:
            return file.read_text("utf-8")
    return "plainfilm is licensed under the Apache License, Version 2.0.\n"


def _readme(configs: Sequence[BundleConfig], *, has_folds: bool) -> str:
    """The commands, in the order in which they are typed."""
    config = configs[0]
    python = ".".join(platform.python_version_tuple()[:2])
    where = "`folds`" if has_folds else "`bundle`"
    onnx = ONNX if has_folds else f"bundle/{ONNX}"
    return f"""# {config.architecture.name}, for a machine without a network

Research software, not a medical device.

| here | what |
|---|---|
| {where} | the model with its card (`{CARD}`): weights, classes, preprocessing, calibration |
| `{onnx}` | the same model as one ONNX file; it can be used without this program |
| `{REQUIREMENTS}` | the packages, with the versions that this model was exported with |
| `{LICENCES}`, `{LICENCE}` | terms of the weights, of plainfilm and of the packages |
| `{MANIFEST}` | SHA-256 of every file; checked before every prediction |

## 1. Where there is a network

With Python {python} and the same system as the other machine ({platform.system()}, {platform.machine()}), beside this
folder; PLAINFILM is plainfilm's source folder:

```text
python -m pip download --dest wheels --requirement THIS_FOLDER/{REQUIREMENTS}
python -m pip wheel --no-deps --wheel-dir wheels PLAINFILM
```

Carry this folder and `wheels` over.

## 2. Where there is none

```text
python -m venv venv
venv/bin/python -m pip install --no-index --find-links wheels 'plainfilm[{",".join(EXTRAS)}]'
```

Then, in this folder:

```text
HF_HUB_OFFLINE=1 ../venv/bin/plainfilm predict . IMAGES --output ../scores.csv
HF_HUB_OFFLINE=1 ../venv/bin/plainfilm predict . IMAGES --engine onnx --output ../scores.csv
```

Write results outside of this folder, and keep the environment outside of it: a file that the manifest does not name is
refused.
"""
