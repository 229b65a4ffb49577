"""The loop of a tutorial: float32, a DataLoader with two workers, AdamW; prints images a second.

python -m benchmarks.rivals.plain_loop FOLDER --model resnet1d --batch-size 64 --steps 25
"""

from __future__ import annotations

import argparse
import json
import resource

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

from benchmarks.turns import clock
from plainfilm.models.resnet1d import ResNet1d


def network(name: str, num_classes: int) -> nn.Module:
    """ResNet1d, or torchvision's ResNet-18 with a first layer for one channel."""
    if name.startswith("resnet1d"):
        return ResNet1d(num_classes, stem="patch4" if name == "resnet1d-patch" else "conv7")
    model: nn.Module = models.resnet18(weights=None, num_classes=num_classes)
    model.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    return model


def main() -> None:
    """Train for some steps and print what the later ones took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--model", default="resnet1d")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--warm-up", type=int, default=5)
    asked = parser.parse_args()
    prepare = transforms.Compose([transforms.Grayscale(), transforms.ToTensor(), transforms.Normalize(0.3, 0.3)])
    images = datasets.ImageFolder(asked.folder, prepare)
    loader = DataLoader(images, asked.batch_size, shuffle=True, num_workers=2, drop_last=True)
    model = network(asked.model, len(images.classes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    ends = []
    while len(ends) < asked.steps:
        for batch, target in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch), target)
            loss.backward()
            optimizer.step()
            loss.item()
            ends.append(clock())
            if len(ends) == asked.steps:
                break
    seconds = ends[-1] - ends[asked.warm_up - 1]
    rate = asked.batch_size * (asked.steps - asked.warm_up) / seconds
    print(json.dumps({"rate": rate, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main()
