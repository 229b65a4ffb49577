"""What the report says in sentences: what a split is worth, how patients are known, what the terms mean."""

from __future__ import annotations

from typing import Final

from plainfilm.plots import title_of

EVIDENCE: Final = (
    (
        "Unit unknown",
        "Nothing says which images belong to one patient, so images of one patient may be on both sides.",
    ),
    (
        "Split by image",
        "Images of one patient may be on both sides of the split: the model can recognise the patient "
        "instead of the disease.",
    ),
    (
        "Split by patient",
        "No patient is in both training and test. The number is about new patients from the same source; "
        "shortcuts in the images are not ruled out.",
    ),
    (
        "Split by patient, no check fails",
        "No patient is in both training and test, and no check of leaks, shortcuts, controls and precision fails; "
        "what the audit warns of is listed below. The number is about new patients from the same source.",
    ),
    (
        "Another site",
        "Tested on patients from a site that the model has never seen: the best evidence short of a trial.",
    ),
)
"""Name and meaning of each evidence level, 0 to 4."""

PATIENTS: Final = {
    "known": "Known: the data name the patient of every image.",
    "documented": "Known: the data name the patient of every image.",
    "recovered": "Recovered: images were grouped by their pixels. No document confirms the groups.",
    "declared": "Declared: the user said that every image is of another patient. This was not checked.",
    "unknown": "Unknown: nothing says which images belong to one patient.",
}
"""How it is known which images belong to one patient."""

SPLIT: Final = {
    "patient": "By patient: all images of one patient are on the same side.",
    "image": "By image: images of one patient can be on different sides.",
    "site": "By site: all images of one site are on the same side, and so are all images of one patient.",
}
"""What was kept together."""

GLOSSARY: Final = (
    ("Image", "One file or frame."),
    ("Patient", "The independent unit. Two images of one patient are not two pieces of evidence."),
    ("By patient", "A patient's score is the mean of the scores of their images; each patient counts once."),
    ("Score", "The model's share of belief in a class, 0 to 1; over all classes they add up to 1."),
    ("Training, validation, test", "To learn from; to choose on; to measure with, once, at the end."),
    ("95 % interval", "Made so that it holds the true value in about 95 of 100 such studies."),
    ("Accuracy", "The share of right answers. Compare it with always naming the most frequent class."),
    (
        "Balanced accuracy",
        "The mean recall over the classes, so that a rare class counts as much as another.",
    ),
    ("Recall", "Of those that truly are of the class, the share that was found. Also called sensitivity."),
    ("Specificity", "Of those that are negative, the share that was called negative."),
    (
        "Precision",
        "Of those called the class, the share that truly is. Also called positive predictive value.",
    ),
    ("F1", "The harmonic mean of precision and recall."),
    ("ROC AUC", "How often a member of the class scores above a non-member: 1 is always, 0.5 is guessing."),
    (
        "Average precision",
        "The area below the precision-recall curve; guessing gives the share of the class.",
    ),
    ("Log loss, Brier score", "How far the scores are from the truth, not only the answers; 0 is best."),
    ("Support", "How many truly are of the class."),
    ("Withheld", "Too few patients to say anything: no figure is better than a misleading one."),
    ("Evidence level", "What kind of test stands behind the number, 0 to 4."),
)
"""Terms of the report, in the order a reader meets them."""


def spoken(name: str) -> str:
    """A measure's name inside a sentence: `balanced_accuracy` is "balanced accuracy", `roc_auc` is "ROC AUC"."""
    title = title_of(name)
    return title if title[:2].isupper() else title[:1].lower() + title[1:]
