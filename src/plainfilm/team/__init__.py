"""Several processes that do one job: the first leads, writes and speaks, the others do what it asks of them.

They are started by torchrun, by SLURM's srun, or by the leader itself on its own machine. What they tell each other is
JSON and raw numbers; nothing is pickled. One that is gone, or silent for minutes, ends the work with one sentence.
"""

from plainfilm.team.gathering import gathered
from plainfilm.team.members import ALONE, Team
from plainfilm.team.place import Place, launched_place, leads_here
from plainfilm.team.tensors import spread_tensors

__all__ = ["ALONE", "Place", "Team", "gathered", "launched_place", "leads_here", "spread_tensors"]
