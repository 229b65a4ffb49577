"""What an exploration computes, and on how many images."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ExploreOptions(BaseModel):
    """What an exploration computes, and on how many images.

    The X-ray paper's own: `side=299, resizing="nearest", channels="rgb", perplexity=15, tsne_rate=1, network=True`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: int = Field(
        64, ge=4, le=1024, description="Images are stretched to this many pixels a side; not used with a run."
    )
    resizing: Literal["smooth", "nearest"] = Field(
        "smooth", description="Antialiased bilinear, or the nearest pixel unchanged (as Keras resized images in 2018)."
    )
    channels: Literal["grey", "rgb"] = Field(
        "grey", description="One grey channel, or red, green and blue as three times as many numbers."
    )
    variance: float = Field(0.9, gt=0, lt=1, description="Share of the variance the principal components keep.")
    whiten: bool = Field(True, description="Scale every component to unit variance.")
    most_components: int = Field(
        256, ge=2, le=4096, description="Components kept, at most, whatever share of the variance they hold."
    )
    most_fitted: int = Field(
        10_000, ge=3, description="Images that principal components are fitted on; the others are projected."
    )
    perplexity: float | None = Field(
        None, gt=0, description="t-SNE: how many neighbours count; by default 30, or a third of the images if less."
    )
    tsne_rate: float | None = Field(None, gt=0, description="t-SNE: learning rate; by default a 48th of the images.")
    most_tsne: int = Field(10_000, ge=3, description="Images that t-SNE embeds; a sample where there are more.")
    umap: bool | None = Field(
        None, description="UMAP: by default where umap-learn is installed; its first call compiles for half a minute."
    )
    neighbours: int = Field(15, ge=2, description="UMAP: neighbours of each image.")
    most_umap: int = Field(100_000, ge=3, description="Images that UMAP embeds; a sample where there are more.")
    most_linked: int = Field(
        2_000, ge=3, le=20_000, description="Images in a dendrogram; memory grows with the square of it."
    )
    most_clusters: int = Field(10, ge=1, le=100, description="k-means: tried from 1 to this many clusters.")
    network: bool = Field(
        False, description="Train the PCA network: the paper's way, with labels shuffled, and by cross-validation."
    )
    most_trained: int = Field(1_000, ge=4, description="Images the PCA network sees; whole patients are drawn.")
    network_folds: int = Field(5, ge=2, le=50, description="Parts of the PCA network's cross-validation.")
    single_images: bool = Field(
        False, description="Declare one image per patient where no patient ids are known; the results say so."
    )
    thumbnails: int = Field(4_000, ge=0, le=20_000, description="Images shown in the page; a sample where more.")
    explore_seed: int = Field(0, ge=0, lt=2**32, description="Seed of samples, embeddings, clusters and networks.")
