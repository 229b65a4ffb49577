"""Sentences on what was done: who was imaged, how images were divided and prepared, what was trained, what measured."""

from __future__ import annotations

from typing import Final

from plainfilm.reporting.content import ReportData
from plainfilm.reporting.findings import counted
from plainfilm.reporting.sentences.words import closed
from plainfilm.reporting.words import spoken

OPTIMIZERS: Final = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD with Nesterov momentum"}
NAMED_CLASSES = 12  # in one sentence
NAMED_SITES = 12


# --- the data -----------------------------------------------------------------------------------------------


def task(report: ReportData) -> str:
    """What was to be told apart."""
    classes = report.evaluation.classes
    named = ", ".join(classes[:NAMED_CLASSES]) + (", ..." if len(classes) > NAMED_CLASSES else "")
    return f"Single images were to be told apart into {len(classes)} classes: {named}."


def source(report: ReportData) -> str:
    """Where the images came from, as far as the run knows."""
    return f"The images came from {report.data.source}."


def patients_known(report: ReportData) -> str:
    """How the patients are known."""
    return {
        "known": "The data name the patient of every image.",
        "documented": "The data name the patient of every image.",
        "recovered": "Patients were recovered from the pixels of the images; no document confirms the groups.",
        "declared": "Every image was declared to be of another patient; this was not checked.",
        "unknown": "Nothing says which images belong to one patient.",
    }[report.patients]


def exclusions(report: ReportData) -> str:
    """From files found to images used."""
    if report.cohort is None:
        data = report.data
        found = data.used + data.skipped + data.refused
        return f"Of {found:,} files, {data.used:,} were used, {data.skipped:,} skipped and {data.refused:,} refused."
    parts = []
    for step in report.cohort.flow[:-1]:
        leaving = "; ".join(f"{entry.n_images:,} {entry.reason}" for entry in step.leaving)
        parts.append(f"{step.name}: {step.n_images:,}" + (f" (not used: {leaving})" if leaving else ""))
    used = report.cohort.used
    return f"{'. '.join(parts)}. Used: {counted(used.n_images, used.n_patients)}."


def missing(report: ReportData) -> str:
    """What was done about missing labels, ids and values."""
    if report.cohort is None:
        return ""
    leaving = [entry for step in report.cohort.flow[1:] for entry in step.leaving]
    missing = [entry for entry in leaving if entry.reason in ("no label", "no patient id")]
    left = " and ".join(f"{entry.n_images:,} images with {entry.reason}" for entry in missing)
    begun = f"{left} were left out." if left else "Every image that was divided has a label."
    return f"{begun} No missing value was filled in."


def stored(report: ReportData) -> str:
    """How the files were stored."""
    if report.cohort is None or not report.cohort.stored:
        return ""
    listed = "; ".join(f"{layout} ({count:,} images)" for layout, count in report.cohort.stored)
    return f"How the files were stored, most frequent first: {listed}."


def preprocessing(report: ReportData) -> str:
    """What happens to an image before the model sees it."""
    return " ".join(report.preprocessing)


def partition(report: ReportData) -> str:
    """How images were dealt to training, validation and test."""
    cohort, asked = report.cohort, report.asked
    unit = "patients" if report.split_unit == "patient" else "images"
    if report.site_column is not None:
        return _by_site(report)
    if report.folds is not None:
        seed = f" (seed {asked.split.split_seed})" if asked else ""
        return (
            f"In a {len(report.folds.values)}-fold cross-validation {unit} were divided at random, stratified by "
            f"class{seed}; every image was tested once, by a model that had not seen it."
        )
    if cohort is None:
        return f"The {unit} were divided into training, validation and test."
    sizes = ", ".join(f"{column.name} ({counted(column.n_images, column.n_patients)})" for column in cohort.by_split)
    if cohort.came_divided:
        return f"The data came divided, and were used so: {sizes}."
    seed = f", seed {asked.split.split_seed}" if asked else ""
    return f"The {unit} were divided at random, stratified by class{seed}: {sizes}."


