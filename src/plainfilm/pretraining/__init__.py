"""Weights without patients: what a network learns from images that formulas draw, or from a folder without labels."""
