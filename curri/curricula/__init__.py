"""The strategies, one file each. A class is imported when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curri._lazy import imported
from curri.registry import BUILT_IN

if TYPE_CHECKING:
    from curri.curricula.adarft import AdaRFT as AdaRFT
    from curri.curricula.base import Curriculum as Curriculum
    from curri.curricula.base import Picked as Picked
    from curri.curricula.base import Request as Request
    from curri.curricula.base import Verdict as Verdict
    from curri.curricula.base import draw_by_weight as draw_by_weight
    from curri.curricula.base import pick_best as pick_best
    from curri.curricula.dapo import DAPO as DAPO
    from curri.curricula.easy_to_hard import EasyToHard as EasyToHard
    from curri.curricula.eva import Eva as Eva
    from curri.curricula.evidence import Evidence as Evidence
    from curri.curricula.evidence import Groups as Groups
    from curri.curricula.frontier import Frontier as Frontier
    from curri.curricula.greso import GRESO as GRESO
    from curri.curricula.learning_progress import LearningProgress as LearningProgress
    from curri.curricula.modomodo import MoDoMoDo as MoDoMoDo
    from curri.curricula.mopps import MoPPS as MoPPS
    from curri.curricula.pcl import PCL as PCL
    from curri.curricula.reinforce_ada import ReinforceAda as ReinforceAda
    from curri.curricula.sec import SEC as SEC
    from curri.curricula.ucb import UCB as UCB
    from curri.curricula.uniform import Uniform as Uniform
    from curri.curricula.vas import VAS as VAS

_HOMES = {target.partition(":")[2]: target.partition(":")[0] for target in BUILT_IN.values()}
_HOMES |= dict.fromkeys(
    ("Curriculum", "Picked", "Request", "Verdict", "draw_by_weight", "pick_best"), "curri.curricula.base"
)
_HOMES |= dict.fromkeys(("Evidence", "Groups"), "curri.curricula.evidence")
__all__ = sorted(_HOMES)  # noqa: PLE0605  built from the table of strategies


def __getattr__(name: str) -> Any:
    return imported(__name__, _HOMES, name)
