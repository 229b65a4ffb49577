"""NIfTI volumes: the header checked by our own short reader, voxels and orientation by nibabel."""
