"""
What may have become of a job, by what its client was told and by what was broken.

The model of a job is the set of all phases that it may be in.  What is asked for and answered,
and what is seen, makes the set smaller; what goes on by itself, and what was asked for without an
answer, makes it larger.  When it gets empty, something has happened that must not.

This knows nothing of HTTP, of processes or of clocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from itertools import permutations

#: A job that is not there any more: one more phase, as far as this is concerned.
GONE = "GONE"
FINAL = frozenset({"COMPLETED", "ERROR", "ABORTED"})

#: What an answer means: it was done, it was refused, there was no such job, or nobody knows.
ACKED, REFUSED, NOT_FOUND, UNSURE = "acked", "refused", "not found", "unsure"


class Contradiction(AssertionError):
    """What was told or seen cannot be."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """
    What a client can ask for.

    @ivar what: C{run}, C{abort}, C{delete}, or what is to be set: C{text}, C{duration} or
        C{destruction}.
    @ivar value: of what is to be set: text, seconds, or an instant in seconds.
    """

    what: str
    value: str | float = ""

    def __str__(self) -> str:
        return f"{self.what} {self.value}".strip()


def queued(held: Set[bool]) -> set[str]:
    """What a job becomes that is to be queued, by whether its service may be held."""
    return {"HELD" if one else "QUEUED" for one in held}


def granted(wish: Wish, phase: str, held: Set[bool]) -> set[str]:
    """What a job in a phase may be in once it got what was wished; none if it is refused."""
    if phase == GONE:
        return set()
    match wish.what:
        case "run":
            return queued(held) if phase in ("PENDING", "HELD") else set()
        case "abort":
            return {"ABORTED"} if phase not in FINAL - {"ABORTED"} else set()
        case "delete":
            return {GONE}
        case "destruction":
            return {phase}
        case "duration":
            return {phase} - FINAL
        case "text":
            return {phase} & {"PENDING"}
    raise ValueError(wish.what)


@dataclass(kw_only=True, eq=False)
class Job:
    """
    A job, as far as is known.

    @ivar held: whether its service may be held; all jobs of the service share it.
    @ivar isRestartable: it is started again when its work is lost.
    @ivar isHere: its work is in the process of a node.
    @ivar may: the phases that it may have been in when something was last known.
    @ivar values: what each property may be that clients set.
    @ivar open: wishes without an answer: they may be granted at any time.
    @ivar gate: how its work was told to end, if it was.
    @ivar mayRestart: its work may be lost, and if so it is queued again.
    @ivar mayFail: its work may be lost, and if so it is in error.
    @ivar mayAbort: an administrator or a limit may end it.
    @ivar hasExpired: its destruction time has, or may have, come.
    @ivar document: what it looked like when it was first seen to be final.
    """

    service: str
    runId: str
    jobId: str | None = None
    key: str | None = None
    held: set[bool] = field(default_factory=lambda: {False})
    isRestartable: bool = False
    isHere: bool = False
    may: set[str] = field(default_factory=lambda: {"PENDING"})
    values: dict[str, set[str | float]] = field(default_factory=dict)
    open: list[Wish] = field(default_factory=list)
    gate: str | None = None
    mayRestart: bool = False
    mayFail: bool = False
    mayAbort: bool = False
    hasExpired: bool = False
    document: str | None = None

    def __str__(self) -> str:
        return f"{self.jobId or self.runId} of {self.service}"

    # What goes on by itself

    def reach(self, may: Set[str] | None = None) -> set[str]:
        """All phases that it may be in by now."""
        found = set(self.may if may is None else may)
        todo = list(found)
        while todo:
            for phase in set(self._next(todo.pop())) - found:
                found.add(phase)
                todo.append(phase)
        return found

    def _next(self, phase: str) -> Iterator[str]:
        """The phases that may follow without anybody being asked, or answered."""
        if phase == GONE:
            return
        if self.hasExpired:
            yield GONE
        for wish in self.open:
            yield from granted(wish, phase, self.held)
        if phase == "QUEUED" and False in self.held:
            yield "EXECUTING"
        if phase in ("QUEUED", "HELD"):
            yield from queued(self.held)
        if phase == "EXECUTING":
            yield from self._ends()

    def _ends(self) -> Iterator[str]:
        if self.gate is not None:
            yield "ERROR" if self.gate == "fail" else "COMPLETED"
        if self.mayRestart:
            yield from queued(self.held)
        if self.mayFail:
            yield "ERROR"
        if self.mayAbort or 1 in self.values["duration"]:
            yield "ABORTED"

    # What is told, seen and broken

    def tell(self, *answers: tuple[Wish, str]) -> None:
        """
        Something was asked for and answered; if it is several things, all at the same time.

        @raise Contradiction: if there is no order in which that can be.
        """
        before = self.reach()
        self.open += [wish for wish, how in answers if how == UNSURE]
        after: set[str] = set()
        for order in permutations(answers):
            after |= self._after(before, order)
        if not after:
            told = ", ".join(f"{wish}: {how}" for wish, how in answers)
            raise Contradiction(f"{self}: {told}; it may be {_words(before)}")
        self.may = after
        for wish, how in answers:
            if how == ACKED:  # what was wished before holds no longer, unless it is granted late
                self.values[wish.what] = {one.value for one in self.open if one.what == wish.what}
        for wish, how in answers:
            if how in (ACKED, UNSURE):
                self.values.setdefault(wish.what, set()).add(wish.value)

    def _after(self, may: set[str], answers: Sequence[tuple[Wish, str]]) -> set[str]:
        for wish, how in answers:
            may = self.reach(may)
            if how == ACKED:
                may = {phase for one in may for phase in granted(wish, one, self.held)}
            elif how == REFUSED:
                may = {one for one in may - {GONE} if not granted(wish, one, self.held)}
            elif how == NOT_FOUND:
                may = may & {GONE}
        return may

    def see(self, phase: str) -> None:
        """
        It was in this phase, or was gone.

        @raise Contradiction: if that cannot be.
        """
        possible = self.reach()
        if phase not in possible:
            raise Contradiction(f"{self} is {phase}; it may be {_words(possible)}")
        self.may = {phase}

    def wait(self) -> None:
        """Time has passed."""
        self.may = self.reach()

    def hold(self, isHeld: bool) -> None:
        """
        Its service was held, or released; to be called while C{held} says that it may be both.
        """
        before, after = ("QUEUED", "HELD") if isHeld else ("HELD", "QUEUED")
        self.may = {after if one == before else one for one in self.reach()}

    def shake(self, fails: bool) -> None:
        """
        Something was broken on which its work depends, if it works.

        @param fails: for longer than the work survives; if not, it is queued again at most,
            before it has begun.
        """
        if "EXECUTING" in self.reach():
            self.mayRestart = True
            self.mayFail = self.mayFail or (fails and not self.isRestartable)


def _words(phases: Set[str]) -> str:
    return " or ".join(sorted(phases))
