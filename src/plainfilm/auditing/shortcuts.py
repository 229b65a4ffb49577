"""Shortcut probes (B1 to B8): can the label be predicted from what has nothing to do with it?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from plainfilm.auditing.burnt_in import mark_probe
from plainfilm.auditing.cases import Cases
from plainfilm.auditing.findings import Finding, Verdict
from plainfilm.auditing.probes import (
    Probe,
    Setting,
    ShortcutOptions,
    blur_probe,
    border_probe,
    centre_probe,
    container_probe,
    histogram_probe,
)
from plainfilm.auditing.probing import Probed, ProbeOptions, make_design, probed_cases
from plainfilm.auditing.sites import site_probe
from plainfilm.auditing.subject import Subject
from plainfilm.pairing import holm
from plainfilm.progress import Progress, Silent

# The check, what it asks, and how it is made; those of the second list need pixels.
OF_FILES: dict[str, tuple[str, Callable[[Setting], Probe]]] = {
    "B1": ("Label from file properties alone", container_probe),
}
OF_PIXELS: dict[str, tuple[str, Callable[[Setting], Probe]]] = {
    "B2": ("Label from the border alone", border_probe),
    "B3": ("Label from the centre alone", centre_probe),
    "B4": ("Label from an 8x8 blur alone", blur_probe),
    "B5": ("Label from the grey-value histogram alone", histogram_probe),
    "B7": ("Label from burnt-in marks alone", mark_probe),
    "B8": ("Label from site or scanner", site_probe),
}
SOURCE = (
    "Permutation of whole blocks: Winkler et al., NeuroImage 2014;92:381-397. Several checks: Holm 1979. Shortcuts: "
    "Maguolo and Nanni 2021; DeGrave et al., Nature Machine Intelligence 2021; G-AUDIT, arXiv 2503.09969."
)


@dataclass(frozen=True, kw_only=True)
class Shortcuts:
    """What each probe answered; what it is worth can be said again once a model's score is known.

    Attributes:
        setting: What the probes share; None where none could be made.
        answers: Each probe with its answer, None where it has none.
        unasked: Findings of probes that could not be made.
    """

    setting: Setting | None
    answers: tuple[tuple[Probe, Probed | None], ...] = ()
    unasked: tuple[Finding, ...] = ()

    def findings(self, *, model_balanced_accuracy: float | None = None) -> list[Finding]:
        """One finding for each probe, corrected for their number.

        Args:
            model_balanced_accuracy: What a trained model reaches on new patients; a probe is then measured against it.
        """
        setting = self.setting
        if setting is None:
            return list(self.unasked)
        corrected = iter(holm([probed.p for _, probed in self.answers if probed is not None]))
        return [
            _not_assessable(probe.check, probe.title, probe.reason, setting.cases)
            if probed is None
            else _finding(probe, probed, next(corrected), setting, model_balanced_accuracy)
            for probe, probed in self.answers
        ]


def check_shortcuts(
    subject: Subject,
    options: ShortcutOptions | None = None,
    *,
    probing: ProbeOptions | None = None,
    model_balanced_accuracy: float | None = None,
    progress: Progress | None = None,
) -> list[Finding]:
    """Ask each probe, correct for their number, and say what that means.

    Args:
        subject: What is audited; without images only the file properties are looked at.
        options: When a probe warns and fails.
        probing: How the probes are made.
        model_balanced_accuracy: What a trained model reaches on new patients; a probe is then measured against it.
        progress: Told after every probe.
    """
    asked = ask_shortcuts(subject, options, probing=probing, progress=progress)
    return asked.findings(model_balanced_accuracy=model_balanced_accuracy)


def ask_shortcuts(
    subject: Subject,
    options: ShortcutOptions | None = None,
    *,
    probing: ProbeOptions | None = None,
    progress: Progress | None = None,
) -> Shortcuts:
    """Ask each probe once; see `check_shortcuts`."""
    options, recipe = options or ShortcutOptions(), probing or ProbeOptions()
    makers = OF_FILES | OF_PIXELS
    cases = probed_cases(subject, recipe)
    reason, setting = few_patients(cases, recipe), None
    if not reason:
        design = make_design(cases, recipe)
        setting = Setting(subject=subject, cases=cases, design=design, options=options, recipe=recipe)
        if design.smallest_p * len(makers) > recipe.probe_alpha:
            reason = (
                f"labels of {cases.counted} can be exchanged in too few ways for any p below {recipe.probe_alpha:g}"
            )
    if setting is None or reason:
        unasked = (_not_assessable(check, title, reason, cases) for check, (title, _) in makers.items())
        return Shortcuts(setting=None, unasked=tuple(unasked))
    answers: list[tuple[Probe, Probed | None]] = []
    with (progress or Silent()).task("shortcut probes", len(makers)) as advance:
        for check, (title, make) in makers.items():
            if check in OF_PIXELS and subject.pixels is None:
                answers.append((Probe(check=check, title=title, of="", limits="", reason="there are no images"), None))
            else:
                probe = make(setting)
                answer = probe.probed
                if answer is None and probe.features is not None:
                    answer = setting.run(probe.features)
                answers.append((probe, answer))
            advance(1)
    return Shortcuts(setting=setting, answers=tuple(answers))


def few_patients(cases: Cases, recipe: ProbeOptions) -> str:
    """Why no probe can be made of these cases; empty where one can."""
    if len(cases.classes) >= 2:
        return ""
    whose = "images" if cases.patients == "unknown" else "patients"
    return f"fewer than two classes have {recipe.probe_patients} {whose} or more"


def _finding(probe: Probe, probed: Probed, p: float, setting: Setting, model_score: float | None) -> Finding:
    options, recipe = setting.options, setting.recipe
    share, against = _share(probed, model_score)
    found = p < recipe.probe_alpha and probed.excess >= options.shortcut_excess
    verdict: Verdict = "PASS"
    if found and not probe.expected:
        verdict = "FAIL" if probe.may_fail and share >= options.shortcut_share else "WARN"
    if found:
        said = f"The label can be predicted from {probe.of} alone"
    elif p < recipe.probe_alpha:
        said = f"The label can hardly be predicted from {probe.of} alone"
    else:
        said = f"It was not shown that the label can be predicted from {probe.of} alone"
    sentence = (
        f"{said}: balanced accuracy {probed.value:.3f} (95% CI {probed.low:.3f}-{probed.high:.3f}, "
        f"{setting.cases.counted}), by chance {probed.null:.3f}, p = {p:.3g} after Holm's correction; "
        f"{share:.0%} of the excess over chance of {against}.{probe.remark}{setting.cases.remarks}"
    )
    return Finding(
        check=probe.check,
        title=probe.title,
        verdict=verdict,
        sentence=sentence,
        rule=_rule(probe, options, recipe),
        source=SOURCE,
        limits=probe.limits,
        advice=probe.look if verdict != "PASS" else "",
        value=probed.value,
        low=probed.low,
        high=probed.high,
        p=p,
        n_images=len(setting.cases),
        n_patients=setting.cases.known_patients,
        details={
            "null": probed.null,
            "excess": probed.excess,
            "share": share,
            "share_of": against,
            "p_uncorrected": probed.p,
            "classes": list(setting.cases.classes),
            "classes_left_out": list(setting.cases.left_out),
            "patients_with_several_labels": setting.design.n_mixed,
            **probe.details,
        },
        pictures=probe.pictures if verdict != "PASS" else (),
        tables=probe.tables,
    )


def _share(probed: Probed, model_score: float | None) -> tuple[float, str]:
    """Excess of the probe as a share of the model's; of a perfect one's where no model beats chance."""
    if model_score is not None and model_score > probed.null:
        return probed.excess / (model_score - probed.null), f"the model ({model_score:.3f})"
    return probed.excess / max(1 - probed.null, 1e-12), "a perfect model"


def _rule(probe: Probe, options: ShortcutOptions, recipe: ProbeOptions) -> str:
    if probe.expected:
        return "Given for comparison; never warns."
    warns = (
        f"WARN where p < {recipe.probe_alpha:g}* (how far apart the classes score, {recipe.probe_draws} exchanges of "
        "labels between whole patients, Holm over all probes) and balanced accuracy is at least "
        f"{100 * options.shortcut_excess:g} points* above chance"
    )
    if not probe.may_fail:
        return f"{warns}. Never FAIL."
    return f"{warns}; FAIL where that is also {options.shortcut_share:.0%}* or more of what the model has above chance."


def _not_assessable(check: str, title: str, reason: str, cases: Cases) -> Finding:
    return Finding(
        check=check,
        title=title,
        verdict="NOT ASSESSABLE",
        sentence=f"Not assessable: {reason}.{cases.remarks}",
        rule="",
        source=SOURCE,
        limits="Nothing is known either way.",
        n_images=len(cases),
        n_patients=cases.known_patients,
    )
