"""
What a check works with: a service, its jobs, and what is asked of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

from twuws.conformance.answers import Answer
from twuws.conformance.client import Client, Pairs, below, makePool
from twuws.conformance.documents import Document, JobRef, jobRefs, tag
from twuws.conformance.job import Job
from twuws.conformance.outcomes import Failed, Skipped, Unusable
from twuws.conformance.schema import problems
from twuws.conformance.settings import ParameterSet, Settings
from twuws.conformance.wire import Wire
from twuws.conformance.xsd import PublishedSchema

T = TypeVar("T")


class Session:
    """
    A service under test.  Checks call it C{uws}.

    It remembers each job that is made, whoever of its clients makes it and with whatever
    request, and deletes it: L{tidy} after each check, L{close} at the end.

    @ivar client: who the kit is; L{get}, L{post} and so on are by it.
    @ivar anonymous: somebody without credentials.
    @ivar made: how many jobs were made, and C{deleted} again.
    @ivar left: the URLs of those that could not be deleted.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._pool = makePool(settings)
        self.client = self._client(settings.credentials)
        self.anonymous = self._client(None)
        self._published = settings.xsd and PublishedSchema(settings.xsd)
        self._counting = threading.Lock()
        self.made = self.deleted = 0
        self.left: list[str] = []
        self._alive: dict[str, Client] = {}
        self._shared: dict[str, Any] = {}
        self._kept: set[str] = set()

    def _client(self, credentials: Any) -> Client:
        return Client(self.settings, self._pool, credentials, self._remember)

    @property
    def url(self) -> str:
        """The job list."""
        return self.settings.listURL

    # Who asks.

    @property
    def other(self) -> Client:
        """Another user; the check is skipped if none is known."""
        if self.settings.other is None:
            raise Skipped("no other user is known; give --other-user or --other-token")
        return self._client(self.settings.other)

    def get(self, url: str = "", **more: Any) -> Answer:
        """See L{Client.request}; no URL is the job list."""
        return self.client.get(url, **more)

    def head(self, url: str = "", **more: Any) -> Answer:
        """See L{Client.request}."""
        return self.client.head(url, **more)

    def post(self, url: str = "", form: Pairs = (), **more: Any) -> Answer:
        """See L{Client.request}."""
        return self.client.post(url, form, **more)

    def put(self, url: str, body: bytes, **more: Any) -> Answer:
        """See L{Client.request}."""
        return self.client.put(url, body, **more)

    def delete(self, url: str, **more: Any) -> Answer:
        """See L{Client.request}."""
        return self.client.delete(url, **more)

    def wire(self) -> Wire:
        """A connection to the service on which anything can be sent; for C{with}."""
        return Wire(self.settings, partial(self._remember, self.client))

    def follow(self, url: str) -> Answer:
        """What is at a URL in the end: up to ten redirects are followed."""
        answer = self.get(url)
        for _ in range(10):
            if answer.status not in (301, 302, 303, 307, 308):
                break
            answer = self.get(urljoin(answer.asked.url, answer.location))
        return answer

    # What is asked of it.

    def expect(self, answer: Answer, *statuses: int) -> Answer:
        """The answer, if its status is one of these; else the check fails."""
        if answer.status not in statuses:
            wanted = " or ".join(map(str, statuses))
            raise Failed(f"The status is {answer.status}, and not {wanted}.", answer)
        return answer

    def expectRefusal(self, answer: Answer) -> Answer:
        """The answer, if it says that the client is wrong: 400 to 499."""
        if not 400 <= answer.status < 500:
            raise Failed(f"The status is {answer.status}, and not 4xx.", answer)
        return answer

    def require(self, condition: object, otherwise: str, answer: Answer | None = None) -> None:
        """
        Fail the check unless a condition holds.

        @param otherwise: what was found, as a sentence.
        @param answer: what shows it, if that is not the last answer.
        """
        if not condition:
            raise Failed(otherwise, answer)

    def valid(self, answer: Answer, name: str) -> Document:
        """The document in an answer, if it is valid, with this document element."""
        document = Document(answer.xml())
        if document.root.tag != tag(name):
            raise Failed(f"The document element is {document.root.tag}, not uws:{name}.", answer)
        found = problems(document.root)
        if self._published:
            found += self._published.problems(document.root)
        if found:
            raise Failed("The document is not valid: " + "; ".join(found) + ".", answer)
        return document

    # The parameter sets; a check that needs one that is not known is skipped.

    @property
    def veryShort(self) -> ParameterSet:
        """What makes a job that ends at once; nothing at all, if no set is known."""
        return self.settings.veryShort or ParameterSet()

    @property
    def short(self) -> ParameterSet:
        """What makes a job that takes some seconds."""
        return self._known("short")

    @property
    def long(self) -> ParameterSet:
        """What makes a job that takes longer than any check."""
        return self._known("long")

    @property
    def error(self) -> ParameterSet:
        """What makes a job that ends in C{ERROR}."""
        return self._known("error")

    def _known(self, name: str) -> ParameterSet:
        known: ParameterSet | None = getattr(self.settings, name)
        if known is None:
            raise Skipped(f"not known how to make such a job; give --{name} NAME=VALUE")
        return known

    # Jobs.

    def newJob(
        self,
        parameters: ParameterSet | None = None,
        *,
        run: bool = False,
        controls: Pairs = (),
        client: Client | None = None,
    ) -> Job:
        """
        Make a job.

        @param parameters: those of a very short one if not given.
        @param run: whether to start it, by a request of its own.
        @param controls: what else to send, as C{RUNID}.
        """
        chosen = self.veryShort if parameters is None else parameters
        pairs = [*chosen.pairs, *dict(controls).items()]
        answer = (client or self.client).post("", pairs, files=chosen.files)
        job = self.jobFrom(answer, client)
        if run:
            job.run()
        return job

    def adopt(self, answer: Answer) -> Job:
        """The job that another request than a creation has led to; it will be deleted, too."""
        path = urlsplit(urljoin(answer.asked.url, answer.location)).path
        home = urlsplit(self.url).path + "/"
        there = path.startswith(home)
        jobId = path[len(home) :].split("/")[0] if there else path.rstrip("/").split("/")[-1]
        self._remember(self.client, f"{self.url}/{jobId}")
        return Job(self, self.client, f"{self.url}/{jobId}", answer)

    def jobFrom(self, answer: Answer, client: Client | None = None) -> Job:
        """The job that an answer to a creation speaks of."""
        location = self.expect(answer, 303).location
        return Job(self, client or self.client, urljoin(self.url, location), answer)

    def completed(self) -> Job:
        """
        A job that is C{COMPLETED}.  All checks share it: it is for reading only.

        The check is skipped if no very short job is known, and one without parameters fails.
        """

        def make() -> Job:
            job = self.newJob(run=True)
            phase = job.ended().phase
            if phase == "ERROR" and self.settings.veryShort is None:
                raise Skipped("a job without parameters fails; give --veryshort NAME=VALUE")
            self.require(phase == "COMPLETED", f"The very short job is {phase}, not COMPLETED.")
            return job

        return self.share("completed", make)

    def pending(self) -> Job:
        """A job that was never started.  All checks share it: it is for reading only."""
        return self.share("pending", self.newJob)

    def share(self, name: str, make: Callable[[], T]) -> T:
        """
        What C{make} returns the first time, for all checks that ask for this name.

        The jobs that it makes are for reading only, and stay until the end.
        """
        if name not in self._shared:
            before = set(self._alive)
            self._shared[name] = make()
            self._kept |= set(self._alive) - before
        found: T = self._shared[name]
        return found

    def jobs(self, query: Pairs = (), *, client: Client | None = None) -> list[JobRef]:
        """The entries of the job list."""
        answer = (client or self.client).get(query=query)
        return jobRefs(self.expect(answer, 200).xml())

    # Time, and many at once.

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)

    def until(self, condition: Callable[[], T], seconds: float, otherwise: str) -> T:
        """What C{condition} returns as soon as that is true; else the check fails."""
        end = time.monotonic() + seconds
        while True:
            found = condition()
            if found:
                return found
            self.require(time.monotonic() < end, otherwise)
            time.sleep(min(0.05, self.settings.poll))

    def many(self, loaded: int, otherwise: int) -> int:
        """How often to do something: more where loading the service was asked for."""
        return loaded if self.settings.load else otherwise

    def parallel(self, calls: Sequence[Callable[[], T]], atOnce: int = 50) -> list[T]:
        """What each of C{calls} returns, so many made at once; fails if one does."""
        with ThreadPoolExecutor(max_workers=max(1, min(len(calls), atOnce))) as threads:
            return [future.result() for future in [threads.submit(call) for call in calls]]

    # The end.

    def _remember(self, client: Client, location: str) -> None:
        url = below(self.url, location)
        with self._counting:
            if url != f"{self.url}/" and url not in self._alive:
                self.made += 1
                self._alive[url] = client

    def tidy(self) -> None:
        """Delete the jobs that the last check has made, and nobody shares."""
        self.parallel([partial(self._delete, url) for url in self._alive if url not in self._kept])

    def close(self) -> None:
        """Delete all jobs that are left; a second interrupt leaves them."""
        self._shared.clear()
        self._kept.clear()
        try:
            self.tidy()
        except KeyboardInterrupt:
            self.left += self._alive
        self._pool.clear()

    def _delete(self, url: str) -> None:
        try:
            gone = _destroyed(self._alive[url], url)
        except Failed:
            gone = False
        with self._counting:
            del self._alive[url]
            if gone:
                self.deleted += 1
            else:
                self.left.append(url)

    def greet(self) -> None:
        """
        Look whether there is a job list at all.

        @raise Unusable: if there is none.
        """
        try:
            answer = self.get(query={"LAST": "1"})
        except Failed as e:
            raise Unusable(str(e)) from None
        if answer.status in (401, 403):
            raise Unusable(f"{self.url} answers {answer.status}; give --user or --token")
        if answer.status == 404:
            raise Unusable(f"{self.url} answers 404; the URL is that of the job list")


def _destroyed(client: Client, url: str) -> bool:
    """Whether a job is gone; one that may not be deleted as it is will be aborted before."""
    gone = (200, 202, 204, 303, 404, 410)
    if client.delete(url).status in gone:
        return True
    client.post(f"{url}/phase", {"PHASE": "ABORT"})
    return client.delete(url).status in gone or (
        client.post(url, {"ACTION": "DELETE"}).status in (*gone, 302)
        and client.get(url).status in (404, 410)
    )
