"""Small copies of images: the numbers that torch gives, without torch."""

import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from plainfilm.auditing.thumbnails import thumbnails
from plainfilm.data.pixels import PixelStore


def stored(height: int, width: int) -> PixelStore:
    store = PixelStore(3, height, width)
    for index, image in enumerate(np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)):
        store.put(index, image)
    return store


@pytest.mark.parametrize("shape", [(64, 64), (100, 77), (32, 32), (33, 128)])
def test_a_smaller_copy_is_means_over_areas(shape):
    store = stored(*shape)
    expected = adaptive_avg_pool2d(torch.from_numpy(store.values([0, 1, 2])).unsqueeze(1), 32).squeeze(1)

    np.testing.assert_allclose(thumbnails(store, 32), expected.numpy(), atol=1e-6)


def test_a_smaller_image_is_enlarged():
    store = stored(20, 9)
    images = torch.from_numpy(store.values([0, 1, 2])).unsqueeze(1)
    expected = interpolate(images, (32, 32), mode="bilinear", align_corners=False).squeeze(1)

    np.testing.assert_allclose(thumbnails(store, 32), expected.numpy(), atol=1e-5)
