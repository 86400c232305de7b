"""Why something is not running: facts in, one true sentence out, with a code for programs.

A task's reason is put as what follows its name (`Reason.predicate`), so that a child can say it of its parent. Nothing
here asks anybody: `tm.insight` gathers the facts.
"""

from tm.reasons.graphs import Clockwork, of_graph
from tm.reasons.reason import Busy, Known, Reason
from tm.reasons.runs import of_run
from tm.reasons.tasks import before_retry, of_task

__all__ = ["Busy", "Clockwork", "Known", "Reason", "before_retry", "of_graph", "of_run", "of_task"]
