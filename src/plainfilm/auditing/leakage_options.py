"""When leakage warns, and when it fails."""

from __future__ import annotations

from pydantic import Field

from plainfilm.auditing.duplicates import DuplicateOptions


class LeakageOptions(DuplicateOptions):
    """When leakage warns, and when it fails. A star marks a convention of plainfilm's own."""

    near_fail: float = Field(
        0.01, gt=0, le=1, description="Share of test images with a near-duplicate outside the test split that fails.*"
    )
    class_loss: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="Copies within one class fail where it would lose this share of its images more than the others.*",
    )
    class_alpha: float = Field(0.01, gt=0, lt=1, description="... and Fisher's p, times the classes, is below this.")
    copy_contrast: float = Field(
        2.5,
        gt=1,
        description="A near-duplicate within a patient is a copy, not the next slice of a stack, where that patient's "
        "other images are this many times as far.*",
    )
    leak_points: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="Gap between image and patient split whose lower bound fails; 0.02 is two points.*",
    )
    lag_deviations: float = Field(
        10.0, gt=0, description="Median absolute deviations by which a peak in the order of files stands out.*"
    )
    leak_draws: int = Field(2_000, ge=100, description="Bootstrap draws of patients behind each interval.")
    leak_seed: int = Field(0, ge=0, description="Seed of the draws and of the divisions compared.")
    most_openings: int = Field(1, ge=1, description="How often a test set may be scored without a warning.*")
