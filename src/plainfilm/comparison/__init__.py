"""Several models on the same test patients: which is better, by how much, and how sure that is."""

from plainfilm.comparison.comparing import compare_predictions
from plainfilm.comparison.contenders import Contender
from plainfilm.comparison.results import Comparison, ComparisonOptions, Difference, Standing

__all__ = ["Comparison", "ComparisonOptions", "Contender", "Difference", "Standing", "compare_predictions"]
