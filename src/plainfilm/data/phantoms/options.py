"""What can be asked for: the phantoms, and the faults planted in them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, get_args

from plainfilm.errors import UsageError

Kind = Literal["brain", "chest"]
FileNames = Literal["patient", "interleaved", "shuffled"]
FileFormat = Literal["png", "dicom", "dicom-monochrome1", "dicom-ct", "dicom-multiframe"]

BIT_DEPTHS = (8, 12, 16)


@dataclass(frozen=True, kw_only=True)
class PhantomOptions:
    """What is drawn. The same options give the same bytes (same machine and library versions).

    Attributes:
        kind: `brain` (stacks of neighbouring slices) or `chest` (repeat films).
        patients: How many; their ids are P001, P002, ...
        images_per_patient: A number, or `(low, high)` for unequal stacks.
        classes: From the least to the most severe; each gets the same number of patients, give or take one.
        size: Height and width in pixels, 32 or more.
        bits: 8, 12 (stored in 16) or 16.
        noise: Standard deviation as a share of full range; Rician for brains, Gaussian for chests.
        sites: How many scanners, each with its own contrast, sharpness and noise.
        effect: Strength of the class signal; 0 leaves nothing of the class in the pixels.
        file_names: `patient` (`P007_03.png`), `interleaved` (numbered slice by slice over the patients of a
            class, as in public sets that lost their ids) or `shuffled` (numbered in random order).
        format: `png`, `dicom` (MONOCHROME2), `dicom-monochrome1`, `dicom-ct` with a rescale and a window, or
            `dicom-multiframe`: one file for each patient, without faults.
        seed: 0 or more.

    Raises:
        UsageError: `PHA_OPTIONS`, naming every option that cannot be.
    """

    kind: Kind = "brain"
    patients: int = 40
    images_per_patient: int | tuple[int, int] = 16
    classes: tuple[str, ...] = ("normal", "abnormal")
    size: int = 128
    bits: int = 8
    noise: float = 0.02
    sites: int = 2
    effect: float = 1.0
    file_names: FileNames = "patient"
    format: FileFormat = "png"
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.stack_range
        refuse_if(
            (self.kind not in get_args(Kind), f"kind is 'brain' or 'chest', not '{self.kind}'"),
            (self.patients < 1, f"patients is 1 or more, not {self.patients}"),
            (not 1 <= low <= high, f"images_per_patient is 1 or more, low before high, not {(low, high)}"),
            (len(self.classes) < 2, "classes names two or more"),
            (len({name.casefold() for name in self.classes}) < len(self.classes), "classes has a name twice"),
            (not all(map(_is_folder_name, self.classes)), f"classes are folder names, not {self.classes}"),
            (self.size < 32, f"size is 32 or more pixels, not {self.size}"),
            (self.bits not in BIT_DEPTHS, f"bits is 8, 12 or 16, not {self.bits}"),
            (not 0 <= self.noise <= 0.5, f"noise is from 0 to 0.5, not {self.noise}"),
            (self.sites < 1, f"sites is 1 or more, not {self.sites}"),
            (not 0 <= self.effect <= 2, f"effect is from 0 to 2, not {self.effect}"),
            (self.file_names not in get_args(FileNames), f"file_names is one of {get_args(FileNames)}"),
            (self.format not in get_args(FileFormat), f"format is one of {get_args(FileFormat)}"),
            (
                self.format == "dicom-multiframe" and self.file_names != "patient",
                f"format='dicom-multiframe' needs file_names='patient', not '{self.file_names}'",
            ),
            (self.seed < 0, f"seed is 0 or more, not {self.seed}"),
        )

    @property
    def stack_range(self) -> tuple[int, int]:
        """The fewest and the most images of a patient."""
        count = self.images_per_patient
        return (count, count) if isinstance(count, int) else count


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What is wrong with the set, on purpose. All off by default; shares are from 0 to 1.

    A share above 0 plants at least one fault where any can be planted.

    Attributes:
        straddling_patients: Share of the patients with several images whose images lie half in one split, half
            in another.
        duplicates: Share of the images that are there twice: the copy is flipped or turned by 90 degrees (one of
            the 8 ways, one of which is unchanged), under a new patient id, in another split.
        duplicates_in_class: Class that was augmented on disk: flipped or turned copies, same patient and split.
        turned: Share of the images that are flipped or turned themselves.
        markers: Probability of a burnt-in L or R in an image of any class but the first.
        label_noise: Share of the patients with a wrong label.
        sites_follow_class: Probability that a patient's site is the one of its class instead of chance.
        size_fault_class: Class saved at 1.25 times the size.
        quality_fault_class: Class saved as a JPEG of quality 25; for 8 bits only.
        class_share: Share of the images of a class hit by the three `..._class` faults.

    Raises:
        UsageError: `PHA_OPTIONS`, naming every fault that cannot be.
    """

    straddling_patients: float = 0.0
    duplicates: float = 0.0
    duplicates_in_class: str | None = None
    turned: float = 0.0
    markers: float = 0.0
    label_noise: float = 0.0
    sites_follow_class: float = 0.0
    size_fault_class: str | None = None
    quality_fault_class: str | None = None
    class_share: float = 1.0

    def __post_init__(self) -> None:
        shares = {name: value for name, value in asdict(self).items() if isinstance(value, float | int)}
        refuse_if(*((not 0 <= value <= 1, f"{name} is from 0 to 1, not {value}") for name, value in shares.items()))


def check_faults(options: PhantomOptions, faults: Faults) -> None:
    """Refuse faults that these options leave no room for."""
    named = {
        name: value for name, value in asdict(faults).items() if name.endswith("_class") and isinstance(value, str)
    }
    refuse_if(
        *(
            (value not in options.classes, f"{name} is one of {options.classes}, not '{value}'")
            for name, value in named.items()
        ),
        (
            faults.quality_fault_class is not None and options.bits != 8,
            f"quality_fault_class needs bits=8 (JPEG), not {options.bits}",
        ),
        (
            faults.quality_fault_class is not None and options.format != "png",
            f"quality_fault_class needs format='png', not '{options.format}'",
        ),
        (
            options.format == "dicom-multiframe" and faults != Faults(),
            "faults are planted in files of one image, not in format='dicom-multiframe'",
        ),
    )


def _is_folder_name(name: str) -> bool:
    return (
        bool(name.strip()) and name == name.strip() and not name.startswith(".") and not set(name) & set('/\\:*?"<>|')
    )


def refuse_if(*checks: tuple[bool, str]) -> None:
    """Raise once, naming every check that holds."""
    faults = [message for fails, message in checks if fails]
    if faults:
        raise UsageError(f"Phantoms: {'; '.join(faults)}.", code="PHA_OPTIONS")
