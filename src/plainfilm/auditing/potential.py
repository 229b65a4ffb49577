"""Would more patients help (I), and are images unlike the training images known (H)?"""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from plainfilm.auditing.cases import cases_of
from plainfilm.auditing.findings import Finding, Verdict
from plainfilm.auditing.subject import Subject
from plainfilm.auditing.thumbnails import thumbnails, unit_vectors
from plainfilm.errors import DataError
from plainfilm.learning_curve import LearningCurveOptions, learning_curve
from plainfilm.novelty import Gate
from plainfilm.progress import Progress

SIDE: Final = 16  # of the thumbnails
FAR: Final = ("noise", "text")  # nobody takes them for patients
ORGANS: Final = ("brain_phantom", "chest_phantom")  # one of them at least is another organ than the images show
LAW: Final = "Figueroa et al., BMC Medical Informatics and Decision Making 2012;12:8"


class PotentialOptions(BaseModel):
    """When more patients are worth a word, and when strange images are known well enough."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    worthwhile_gain: float = Field(
        0.02, gt=0, lt=1, description="Gain of doubling the patients, lower end, from which I1 warns.*"
    )
    curve_images: int = Field(
        100_000,
        ge=1_000,
        description="Images of the curve, at most; of more, whole patients are drawn.*",
    )
    far_auc: float = Field(0.95, gt=0.5, le=1, description="ROC AUC at which noise and text must be told from images.*")


def check_learning_curve(
    subject: Subject,
    options: PotentialOptions | None = None,
    *,
    curve: LearningCurveOptions | None = None,
    progress: Progress | None = None,
) -> Finding:
    """I1: a quick model on thumbnails of more and more patients, followed to twice as many."""
    options = options or PotentialOptions()

    def found(verdict: Verdict, sentence: str, **numbers: float | int | dict[str, object] | None) -> Finding:
        return Finding(
            check="I1",
            title="Would more patients help?",
            verdict=verdict,
            sentence=sentence,
            rule=f"WARN if doubling the patients gains {100 * options.worthwhile_gain:g} points* or more, by the lower "
            "end of the interval.",
            source=LAW,
            limits="The curve is that of a linear model on thumbnails, to twice the patients and no farther; a network "
            "learns along another curve.",
            advice="More patients are likely to help more than another network." if verdict == "WARN" else "",
            **numbers,  # type: ignore[arg-type]
        )

    if subject.pixels is None or not subject.knows_patients:
        return found("NOT ASSESSABLE", "Images of known patients are needed.")
    cases = cases_of(subject, min_patients=1)
    if not len(cases):
        return found("NOT ASSESSABLE", "No image has a label.")
    cases = cases.drawn(options.curve_images, seed=(curve or LearningCurveOptions()).curve_seed)
    features = unit_vectors(thumbnails(subject.pixels, SIDE, cases.rows))
    try:
        drawn = learning_curve(features, cases.y, cases.group, curve, progress=progress)
    except DataError as error:
        return found("NOT ASSESSABLE", str(error))
    points = [100 * value for value in (drawn.gain, drawn.gain_low, drawn.gain_high)]
    return found(
        "WARN" if drawn.gain_low >= options.worthwhile_gain else "PASS",
        f"With twice the {int(drawn.patients.max())} training patients a linear model on thumbnails would gain about "
        f"{points[0]:.1f} points of balanced accuracy ({points[1]:.1f} to {points[2]:.1f}).{cases.drawn_remark}",
        value=drawn.gain,
        low=drawn.gain_low,
        high=drawn.gain_high,
        n_images=len(cases),
        n_patients=drawn.n_patients,
        details={
            "patients": drawn.patients.tolist(),
            "scores": drawn.scores.tolist(),
            "curve": [drawn.drawn_at.tolist(), drawn.fitted.tolist(), drawn.low.tolist(), drawn.high.tolist()],
        },
    )


def check_novelty(gate: Gate | None, options: PotentialOptions | None = None) -> Finding:
    """H1: whether noise, text and another organ are told from images, in the self-test that the bundle keeps."""
    options = options or PotentialOptions()
    tested = {} if gate is None else dict(gate.far_auc)
    organs = [name for name in ORGANS if name in tested]
    other = max(organs, key=lambda name: tested[name], default=None)  # the images may be of the nearer one's own kind
    far = {name: auc for name, auc in tested.items() if name in FAR or name == other}
    near = {name: auc for name, auc in tested.items() if name not in far}
    verdict: Verdict = "NOT ASSESSABLE"
    sentence = "There is no model that knows which images it was made for."
    if gate is not None and gate.reason:
        sentence = f"The model does not know which images it was made for: {gate.reason}."
    elif far:
        verdict = "PASS" if min(far.values()) >= options.far_auc else "WARN"
        said = ", ".join(f"{name.replace('_', ' ')} {auc:.2f}" for name, auc in {**far, **near}.items())
        sentence = f"Told from held-out images with a ROC AUC of: {said}."
    return Finding(
        check="H1",
        title="Are strange images known?",
        verdict=verdict,
        sentence=sentence,
        value=min(far.values(), default=None),
        n_patients=None if gate is None else gate.n_patients,
        rule="WARN if noise, a page of text or the less alike of two phantoms (a head, a chest) is told from held-out "
        f"images with a ROC AUC below {options.far_auc:g}*.",
        source="Anthony and Kamnitsas 2023 (arXiv 2309.01488)",
        limits="Noise and phantoms are easy; a real image of another organ, another scanner or a rare disease can "
        "still look usual.",
        advice="" if verdict == "PASS" else "A person looks at every image before the model's answer is used.",
        details={"auc": tested} if tested else {},
    )
