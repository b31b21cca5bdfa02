"""
What can go wrong, in one small hierarchy.

The web floor maps these to HTTP in one place (L{UWSError.status}); the command
line prints them.  Each message is meant for whoever caused it: it names the
thing, says what is wrong with it, and what would be right.
"""

from __future__ import annotations

from math import ceil


class UWSError(Exception):
    """
    Something about a job or a request could not be done.

    @cvar status: the HTTP status that tells a client so.
    """

    status = 500

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))


class BadRequest(UWSError):
    """The request is malformed."""

    status = 400


class NotAuthenticated(UWSError):
    """Log in to do this."""

    status = 401


class ParameterError(BadRequest, ValueError):
    """
    A value is not one that its parameter can have.

    @ivar name: the parameter's name, as declared.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"Parameter {name}: {message}")
        self.name = name


class Forbidden(UWSError):
    """The service does not allow this."""

    status = 403


class InsufficientScope(Forbidden):
    """These credentials are good for less than this."""


class IllegalMove(Forbidden):
    """
    A job cannot go from the phase that it is in to the one that was asked for.
    """


class NotPending(Forbidden):
    """Parameters can only be set while a job is PENDING."""


class NotFound(UWSError):
    """There is nothing here."""

    status = 404


class Gone(UWSError):
    """What was here is not here any more."""

    status = 410


class JobNotFound(NotFound):
    """
    There is no such job, or it has been destroyed.
    """

    def __init__(self, jobId: str) -> None:
        super().__init__(f"There is no job {jobId!r} here. It may have been destroyed.")
        self.jobId = jobId


class NotAllowed(UWSError):
    """
    This resource does not know that method.

    @ivar allowed: the methods that it knows.
    """

    status = 405

    def __init__(self, method: str, allowed: list[str]) -> None:
        self.allowed = sorted(allowed)
        super().__init__(f"{method} is not for this resource; it knows {', '.join(self.allowed)}.")


class NotAcceptable(UWSError):
    """None of the media types that the request accepts can be had here."""

    status = 406


class TooLarge(UWSError):
    """The request is larger than this service takes."""

    status = 413


class UnsupportedMediaType(UWSError):
    """The body of the request is of a kind that this service cannot read."""

    status = 415


class TooMany(UWSError):
    """
    This is more than the service does for anybody at a time.

    @ivar retryAfter: after how many seconds it is worth trying again.
    """

    status = 429

    def __init__(self, message: str | None = None, retryAfter: int = 30) -> None:
        super().__init__(message)
        self.retryAfter = retryAfter


class Unavailable(UWSError):
    """
    The service cannot do this now, but the same request may succeed later.

    @ivar retryAfter: after how many seconds it is worth trying again.
    """

    status = 503
    retryAfter = 5


class TooManyRequests(Unavailable):
    """
    Whoever asks has asked too often.

    @ivar retryAfter: after how many seconds they may again.
    """

    status = 429

    def __init__(self, message: str, seconds: float) -> None:
        self.retryAfter = max(1, ceil(seconds))
        super().__init__(f"{message} Try again in {self.retryAfter} s.")


class JobLocked(Unavailable):
    """
    Somebody else is changing this job, and went on for longer than we wait.
    """

    retryAfter = 1

    def __init__(self, jobId: str) -> None:
        super().__init__(f"Job {jobId} is being changed by somebody else; try again.")


class DatabaseUnavailable(Unavailable):
    """The database cannot be reached at the moment; try again later."""


class DatabaseBusy(DatabaseUnavailable):
    """The service is asked for more at the moment than it can do; try again later."""


class TransactionAborted(UWSError):
    """A transaction went on after a failed statement, and so was rolled back."""


class SchemaMismatch(UWSError):
    """The database has another version of the schema than this twuws."""


class StaleAttempt(UWSError):
    """
    The job has been stopped, or started again, since: this attempt may write nothing.
    """


class JobFailure(UWSError):
    """
    For job classes to raise: the job ends in ERROR with this message.

    @ivar detail: what C{/error} says beyond the message; may be long.
    @ivar transient: whether the same job may well succeed later.
    """

    def __init__(self, message: str, detail: str | None = None, transient: bool = False) -> None:
        super().__init__(message)
        self.detail = detail
        self.transient = transient


class ConfigError(UWSError):
    """
    The configuration has mistakes.

    @ivar mistakes: all of them, a line each.
    """

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class EmbeddedPostgresError(UWSError):
    """The embedded PostgreSQL cannot be run."""
