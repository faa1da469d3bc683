"""Holding this library against numbers that the original program recorded.

Every runner knows one kind of case. It calls the library's public functions and gives back one
:class:`CaseResult` for each recorded array; an array or a case that nobody compares is a failure,
so that nothing passes unseen.
"""

from workers.read.conformance.cases import CaseResult
from workers.read.conformance.run import RUNNERS, report, run_conformance, table

__all__ = ["RUNNERS", "CaseResult", "report", "run_conformance", "table"]
