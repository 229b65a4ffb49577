"""When each check warns and fails: all limits in one place, to be read from a file and printed."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError

from plainfilm.auditing.attention import AttentionOptions
from plainfilm.auditing.controls import ControlOptions
from plainfilm.auditing.dependence import DependenceOptions
from plainfilm.auditing.labels import LabelOptions
from plainfilm.auditing.leakage_options import LeakageOptions
from plainfilm.auditing.patients import RecoveryOptions
from plainfilm.auditing.potential import PotentialOptions
from plainfilm.auditing.precision import PrecisionOptions
from plainfilm.auditing.probes import ShortcutOptions
from plainfilm.auditing.probing import ProbeOptions
from plainfilm.errors import UsageError, nearest_name


class AuditLimits(BaseModel):
    """The limits of all checks, by what they are about; those that are plainfilm's own conventions carry a star."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recovery: RecoveryOptions = RecoveryOptions()
    leakage: LeakageOptions = LeakageOptions()
    probing: ProbeOptions = ProbeOptions()
    shortcuts: ShortcutOptions = ShortcutOptions()
    dependence: DependenceOptions = DependenceOptions()
    controls: ControlOptions = ControlOptions()
    labels: LabelOptions = LabelOptions()
    precision: PrecisionOptions = PrecisionOptions()
    potential: PotentialOptions = PotentialOptions()
    attention: AttentionOptions = AttentionOptions()

    def to_toml(self) -> str:
        """All limits as a TOML file, each under what it means."""
        parts = []
        for section, limits in self:
            parts.append(f"[{section}]")
            for name, field in type(limits).model_fields.items():
                value = getattr(limits, name)
                line = tomli_w.dumps({name: value}).strip() if value is not None else f"# {name} ="
                parts += [f"# {field.description}", line]
            parts.append("")
        return "\n".join(parts)


def read_limits(path: Path | None) -> AuditLimits:
    """The limits of a TOML file, the usual ones for all that it does not name.

    Raises:
        UsageError: `AUD_LIMITS`, naming the first fault.
    """
    if path is None:
        return AuditLimits()
    try:
        given = tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise UsageError(f"No file of limits '{path}'.", code="AUD_LIMITS") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"'{path}' is not a TOML file: {error}.", code="AUD_LIMITS") from None
    _check_names(given, path)
    try:
        return AuditLimits.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"'{path}': {where}: {first['msg']}.", code="AUD_LIMITS") from None


def _check_names(given: dict[str, Any], path: Path) -> None:
    """A wrong name is answered with the nearest there is."""
    sections = AuditLimits.model_fields
    for section, values in given.items():
        if section not in sections:
            raise UsageError(f"'{path}': no section [{section}].{nearest_name(section, sections)}", code="AUD_LIMITS")
        known = type(sections[section].default).model_fields
        for name in values if isinstance(values, dict) else ():
            if name not in known:
                raise UsageError(
                    f"'{path}': no limit '{name}' in [{section}].{nearest_name(name, known)}", code="AUD_LIMITS"
                )
