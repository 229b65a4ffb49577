"""The papers' experiments: each ends in a table of what was printed, what its own way gives, and what holds."""

from plainfilm.recipes.recipe import Recipe, list_recipes, load_recipe

__all__ = ["Recipe", "list_recipes", "load_recipe"]
