"""The X-ray paper's program (section 4 and appendix) in today's Keras on a CPU; prints seconds of each epoch.

python -m benchmarks.rivals.keras_films FOLDER --epochs 2

FOLDER has TRAIN and VAL. Weights are random: they do not change the time. The paper trains 20 epochs.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

STARTED = time.time()

import tensorflow as tf  # noqa: E402
from tensorflow.keras import Model, Sequential, layers  # noqa: E402
from tensorflow.keras.applications import InceptionV3  # noqa: E402
from tensorflow.keras.preprocessing.image import ImageDataGenerator  # noqa: E402

SIDE, BATCH = 299, 5


class Clock(tf.keras.callbacks.Callback):
    """Notes what each epoch takes, validation included."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._began = 0.0

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        """Start."""
        self._began = time.time()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """Stop."""
        self.seconds.append(time.time() - self._began)


def main() -> None:
    """Train, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    asked = parser.parse_args()
    changed = ImageDataGenerator(
        rescale=1.0 / 255,
        shear_range=0.2,
        zoom_range=0.2,
        rotation_range=20,
        width_shift_range=0.2,
        height_shift_range=0.2,
        horizontal_flip=True,
    )
    how = {"target_size": (SIDE, SIDE), "batch_size": BATCH, "class_mode": "binary"}
    train = changed.flow_from_directory(asked.folder / "TRAIN", **how)
    validation = ImageDataGenerator(rescale=1.0 / 255).flow_from_directory(asked.folder / "VAL", **how)
    source = InceptionV3(weights=None, include_top=False, input_shape=(SIDE, SIDE, 3))
    top = Sequential(
        [
            layers.Conv2D(16, 3, activation="relu"),
            layers.Conv2D(16, 5, activation="relu"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(256, activation="relu"),
            layers.Dropout(0.25),
            layers.BatchNormalization(),
            layers.Dense(256, activation="relu"),
            layers.Dropout(0.25),
            layers.BatchNormalization(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model = Model(source.input, top(source.output))
    model.compile(tf.keras.optimizers.Adam(1e-4), loss="binary_crossentropy", metrics=["accuracy", "mae"])
    clock = Clock()
    before = time.time() - STARTED
    model.fit(train, epochs=asked.epochs, validation_data=validation, callbacks=[clock], verbose=0)
    print(json.dumps({"before": before, "epochs": clock.seconds}))


if __name__ == "__main__":
    main()
