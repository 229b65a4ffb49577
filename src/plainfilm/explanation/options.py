"""What an explanation shows, and how hard it is checked: one small frozen class."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Box = tuple[float, float, float, float]


class ExplainOptions(BaseModel):
    """Which methods explain which images, and what is done to the images to try the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    methods: tuple[str, ...] = Field(
        ("gradcam", "hirescam", "gradient"), min_length=1, description="Methods of explanation; 'list' names them all."
    )
    all_methods: bool = Field(False, description="Show also methods that fail the randomisation check.")
    target_class: str = Field(
        "predicted", description="The class whose score is explained: 'predicted', 'truth', or the name of a class."
    )
    target_layer: str | None = Field(
        None, description="Layer whose map Grad-CAM and its kin weigh; by default the last with a map worth drawing."
    )
    most_images: int = Field(24, ge=1, le=500, description="Images to explain, chosen evenly over the classes.")
    of_fold: int = Field(1, ge=1, description="Which fold's model is explained, where there are several.")
    check_images: int = Field(
        24,
        ge=0,
        le=500,
        description="Images of the randomisation check; 0 leaves it out.",
    )
    check_steps: int = Field(3, ge=2, le=50, description="Steps from a random head to a wholly random network.")
    check_draws: int = Field(2, ge=1, le=50, description="Random networks compared with the trained one at each step.")
    check_seed: int = Field(0, ge=0, lt=2**32, description="Seed of the random networks and of control patches.")
    occlusion_window: float = Field(
        0.125, gt=0, le=0.5, description="Side of the patch that occlusion covers, as a share of the image's."
    )
    occlusion_stride: float = Field(0.0625, gt=0, le=0.5, description="How far it moves, likewise.")
    maps: str | None = Field(None, description="Draw the feature maps of this layer for the first image.")
    mask_marks: bool = Field(
        False, description="Paint out small printed marks (letters, arrows), and see how scores change."
    )
    mask_box: tuple[str, ...] = Field(
        (), description="Paint out 'x0,y0,x1,y1', as shares of the width and height the model sees; may be repeated."
    )
    paste: tuple[Literal["L", "R", "arrow"], ...] = Field(
        (), description="Paste a letter or an arrow into every image, and see how scores change."
    )

    @field_validator("mask_box")
    @classmethod
    def _boxes_can_be(cls, boxes: tuple[str, ...]) -> tuple[str, ...]:
        for box in boxes:
            _read_box(box)
        return boxes

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The boxes of `mask_box` as numbers."""
        return tuple(_read_box(box) for box in self.mask_box)


def _read_box(text: str) -> Box:
    try:
        x0, y0, x1, y1 = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError("a box is four numbers from 0 to 1, 'x0,y0,x1,y1'") from None
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise ValueError("a box is 'x0,y0,x1,y1' with 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1")
    return x0, y0, x1, y1
