"""The image formats: recognised by content, walked by our own short readers, decoded by Pillow."""
