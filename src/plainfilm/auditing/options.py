"""Whether there is an audit, which of its failures are borne, and where its limits are other than the usual ones."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator


class AuditOptions(BaseModel):
    """Whether there is an audit, and which of its failures are borne."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    audit: bool = Field(
        True, description="Look for leakage and shortcuts before training, and put the score to the test after it."
    )
    accept: tuple[str, ...] = Field(
        (),
        description='Failures that are borne, as CHECK=REASON, such as "A2=copies are meant"; printed in the report.',
    )
    limits: Path | None = Field(
        None, description="TOML file with other limits for the checks; see 'plainfilm config --audit-limits'."
    )

    leak_gap: bool = Field(
        False,
        description="With --split image: train the same a second time with whole patients held out, and give both "
        "scores with the interval of their difference; takes twice as long.",
    )
    backbone: str | None = Field(
        None,
        description="Model whose frozen features the probe of shuffled patches (B6) asks, such as resnet18; by "
        "default the run's own, where it began from trained weights.",
    )
    backbone_weights: str | None = Field(
        None, description="'pretrained' for the backbone's weights of its own hub, or a .safetensors file."
    )

    @field_validator("accept")
    @classmethod
    def _has_reasons(cls, accept: tuple[str, ...]) -> tuple[str, ...]:
        for each in accept:
            check, equals, reason = each.partition("=")
            if not (check.strip() and equals and reason.strip()):
                raise ValueError(f"'{each}' is not CHECK=REASON")
        return accept

    @property
    def accepted(self) -> dict[str, str]:
        """Reasons by check."""
        return {check.strip(): reason.strip() for check, _, reason in (each.partition("=") for each in self.accept)}
