"""plainfilm: medical image classification with a number that holds on new patients."""

__version__ = "0.1.0"
