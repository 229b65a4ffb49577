"""From a drawn image to one as a scanner gives it: geometry, contrast, shading, blur and noise, new for each."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, interpolate, pad

from plainfilm.pretraining.formulas.family import uniform

BLURS = (0.0, 0.5, 0.9, 1.4)  # standard deviations in pixels; every image gets one
INVERTED = 0.3  # share of images


def acquire(images: Tensor) -> Tensor:
    """Give each image its own orientation, exposure, bias field, sharpness and noise, from torch's generator.

    Args:
        images: `(n, size, size)`, 0 to 1.

    Returns:
        The same shape, 0 to 1.
    """
    device, n = images.device, len(images)
    images = _moved(images)
    inverted = uniform((n, 1, 1), 0, 1, device) < INVERTED
    images = torch.where(inverted, 1 - images, images)
    images = images.clamp(0, 1) ** torch.exp(uniform((n, 1, 1), -0.5, 0.5, device))
    images = images * (1 + _bias_field(n, images.shape[1], device))
    images = _blurred(images)
    images = images * uniform((n, 1, 1), 0.5, 1.1, device) + uniform((n, 1, 1), 0.0, 0.15, device)
    return _noisy(images).clamp(0, 1)


def _moved(images: Tensor) -> Tensor:
    """Rotated, mirrored, zoomed and shifted."""
    device, n = images.device, len(images)
    angle = uniform((n,), -0.6, 0.6, device)
    zoom = torch.exp(uniform((n,), -0.25, 0.25, device))
    mirror = torch.where(uniform((n,), 0, 1, device) < 0.5, -1.0, 1.0)
    shift = uniform((n, 2, 1), -0.12, 0.12, device)
    turn = torch.stack(
        [zoom * angle.cos() * mirror, -zoom * angle.sin(), zoom * angle.sin() * mirror, zoom * angle.cos()], dim=1
    ).view(n, 2, 2)
    grid = affine_grid(torch.cat([turn, shift], dim=2), [n, 1, *images.shape[1:]], align_corners=False)
    return grid_sample(images.unsqueeze(1), grid, padding_mode="border", align_corners=False).squeeze(1)


def _bias_field(n: int, size: int, device: torch.device) -> Tensor:
    """A smooth factor, as of a receive coil: a coarse grid of numbers, interpolated."""
    coarse = uniform((n, 1, 3, 3), -1, 1, device) * uniform((n, 1, 1, 1), 0, 0.3, device)
    return interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True).squeeze(1)


def _blurred(images: Tensor) -> Tensor:
    """Each image by one of `BLURS`."""
    device, n = images.device, len(images)
    offsets = torch.arange(-4, 5, device=device, dtype=torch.float32)
    width = torch.tensor(BLURS, device=device)[torch.randint(len(BLURS), (n,)).to(device)].clamp_min(1e-3)
    kernel = torch.exp(-0.5 * (offsets / width[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).unsqueeze(1)
    batch = images.unsqueeze(0)
    batch = conv2d(pad(batch, (4, 4, 0, 0), mode="replicate"), kernel.unsqueeze(2), groups=n)
    return conv2d(pad(batch, (0, 0, 4, 4), mode="replicate"), kernel.unsqueeze(3), groups=n).squeeze(0)


def _noisy(images: Tensor) -> Tensor:
    """Half of the images as films have it, half as the magnitude of a complex signal (Gudbjartsson and Patz 1995)."""
    device, n = images.device, len(images)
    sigma = uniform((n, 1, 1), 0, 0.08, device)
    real = images + sigma * torch.randn(images.shape).to(device)
    imaginary = sigma * torch.randn(images.shape).to(device)
    magnitude = torch.sqrt(real**2 + imaginary**2 + 1e-12)
    return torch.where(uniform((n, 1, 1), 0, 1, device) < 0.5, real, magnitude)
