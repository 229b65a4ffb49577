"""Tables, images, splits: everything before a model."""
