"""
A job that the kit has made.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from twuws.conformance.answers import Answer
from twuws.conformance.client import Client
from twuws.conformance.documents import TERMINAL, Document, tag
from twuws.conformance.outcomes import Failed

if TYPE_CHECKING:
    from twuws.conformance.session import Session


class Job:
    """
    A job, for the client that made it.

    @ivar url: where it is, as the service has said.
    @ivar answer: that to its creation.
    """

    def __init__(self, uws: Session, client: Client, url: str, answer: Answer) -> None:
        self._uws = uws
        self.client = client
        self.url = url
        self.answer = answer

    @property
    def id(self) -> str:
        """The last element of its path."""
        return self.url.rpartition("/")[2]

    def get(self, path: str = "", **more: Any) -> Answer:
        """Read the job, or what is below it at C{path}."""
        return self.client.get(self.url + path, **more)

    def post(self, path: str = "", form: Any = (), **more: Any) -> Answer:
        """Post a form to the job, or to what is below it."""
        return self.client.post(self.url + path, form, **more)

    def delete(self) -> Answer:
        """Ask for its end."""
        return self.client.delete(self.url)

    def run(self) -> Answer:
        """Ask for its start; the answer must be 303."""
        return self._uws.expect(self.post("/phase", {"PHASE": "RUN"}), 303)

    def abort(self) -> Answer:
        """Ask for it to be aborted; the answer must be 303."""
        return self._uws.expect(self.post("/phase", {"PHASE": "ABORT"}), 303)

    def phase(self) -> str:
        """The phase at C{/phase}, without white space around it."""
        return self._uws.expect(self.get("/phase"), 200).text.strip()

    def document(self, **more: Any) -> Document:
        """The job document, which may be invalid, but must be that of a job."""
        return self.read(self.get(**more))

    def read(self, answer: Answer) -> Document:
        """The job document in an answer."""
        root = self._uws.expect(answer, 200).xml()
        if root.tag != tag("job"):
            raise Failed(f"The document element is {root.tag}, not that of a job.", answer)
        return Document(root)

    def waitUntil(self, *phases: str, seconds: float | None = None) -> Document:
        """
        The job document once the job is in one of C{phases}.

        @param seconds: how long that may take; by default as long as a very short job may.
        @raise Failed: if it takes longer, or if the job ends in another phase.
        """
        until = time.monotonic() + (self._uws.settings.patience if seconds is None else seconds)
        pause = min(0.02, self._uws.settings.poll)
        while True:
            document = self.document()
            if document.phase in phases:
                return document
            wanted = " or ".join(phases)
            if document.phase in TERMINAL:
                raise Failed(f"The job is {document.phase}, and not {wanted}.")
            if time.monotonic() > until:
                raise Failed(f"The job is still {document.phase}, and not {wanted}.")
            time.sleep(pause)
            pause = min(pause * 2, self._uws.settings.poll)

    def ended(self, seconds: float | None = None) -> Document:
        """The job document once the job has ended, however."""
        return self.waitUntil(*TERMINAL, seconds=seconds)

    def isGone(self) -> bool:
        """Whether there is no such job."""
        return self.get().status == 404
