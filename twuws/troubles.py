"""
Why a file could not be loaded from a server, in words for whoever named it.
"""

from __future__ import annotations

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import error
from twisted.logger import Logger
from twisted.python.failure import Failure

from twuws.endings import sizeInWords, whyOf

log = Logger()


class Trouble(Exception):
    """Why a download ends, as what there is to say of the place."""

    def __init__(self, why: str, transient: bool = False) -> None:
        super().__init__(why)
        self.transient = transient


def tooLarge(most: int) -> Trouble:
    """There is more than a job may load, in bytes."""
    return Trouble(f"goes beyond the {sizeInWords(most)} that are loaded for one job")


def notStored(e: OSError) -> Trouble:
    """What was loaded could not be written; that is nobody's fault but the operator's."""
    log.failure("a download cannot be stored", Failure(e))
    return Trouble(f"could not be stored: {whyOf(e)}", transient=True)


def _causes(e: BaseException) -> list[BaseException]:
    """An exception, and those that it was made of."""
    found = [e]
    for reason in getattr(e, "reasons", ()):
        if isinstance(reason, Failure) and reason.value is not None:
            found += _causes(reason.value)
    return found


#: What Twisted's exceptions mean, and whether it may be otherwise later; the first counts.
_MEANINGS: list[tuple[tuple[type[BaseException], ...], str, bool]] = [
    ((VerificationError,), "has a TLS certificate for another host", False),
    ((error.DNSLookupError,), "has a host name that is not found", True),
    ((error.ConnectionRefusedError,), "refused the connection", True),
    ((error.TimeoutError,), "could not be reached in time", True),
    ((error.ConnectError,), "could not be reached", True),
    ((error.ConnectionAborted,), "answered with more headers than are taken", False),
    ((error.ConnectionClosed,), "closed the connection before all was there", True),
]


def troubleOf(e: Exception, isRefused: bool = False) -> Trouble:
    """
    What an exception says of the server.

    @param isRefused: there were addresses that were not connected to.
    """
    causes = _causes(e)
    if isRefused and any(isinstance(one, error.DNSLookupError) for one in causes):
        return Trouble("leads to a private address, which this service does not load from")
    for one in causes:
        if isinstance(one, SSL.Error):
            return Trouble(f"cannot be trusted: TLS: {_tlsReason(one)}")
    for kinds, why, transient in _MEANINGS:
        if any(isinstance(one, kinds) for one in causes):
            return Trouble(why, transient)
    log.info("a server does not speak HTTP: {causes}", causes=causes)
    return Trouble("does not answer as HTTP servers do")


def _tlsReason(e: SSL.Error) -> str:
    """What OpenSSL says is wrong."""
    try:
        return str(e.args[0][-1][2])
    except (IndexError, TypeError):
        return "the handshake failed"
