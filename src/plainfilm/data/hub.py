"""Data sets by their id on the Hugging Face hub: `hf:OWNER/NAME`, fetched once, then read from the local cache."""

from __future__ import annotations

import logging
from pathlib import Path

from plainfilm.data.repositories import PREFIX, TIMEOUT_S, HubRepository
from plainfilm.errors import DataError, PlainfilmError, ResourceError

logger = logging.getLogger(__name__)

SHARDS = "*.parquet"
CONVERTED = "refs/convert/parquet"  # where the hub keeps its own parquet copy of data sets in other formats


class HubDataset(HubRepository):
    """A data set on the Hugging Face hub."""

    WHAT, CACHED_AS = "data set", "datasets"


def is_hub_id(data: str | Path) -> bool:
    """Whether DATA names a data set on the hub, not a place on this machine."""
    return str(data).startswith(PREFIX)


def parse_hub_id(data: str | Path) -> HubDataset:
    """Read `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`.

    Raises:
        DataError: `TAB_HUB_ID` if it is neither.
    """
    found = HubDataset.read(str(data))
    if found is None:
        raise DataError(
            f"'{data}' is not the id of a data set. Write hf:OWNER/NAME, or hf:OWNER/NAME@REVISION.", code="TAB_HUB_ID"
        )
    return found


def fetch_dataset(dataset: HubDataset, *, folder: Path | None = None) -> Path:
    """The folder with the parquet files of a data set, downloaded if it is not there yet.

    A data set that is in the cache is not asked for again: the same command gives the same images without a network.
    Its folder is named after the commit. Nothing of the data set is run.

    Args:
        dataset: Which.
        folder: Where to put the files; by default the hub's cache (HF_HUB_CACHE).

    Raises:
        ResourceError: `RES_DOWNLOAD`; within seconds where the hub cannot be reached.
        DataError: `TAB_NO_SHARDS` if the data set has no parquet files.
    """
    import huggingface_hub as hub

    cached = None if folder is not None else _from_cache(dataset)
    if cached is not None:
        return cached
    if hub.constants.HF_HUB_OFFLINE:
        raise _not_fetched(dataset, "HF_HUB_OFFLINE is set")
    try:
        # Asked once first: the download itself retries a dead connection for about a minute.
        found = hub.HfApi().dataset_info(dataset.repository, revision=dataset.revision, timeout=TIMEOUT_S)
        _check_shards(dataset, [file.rfilename for file in found.siblings or []])
        fetched = hub.snapshot_download(
            dataset.repository,
            repo_type="dataset",
            revision=dataset.revision,
            allow_patterns=[SHARDS],
            local_dir=folder,
        )
    except PlainfilmError:
        raise
    except Exception as error:
        raise _not_fetched(dataset, dataset.silence(error)) from None
    logger.info("%s: %s", dataset, Path(fetched).name)
    return Path(fetched)


def _from_cache(dataset: HubDataset) -> Path | None:
    """The complete snapshot in the cache, found without a network; None if there is none."""
    import huggingface_hub as hub

    try:
        found = Path(
            hub.snapshot_download(
                dataset.repository,
                repo_type="dataset",
                revision=dataset.revision,
                allow_patterns=[SHARDS],
                local_files_only=True,
            )
        )
    except (OSError, ValueError, hub.errors.HfHubHTTPError):  # absent or incomplete
        return None
    return found if any(found.rglob(SHARDS)) else None


def _check_shards(dataset: HubDataset, names: list[str]) -> None:
    if any(name.endswith(".parquet") for name in names):
        return
    way = (
        "Download it with 'hf download' and give the folder."
        if dataset.revision == CONVERTED
        else f"The hub may keep a copy that has: try {PREFIX}{dataset.repository}@{CONVERTED}."
    )
    raise DataError(f"{dataset} has no parquet files. {way}", code="TAB_NO_SHARDS")


def _not_fetched(dataset: HubDataset, reason: str) -> ResourceError:
    at = f" --revision {dataset.revision}" if dataset.revision else ""
    return ResourceError(
        f"Data set {dataset}: not in the local cache, and {reason}. Where there is a network, run 'hf download "
        f'{dataset.repository} --repo-type dataset{at} --include "{SHARDS}"\' and copy the folder '
        f"{dataset.cache_folder} into this machine's hub cache (HF_HUB_CACHE, by default ~/.cache/huggingface/hub); "
        "or name a folder of parquet files instead.",
        code="RES_DOWNLOAD",
    )
