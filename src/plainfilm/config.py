"""Every option of a run in one flat TOML file, read into the option classes that stand beside their code."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from plainfilm.abstention import AbstentionOptions
from plainfilm.auditing.options import AuditOptions
from plainfilm.data.augment import AugmentOptions
from plainfilm.data.kept import Keeping
from plainfilm.data.preprocessing import FittingOptions, IntensityOptions
from plainfilm.data.sources import SourceOptions
from plainfilm.data.splits import SplitOptions
from plainfilm.drift import DriftOptions
from plainfilm.errors import UsageError, nearest_name
from plainfilm.measures import EvaluationOptions, SubgroupOptions
from plainfilm.models.options import ModelOptions
from plainfilm.novelty import NoveltyOptions
from plainfilm.operating import OperatingOptions
from plainfilm.storage import cache_folder
from plainfilm.tracking import TrackingOptions
from plainfilm.training.options import TrainingOptions


class ReadingOptions(BaseModel):
    """How much bad input is borne, and by how many workers files are read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bad: int = Field(0, ge=0, description="Labelled files that may be unreadable before training refuses.")
    workers: int | None = Field(None, ge=0, le=256, description="Decoding processes; by default one per processor.")
    keep_images: bool = Field(
        True,
        description="Keep decoded images in the user's cache folder, found by content, without names: what was read "
        "once at one size is not decoded again.",
    )

    @property
    def keeping(self) -> Keeping | None:
        """Where decoded images are kept, if they are."""
        return Keeping(cache_folder()) if self.keep_images else None


class ReportOptions(BaseModel):
    """What the report shows beside the numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gallery: bool = Field(
        True, description="Heat maps beside the example pictures, where their method passes the randomisation check."
    )


SECTIONS: dict[str, type[BaseModel]] = {
    "source": SourceOptions,
    "reading": ReadingOptions,
    "split": SplitOptions,
    "fitting": FittingOptions,
    "intensity": IntensityOptions,
    "model": ModelOptions,
    "augment": AugmentOptions,
    "training": TrainingOptions,
    "abstention": AbstentionOptions,
    "novelty": NoveltyOptions,
    "drift": DriftOptions,
    "evaluation": EvaluationOptions,
    "operating": OperatingOptions,
    "audit": AuditOptions,
    "subgroups": SubgroupOptions,
    "report": ReportOptions,
    "tracking": TrackingOptions,
}
SECTION_OF = {name: section for section, options in SECTIONS.items() for name in options.model_fields}
assert len(SECTION_OF) == sum(len(options.model_fields) for options in SECTIONS.values()), "an option name occurs twice"


class RunOptions(BaseModel):
    """All options of a training, by what they are about."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: SourceOptions = SourceOptions()
    reading: ReadingOptions = ReadingOptions()
    split: SplitOptions = SplitOptions()
    fitting: FittingOptions = FittingOptions()
    intensity: IntensityOptions = IntensityOptions()
    model: ModelOptions = ModelOptions()
    augment: AugmentOptions = AugmentOptions()
    training: TrainingOptions = TrainingOptions()
    abstention: AbstentionOptions = AbstentionOptions()
    novelty: NoveltyOptions = NoveltyOptions()
    drift: DriftOptions = DriftOptions()
    evaluation: EvaluationOptions = EvaluationOptions()
    operating: OperatingOptions = OperatingOptions()
    audit: AuditOptions = AuditOptions()
    subgroups: SubgroupOptions = SubgroupOptions()
    report: ReportOptions = ReportOptions()
    tracking: TrackingOptions = TrackingOptions()

    @classmethod
    def from_flat(cls, values: Mapping[str, Any]) -> Self:
        """Options by name alone; every fault is reported, not only the first.

        Raises:
            UsageError: `OPT_INVALID`, naming each unknown option and each bad value.
        """
        faults = [
            f"no option named '{name}'.{nearest_name(name, SECTION_OF)}" for name in values if name not in SECTION_OF
        ]
        faults += [
            f"{name}: true or false says nothing here"
            for name, value in values.items()
            if isinstance(value, bool) and name in SECTION_OF and option_fields()[name].annotation is not bool
        ]
        sections: dict[str, BaseModel] = {}
        for section, options in SECTIONS.items():
            own = {name: value for name, value in values.items() if SECTION_OF.get(name) == section}
            try:
                sections[section] = options.model_validate(own)
            except ValidationError as error:
                faults += describe_faults(error)
        if faults:
            raise UsageError("; ".join(faults), code="OPT_INVALID")
        return cls.model_validate(sections)

    def flat(self) -> dict[str, Any]:
        """All options by name; paths as text."""
        return {
            name: value
            for section in SECTIONS
            for name, value in getattr(self, section).model_dump(mode="json").items()
        }

    def to_toml(self, **more: str) -> str:
        """The options as a TOML file that reruns them; those left at None are not written."""
        parts = [tomli_w.dumps(more)] if more else []
        for section, options in SECTIONS.items():
            values = getattr(self, section).model_dump(mode="json", exclude_none=True)
            heading = (options.__doc__ or section).strip().splitlines()[0]
            parts.append(f"# {heading}\n{tomli_w.dumps(values)}")
        return "\n".join(parts)


def read_options(path: Path) -> dict[str, Any]:
    """The options of a TOML file, by name; not checked yet.

    Raises:
        UsageError: `OPT_FILE` if it is absent or not TOML, or has sections.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise UsageError(f"No options file '{path}'.", code="OPT_FILE") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"'{path}' is not a TOML file: {error}.", code="OPT_FILE") from None
    sections = [name for name, value in values.items() if isinstance(value, dict)]
    if sections:
        raise UsageError(
            f"'{path}' has a section [{sections[0]}]; options are written without sections, one per line.",
            code="OPT_FILE",
        )
    return values


def option_fields() -> dict[str, FieldInfo]:
    """Every option by name, for the command line and the reference page."""
    return {name: SECTIONS[section].model_fields[name] for name, section in SECTION_OF.items()}


def options_schema() -> str:
    """JSON schema of the options file."""
    properties: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    for options in SECTIONS.values():
        schema = options.model_json_schema()
        properties.update(schema["properties"])
        definitions.update(schema.get("$defs", {}))
    schema = {
        "title": "plainfilm options",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }
    return json.dumps(schema | ({"$defs": definitions} if definitions else {}), indent=2)


def describe_faults(error: ValidationError) -> list[str]:
    """What pydantic found, one sentence for each fault, without its type names."""
    return [_sentence(fault) for fault in error.errors()]


def _sentence(fault: Mapping[str, Any]) -> str:
    message = str(fault["msg"]).removeprefix("Value error, ")
    given = fault.get("input")
    shown = f", not {given!r}" if isinstance(given, (str, int, float, bool)) else ""
    where = f"{fault['loc'][0]}: " if fault["loc"] else ""
    return f"{where}{message[:1].lower()}{message[1:]}{shown}"