def _by_site(report: ReportData) -> str:
    """How whole sites were held out."""
    sites = [score.site for score in report.evaluation.sites]
    listed = ", ".join(sites[:NAMED_SITES]) + (", ..." if len(sites) > NAMED_SITES else "")
    seed = f", seed {report.asked.split.split_seed}" if report.asked else ""
    rest = f"Patients of the others were divided at random into training and validation, stratified by class{seed}."
    if report.folds is None:
        return f"Whole sites (column {report.site_column}) were held out for the test: {listed}. {rest}"
    return (
        f"Whole sites (column {report.site_column}: {listed}) were held out in turn, in {len(report.folds.values)} "
        f"trainings; every image was tested once, by a model that had learnt nothing from its site. {rest}"
    )


def disjoint(report: ReportData) -> str:
    """Whether a patient is in two partitions."""
    shared = None if report.cohort is None else report.cohort.shared
    if report.patients == "unknown" or (shared is None and report.split_unit == "image"):
        return "Images of one patient may be in more than one partition, since the patients are not known."
    if shared:
        verb = "patient has" if shared == 1 else "patients have"
        return f"{shared:,} {verb} images in more than one partition: the partitions are not disjoint."
    known = {"recovered": " as recovered", "declared": " as declared"}.get(report.patients, "")
    by_site = " No site is in both training and test." if report.site_column is not None else ""
    return f"The partitions are disjoint by patient{known}: no patient is in two of them.{by_site}"


def characteristics(report: ReportData) -> str:
    """What Table 1 says of the patients."""
    if report.cohort is None:
        return ""
    names = dict.fromkeys(line.name.split(",")[0] for line in report.cohort.lines[2:] if line.name != "label")
    own = [name for name in names if not name.startswith(("Images", "Patients"))]
    if not own:
        return ""
    return f"Table 1 gives {', '.join(own)} of the patients or images in each partition and class."


# --- the model ----------------------------------------------------------------------------------------------


def technology(report: ReportData) -> str:
    """What kind of AI it is."""
    if report.asked is not None and report.asked.training.tuning == "logistic":
        return f"Logistic regression on the features of a frozen neural network ({report.model.name}) was used."
    if report.asked is not None and report.asked.training.trains_features:
        return f"Deep learning was used: the last layers of a neural network ({report.model.name}) were trained."
    return f"Deep learning was used: a neural network ({report.model.name})."


def model(report: ReportData) -> str:
    """Its size, input and output."""
    model = report.model
    height, width = model.input_size
    work = f", {model.flops / 1e9:.2f} GFLOPs for one image" if model.flops is not None else ""
    about = f" {model.summary}" if model.summary else ""
    return (
        f"The model is {model.name}.{about} It takes one channel of {height}x{width} pixels, has "
        f"{model.parameters:,} parameters{work}, and gives one score for each class; the scores add up to 1."
    )


def software(report: ReportData) -> str:
    """What computed, in which version."""
    training = report.training
    versions = ", ".join(f"{name} {version}" for name, version in training.software) if training else ""
    where = f"; device: {training.device}, {training.precision}" if training else ""
    return f"Software: plainfilm {report.version}{f', {versions}' if versions else ''}{where}."


def initial(report: ReportData) -> str:
    """Where the weights began."""
    seed = f" (seed {report.asked.training.seed})" if report.asked else ""
    if report.model.weights == "random":
        return f"Its weights began at random{seed}."
    return f"Its weights began from {report.model.weights} (licence: {report.model.licence}){seed}."


def training(report: ReportData) -> str:
    """How the weights were learnt."""
    if report.training is None or report.asked is None:
        return ""
    asked = report.asked.training
    if asked.tuning == "logistic":
        return (
            f"The weights of the logistic regression were fitted on the training images; {report.training.chosen_by}."
        )
    each = "in all folds together" if report.folds else ""
    smoothing = f" with label smoothing {asked.label_smoothing:g}" if asked.label_smoothing else ""
    balance = {
        "none": "",
        "weights": " Classes were weighted in the loss by how rare they are.",
        "sampler": " Each class was drawn as often as any other.",
    }[asked.imbalance]
    return " ".join(
        filter(
            None,
            (
                f"It was trained for {report.training.epochs:,} epochs{f' {each}' if each else ''} in batches of "
                f"{asked.batch_size} with {OPTIMIZERS[asked.optimizer]} (highest learning rate "
                f"{asked.peak_learning_rate:g}, {asked.schedule} schedule, weight decay {asked.decay:g}) on the "
                f"{asked.loss} loss{smoothing}; seed {asked.seed}.",
                augmentation(report),
                balance.strip(),
            ),
        )
    )


