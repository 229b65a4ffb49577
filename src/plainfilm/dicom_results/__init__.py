"""What a model says of a DICOM image, as DICOM: a structured report beside its source, a picture of its heat map."""
