"""
What a service says of itself (VOSI 1.1): C{capabilities} and C{availability}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import CancelledError, TimeoutError
from twisted.logger import Logger
from twisted.web.http import CACHED

from twuws.documents.vosi import availabilityDocument, capabilitiesDocument
from twuws.errors import DatabaseUnavailable, NotFound
from twuws.uws import UWS
from twuws.web import answers
from twuws.web.uwsactions import choose, methodOf

log = Logger()


class VOSI:
    """
    The two VOSI resources of a service, for everybody.

    @cvar patience: how long the database has for an answer, s.
    @param baseURL: the service's, as the client of a request knows it.
    @param securityMethods: see L{capabilitiesDocument}.
    """

    patience: float = 3

    def __init__(
        self, uws: UWS, baseURL: Callable[[Any], str], securityMethods: Sequence[str | None] = ()
    ) -> None:
        self._uws = uws
        self._baseURL = baseURL
        self._securityMethods = securityMethods
        self._began = datetime.now(UTC)

    async def capabilities(self, request: Any, *segments: str) -> bytes:
        """
        What the service offers, and where (3.1).

        It is made from what does not change while the process goes on, and so was last
        modified when that began to serve (V-005).
        """
        _check(request, segments)
        jobClass = self._uws.jobClass
        content = capabilitiesDocument(
            self._baseURL(request), jobClass.title, jobClass.declarations, self._securityMethods
        )
        answer = answers.document(request, content)  # its ETag counts for more than the date
        if request.setLastModified(int(self._began.timestamp())) is CACHED:
            return b""
        return answer

    async def availability(self, request: Any, *segments: str) -> bytes:
        """Whether the service can be used now, by a look at what it needs (3.2)."""
        _check(request, segments)
        notes = await self._troubles()
        return answers.document(request, availabilityDocument(not notes, self._began, notes))

    async def _troubles(self) -> list[str]:
        """What is in the way of jobs, in sentences for everybody."""
        troubles = []
        if not self._uws.watcher.running:
            troubles.append("The service is starting or stopping.")
        elif self._uws.leaving is not None:
            troubles.append(self._uws.leaving)
        asked = {"service": self._uws.name}
        looking = self._uws.runCanned("nodesTakingJobs", asked)
        try:
            nodes = await looking.addTimeout(self.patience, self._uws.database.reactor)
        except (DatabaseUnavailable, TimeoutError):
            troubles.append("The database cannot be reached.")
        except CancelledError:  # the client has gone
            raise
        except Exception:
            log.failure("looking whether {service} is available", service=self._uws.name)
            troubles.append("The database cannot be read.")
        else:
            if not nodes:
                troubles.append("No node runs jobs now: they wait.")
        return troubles


def _check(request: Any, segments: tuple[str, ...]) -> None:
    """Raise if there is nothing of that name, or if it does not know the method (V-001)."""
    if segments:
        raise NotFound
    choose({"GET": _check}, methodOf(request))
