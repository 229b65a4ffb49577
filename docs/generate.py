"""Fill the generated parts of the reference pages from the code: `python docs/generate.py`.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`; the words around it are written by
hand. A test fails when a page is not what this program would write.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import plainfilm
from plainfilm.cli import COMMANDS, app
from plainfilm.config import SECTIONS, option_fields
from plainfilm.data.images import REASONS
from plainfilm.errors import PlainfilmError

DOCS = Path(__file__).parent
MARKED = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
SIGNS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def refreshed(page: str) -> str:
    """The text of a page with every generated part written anew."""
    return MARKED.sub(lambda found: f"{found[1]}{PARTS[found[2]]()}\n{found[3]}", page)


def main() -> None:
    """Write every page that has a generated part."""
    for path in sorted(DOCS.rglob("*.md")):
        page = path.read_text("utf-8")
        if refreshed(page) != page:
            path.write_text(refreshed(page), "utf-8")


# --- commands -----------------------------------------------------------------------------------------------


def describe_commands() -> str:
    """Each command with its arguments and its own flags; shared options are named by their section."""
    return "\n".join(
        line for name, (place, summary) in COMMANDS.items() for line in _describe_command(name, place, summary)
    )


def _describe_command(name: str, place: str, summary: str) -> Iterator[str]:
    said = _argument_docs(_command(place))
    arguments = [argument for argument in _app_of(name).assemble_argument_collection() if argument.show]
    own = [argument for argument in arguments if _group(argument) not in SECTIONS]
    shared = {_group(argument) for argument in arguments} & SECTIONS.keys()
    positional = [argument for argument in own if _is_positional(argument)]
    usage = [argument.names[0] if argument.required else f"[{argument.names[0]}]" for argument in positional]
    yield f"\n## {name}\n"
    yield f"{summary}\n"
    yield f"    plainfilm {' '.join([name, *usage, *(['[OPTIONS]'] if len(arguments) > len(positional) else [])])}\n"
    if own:
        yield from _table(("argument", "what", "default"), [_argument_row(argument, said) for argument in own])
    if shared:
        links = [f"[{section}](options.md#{section})" for section in SECTIONS if section in shared]
        yield f"\nAnd the options about: {', '.join(links)}."


def _command(place: str) -> Callable[..., None]:
    module, _, function = place.partition(":")
    command: Callable[..., None] = getattr(import_module(f"plainfilm.commands.{module}"), function)
    return command


def _app_of(name: str) -> Any:
    found = app
    for word in name.split():
        found = found[word]
    return found


def _argument_row(argument: Any, said: dict[str, str]) -> tuple[str, ...]:
    shown = argument.names[0] if _is_positional(argument) else ", ".join(f"`{name}`" for name in argument.names)
    choices = argument.get_choices()
    values = f" One of {', '.join(choices)}." if choices else ""
    default = argument.field_info.default
    what = argument.parameter.help or said[_field_name(argument)]
    default = ", ".join(default) if isinstance(default, tuple) else default
    is_shown = isinstance(default, str | Path | int | float) and default is not False
    return shown, what + values, f"`{default}`" if is_shown else ""


def _group(argument: Any) -> str:
    """The section of an option, or where a command keeps its own arguments."""
    return str(argument.parameter.group[0].name).lower()


def _is_positional(argument: Any) -> bool:
    return not argument.names[0].startswith("-")


def _field_name(argument: Any) -> str:
    return str(argument.names[0]).lstrip("-").replace("-", "_").lower()


def _argument_docs(function: Callable[..., Any]) -> dict[str, str]:
    """What a docstring says of each argument, and those of option classes of their attributes."""
    hints = get_type_hints(function).values()
    classes = [kind for hint in hints for kind in (hint, *get_args(hint)) if is_dataclass(kind)]
    said: dict[str, str] = {}
    for thing in (*classes, function):
        block = re.split(r"^(?:Args|Attributes):\n", inspect.getdoc(thing) or "", flags=re.MULTILINE)[-1]
        found = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", block, re.MULTILINE)
        said |= {name.rstrip("_"): " ".join(text.split()) for name, text in found}
    return said


# --- options ------------------------------------------------------------------------------------------------


def describe_options() -> str:
    """Every option, by section, with its values and its default."""
    fields = option_fields()
    lines = []
    for section, options in SECTIONS.items():
        lines += [f"\n## {section}\n", f"{_first_line(options)}\n"]
        rows = [_option_row(name, fields[name]) for name in options.model_fields]
        lines += _table(("option", "values", "default", "what"), rows)
    return "\n".join(lines)


def _option_row(name: str, field: Any) -> tuple[str, ...]:
    default = field.get_default(call_default_factory=True)
    shown = "" if default in (None, ()) else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    return f"`{name}`", _values(field), shown, field.description


def _values(field: Any) -> str:
    """What an option may be: its choices, or its type and range."""
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in kinds)
    if get_origin(field.annotation) is tuple:
        return "names"
    kind = kinds[0] if kinds else field.annotation
    words = {bool: "`true`, `false`", int: "whole number", float: "number", str: "text", Path: "path"}
    limits = [
        f"{said} {getattr(limit, sign)}"
        for limit in field.metadata
        for sign, said in SIGNS.items()
        if hasattr(limit, sign)
    ]
    return ", ".join([words[kind], *limits])


# --- reason codes and public names --------------------------------------------------------------------------


def describe_image_codes() -> str:
    """Why an image is refused."""
    rows = [(f"`{code}`", said) for code, said in REASONS.items()]
    return "\n".join(_table(("code", "what it means, and what to do"), rows))


def describe_names() -> str:
    """The public names of the package: how functions are called, and what classes hold."""
    things = {name: getattr(plainfilm, name) for name in plainfilm.__all__ if not name.startswith("__")}
    lines = []
    for name, thing in things.items():
        lines += [f"\n## {name}\n", _first_line(thing)]
        if inspect.isfunction(thing):
            lines.append(f"\n```text\n{name}{_signature(thing)}\n```")
        else:
            lines.append(f"\nHolds: {', '.join(f'`{member}`' for member in _members(thing))}.")
    return "\n".join(lines)


def _signature(function: Callable[..., Any]) -> str:
    """One parameter a line."""
    signature = inspect.signature(function)
    parts: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        parts.append(f"{parameter.name}: {parameter.annotation}{default}")
    listed = "".join(f"    {part},\n" for part in parts)
    return f"(\n{listed}) -> {signature.return_annotation}"


def _members(kind: type) -> list[str]:
    """Public fields, properties and methods, in the order in which they are written."""
    if issubclass(kind, PlainfilmError):
        return ["code", "exit_code"]
    names = [*inspect.get_annotations(kind), *vars(kind)]
    return list(dict.fromkeys(name for name in names if not name.startswith(("_", "model_"))))


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").splitlines()[0]


def _table(heading: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    body = [heading, ("---",) * len(heading), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in body]


PARTS: dict[str, Callable[[], str]] = {
    "commands": describe_commands,
    "options": describe_options,
    "image-codes": describe_image_codes,
    "names": describe_names,
}

if __name__ == "__main__":
    main()
