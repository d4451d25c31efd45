from __future__ import annotations

from curri_leitner import Leitner

from curri.testing import Case, Check, parametrize


@parametrize([Case(Leitner), Case(Leitner, {"setback": "one", "mastered": 0.5, "boxes": 3})])
def test_contract(check: Check) -> None:
    check()