def augmentation(report: ReportData) -> str:
    """What was changed at random in training images."""
    if report.asked is None or not report.asked.augment.augment:
        return "Training images were not augmented."
    asked = report.asked.augment
    named = (
        (f"rotation up to {asked.rotation:g} degrees", asked.rotation),
        (f"shift up to {100 * asked.shift:g} % of the side", asked.shift),
        (f"zoom up to {100 * asked.zoom:g} %", asked.zoom),
        (f"shear up to {asked.shear:g} degrees", asked.shear),
        (f"brightness up to {100 * asked.brightness:g} %", asked.brightness),
        (f"contrast up to {100 * asked.contrast:g} %", asked.contrast),
        ("mirrored in half of the cases", asked.horizontal_flip),
        ("turned upside down in half of the cases", asked.vertical_flip),
    )
    changes = ", ".join(words for words, amount in named if amount)
    return f"Training images were changed at random in each epoch: {changes}." if changes else ""


def selection(report: ReportData) -> str:
    """What was kept, and what decided it."""
    training = report.training
    if training is None:
        return ""
    if training.chosen_epoch is None:
        return f"What was kept in each fold: {training.chosen_by}. The test images had no part in it."
    kept = f"The weights of epoch {training.chosen_epoch} were kept ({training.chosen_by})."
    return f"{kept} The test images had no part in it."


def ensemble(report: ReportData) -> str:
    """Whether scores of several models were joined."""
    if report.folds is not None:
        return f"{len(report.folds.values)} models were trained, one for each fold; no image was scored by several."
    return "One model was trained; no ensemble was used."


def calibrated(report: ReportData) -> str:
    """What was done to the scores after training."""
    found = report.calibration
    if found is None:
        return ""
    if not found.n_patients:
        return f"Scores are the model's own, not calibrated: {found.reason}."
    each = (
        "Each fold was calibrated on validation patients of its own; in the first, logits" if report.folds else "Logits"
    )
    return (
        f"{each} were divided by a temperature of {found.temperature:.3g}, fitted on "
        f"{counted(found.n_images, found.n_patients)} who took no other part."
    )


def abstaining(report: ReportData) -> str:
    """When the model says nothing."""
    rule = report.abstention
    if rule is None:
        return ""
    if not rule.applies:
        return f"The model never abstains: {rule.reason}."
    caution = f" {closed(rule.caution)}" if rule.caution else ""
    each = " The thresholds of each fold are from validation patients of its own." if report.folds else ""
    return (
        "The model abstains unless exactly one class passes its own threshold (class-conditional conformal sets, "
        f"fitted so that each class misses at most {100 * rule.miss_rate:g} % of its patients).{each}{caution}"
    )


def heat(report: ReportData) -> str:
    """What the heat maps are, and whether they passed their check."""
    if report.heat is None:
        return ""
    shown = "" if report.heat.is_shown else " Its maps are not shown."
    return f"{report.heat.method} was put to a randomisation check. {closed(report.heat.sentence)}{shown}"


# --- measuring ----------------------------------------------------------------------------------------------


def metrics(report: ReportData) -> str:
    """Which figures are given."""
    unit = "patient" if "patient" in report.evaluation.units else "image"
    how = " (a patient's score is the mean of the scores of their images)" if unit == "patient" else ""
    return (
        f"The main figure is {spoken(report.evaluation.headline.name)} by {unit}{how}. Beside it stand "
        "accuracy with the rate of always naming the most frequent class, log loss and Brier score, and for each class "
        "recall, precision, F1, area under the ROC curve and average precision."
    )


def uncertainty(report: ReportData) -> str:
    """How intervals were made."""
    options = report.evaluation.options
    unit = "whole patients" if report.patients != "unknown" else "images, taken as independent"
    return (
        f"Intervals cover {100 * options.confidence:g} %: percentiles of {options.draws:,} bootstrap draws of {unit}, "
        "stratified by class; Wilson score intervals for shares where every row is a patient of its own. A class of "
        f"fewer than {options.min_patients} {'patients' if report.patients != 'unknown' else 'images'} has no figure."
    )
