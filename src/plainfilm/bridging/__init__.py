"""A DICOM node on this machine: images come in, a model answers, reports go back."""
