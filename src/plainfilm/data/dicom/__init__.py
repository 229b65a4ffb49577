"""DICOM files: the element stream walked by our own reader, pixels decoded by pydicom's permissive decoders."""
