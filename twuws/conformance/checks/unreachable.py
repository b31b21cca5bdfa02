"""
Behaviours that nobody can see over HTTP alone, and those of TAP, which is more than a UWS.
"""

from __future__ import annotations

from twuws.conformance.registry import unreachable

_HTTP = "not reachable over HTTP alone: "
_SIGNALS = _HTTP + "the service has to be stopped, or killed, and started again"
_NODES = _HTTP + "it needs two processes of one service"
_TAP = "it concerns services that are TAP, and is for a checker of TAP, such as taplint"

unreachable(
    55, "R", "2.2.1.2", "Who waits at one process learns of a change made through another.",
    _NODES,
)  # fmt: skip
unreachable(
    84, "R", "3", "An administrator sees and aborts jobs of others, and that is recorded.",
    _HTTP + "who is an administrator, and where the record is, differs",
)  # fmt: skip
unreachable(
    86, "R", "2.1.3", "After a stop in good order, no job is EXECUTING that nobody works on.",
    _SIGNALS,
)  # fmt: skip
unreachable(
    87, "R", "2.1.3", "After a sudden end, no job stays EXECUTING that nobody works on.",
    _SIGNALS,
)  # fmt: skip
unreachable(
    88, "R", "2.1.3", "Jobs that are QUEUED outlive a restart, and run in their order.", _SIGNALS
)
unreachable(
    89, "R", "2.1.3", "Phase, times, parameters and more of any job outlive a restart.", _SIGNALS
)
unreachable(
    90, "R", "2.2.3.6", "A job that was aborted just before a restart is ABORTED after it.",
    _SIGNALS,
)  # fmt: skip
unreachable(
    91, "R", "2.1.3", "Two processes share queue and control; a dead one's jobs are recovered.",
    _NODES,
)  # fmt: skip
unreachable(
    92, "R", "2.1.3", "A process that is cut off ends its jobs before another starts them.",
    _NODES,
)  # fmt: skip
unreachable(
    93, "R", "2.2", "Without its database a service answers 503, and loses nothing.",
    _HTTP + "its database has to be stopped",
)  # fmt: skip
unreachable(
    94, "R", "2.2.2.5", "A job whose result does not fit on the disk ends in ERROR, and says so.",
    _HTTP + "its disk has to be full",
)  # fmt: skip
unreachable(
    "L18", "S", "-", "Jobs of a TAP service have no text in jobInfo, which ends Aladin.", _TAP
)
unreachable(
    "L20", "S", "TAP 2.2", "A TAP service has one result called result, and errors as VOTables.",
    _TAP,
)  # fmt: skip
unreachable(
    "L21", "S", "TAP 2.7", "A TAP service takes a wrong query, and fails when that is run.", _TAP
)
