"""Patients from pixels, where the table names none."""

from __future__ import annotations

from dataclasses import replace

from plainfilm.auditing.patients import RecoveredPatients, RecoveryOptions, recover_patients
from plainfilm.data.pixels import PixelStore
from plainfilm.data.table import Table
from plainfilm.errors import TableError, UsageError
from plainfilm.progress import Progress


def with_recovered_patients(
    table: Table, pixels: PixelStore, options: RecoveryOptions | None = None, *, progress: Progress | None = None
) -> tuple[Table, RecoveredPatients]:
    """A table whose `patient_id` is what was recovered from the pixels.

    Args:
        table: Without any patient id.
        pixels: Its images.
        options: What counts as a group.
        progress: Told of the comparison.

    Raises:
        UsageError: `SPL_DECLARED_WRONGLY` if the table names patients itself.
        TableError: `SPL_NOT_RECOVERED` if no groups can be told, with the reason.
    """
    if table.rows["patient_id"].notna().any():
        raise UsageError(
            "--patients recovered looks for patients in the pixels, but the table names them. Leave it out: the "
            "table's own ids are better.",
            code="SPL_DECLARED_WRONGLY",
        )
    labels = table.rows["label"].astype(object).where(table.rows["label"].notna(), None).tolist()
    recovered = recover_patients(pixels, labels=labels, options=options, progress=progress)
    if not recovered.found:
        raise TableError(
            f"no patients could be recovered from the pixels. {recovered.reason} Give patient ids, or --split image to "
            "split by image all the same, every score then struck through.",
            code="SPL_NOT_RECOVERED",
        )
    return replace(table, rows=table.rows.assign(patient_id=recovered.ids())), recovered


def recovery_note(recovered: RecoveredPatients) -> str:
    """What a report must say of recovered patients."""
    check = recovered.labels
    sure = (
        "labels could not check them"
        if check is None
        else f"linked images share their label in {check.same:.1%} of {check.n_links} links, {check.by_chance:.1%} by "
        f"chance (p = {check.p:.2g})"
    )
    return f"Patients were recovered from the pixels, not documented: {recovered.reason.rstrip('.')}; {sure}."
