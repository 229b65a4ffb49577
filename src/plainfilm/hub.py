"""Models by their id on the Hugging Face hub: `hf:OWNER/NAME`, fetched once, then read from the local cache."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from plainfilm.bundle import BUNDLE_FILES, CARD, CONFIG
from plainfilm.data.repositories import PREFIX, TIMEOUT_S, HubRepository
from plainfilm.errors import BundleError, ResourceError

logger = logging.getLogger(__name__)

WANTED = [*BUNDLE_FILES, CARD]


class HubModel(HubRepository):
    """A model on the Hugging Face hub."""

    WHAT, CACHED_AS = "model", "models"


def parse_model_id(run: str | Path) -> HubModel:
    """Read `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`; the prefix may be left out.

    Raises:
        BundleError: `BUN_HUB_ID` if it is neither.
    """
    found = HubModel.read(str(run))
    if found is None:
        raise BundleError(
            f"'{run}' is not the id of a model. Write hf:OWNER/NAME, or hf:OWNER/NAME@REVISION.", code="BUN_HUB_ID"
        )
    return found


def located(run: str | Path) -> Path:
    """Where RUN lies on this machine: itself, or the cached bundle of `hf:OWNER/NAME`."""
    return fetch_bundle(parse_model_id(run)) if str(run).startswith(PREFIX) else Path(run)


def fetch_bundle(model: HubModel) -> Path:
    """The folder of a bundle, downloaded if it is not there yet; it is checked when it is loaded.

    A model in the cache is not asked for again: the same command gives the same scores without a network. Of the
    repository only the files of a bundle are fetched, and nothing of it is run.

    Raises:
        ResourceError: `RES_DOWNLOAD`; within seconds where the hub cannot be reached.
        BundleError: `BUN_MISSING` if the repository holds no bundle of plainfilm's.
    """
    import huggingface_hub as hub

    cached = _from_cache(model)
    if cached is not None:
        return cached
    if hub.constants.HF_HUB_OFFLINE:
        raise _not_fetched(model, "HF_HUB_OFFLINE is set")
    try:
        # Asked once first: the download itself retries a dead connection for about a minute.
        hub.HfApi().model_info(model.repository, revision=model.revision, timeout=TIMEOUT_S)
        place = Path(hub.snapshot_download(model.repository, revision=model.revision, allow_patterns=WANTED))
    except Exception as error:
        raise _not_fetched(model, model.silence(error)) from None
    if not (place / CONFIG).is_file():
        raise BundleError(f"{model} holds no bundle of plainfilm's.", code="BUN_MISSING")
    logger.info("%s: %s", model, place.name)
    return place


def push_files(
    files: Mapping[str, bytes], model: HubModel, *, message: str, private: bool, token: str | None = None
) -> str:
    """Make the repository where there is none, and commit these files to it, all or none; gives the commit.

    Raises:
        ResourceError: `RES_UPLOAD`, with the reason.
    """
    import huggingface_hub as hub

    if hub.constants.HF_HUB_OFFLINE:
        raise ResourceError(f"{model}: nothing is pushed while HF_HUB_OFFLINE is set.", code="RES_UPLOAD")
    api = hub.HfApi(token=token)
    try:
        api.create_repo(model.repository, private=private, exist_ok=True)
        done = api.create_commit(
            model.repository,
            [hub.CommitOperationAdd(name, data) for name, data in files.items()],
            commit_message=message,
            revision=model.revision,
        )
    except Exception as error:
        raise ResourceError(f"{model}: not pushed: {model.silence(error)}.", code="RES_UPLOAD") from None
    return str(done.oid)


def _from_cache(model: HubModel) -> Path | None:
    """The complete snapshot in the cache, found without a network; None if there is none."""
    import huggingface_hub as hub

    try:
        found = Path(
            hub.snapshot_download(
                model.repository, revision=model.revision, allow_patterns=WANTED, local_files_only=True
            )
        )
    except (OSError, ValueError, hub.errors.HfHubHTTPError):  # absent or incomplete
        return None
    return found if (found / CONFIG).is_file() else None


def _not_fetched(model: HubModel, reason: str) -> ResourceError:
    at = f" --revision {model.revision}" if model.revision else ""
    return ResourceError(
        f"Model {model}: not in the local cache, and {reason}. Where there is a network, run 'hf download "
        f"{model.repository}{at}' and copy the folder {model.cache_folder} into this machine's hub cache "
        "(HF_HUB_CACHE, by default ~/.cache/huggingface/hub); or name a bundle's folder instead.",
        code="RES_DOWNLOAD",
    )
