"""
The service that C{twistd uws} runs: a database, jobs and HTTP.
"""

from __future__ import annotations

import atexit
import gc
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.main import CONNECTION_DONE
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from twuws import schema
from twuws.composition import embeddedPostgres, makeDataDir, makeServices, webSettings
from twuws.config import Config
from twuws.database import Database, shield
from twuws.errors import DatabaseUnavailable, UWSError
from twuws.jobservices import JobServices
from twuws.metrics import MetricsSite
from twuws.web.bodies import requestFactory

log = Logger()


class WorkerService(Service):
    """
    A database, jobs and HTTP, begun in this order and ended in the other.

    @param config: see L{twuws.config.load}.
    @ivar url: where it is, once it is there.
    """

    def __init__(self, config: Config, reactor: Any = None) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.config = config
        self.reactor = reactor
        self.url: str | None = None
        self._starting: Deferred[None] = succeed(None)
        self._begun: list[Any] = []
        self._jobServices: JobServices | None = None
        self._leaving = _Leaving()

    def startService(self) -> None:
        super().startService()
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see makeService
            signal.signal(signal.SIGINT, signal.default_int_handler)  # the reactor replaces it
        self.reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        if self.running:
            _takeAllDescriptors()
            if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
                signal.signal(signal.SIGHUP, self._hungUp)
            self._starting = Deferred.fromCoroutine(self._start())
            self._starting.addErrback(self._failed)

    def _hungUp(self, number: int, frame: Any) -> None:
        """The terminal has been closed: stop in order, PostgreSQL too."""
        self.reactor.callFromThread(self._stopReactor)

    def _stopReactor(self) -> None:
        with suppress(ReactorNotRunning):  # it stops already
            self.reactor.stop()

    async def _start(self) -> None:
        config = self.config
        for warning in config.warnings:
            log.warn("{warning}", warning=warning)
        makeDataDir(config)
        database = Database(await self._dsn(), reactor=self.reactor)
        self._add(database)
        self._begun.append(self._leaving)
        try:
            await schema.prepare(database)
        except DatabaseUnavailable as e:
            raise UWSError(f"{e} Look whether PostgreSQL runs, and at --database.") from None
        services = makeServices(config, database)
        jobServices = JobServices(services, config.slots, config.node, self._leave)
        self._add(jobServices)
        if config.metrics is not None:
            await self._listenForMetrics(config.metrics, jobServices)
        names = ", ".join(uws.name for uws in services)
        if config.node.servesWeb:
            await self._listen(services)
            log.info("twuws serves {names} at {url}", names=names, url=self.url)
        else:
            log.info("twuws runs jobs of {names}", names=names)
        self._jobServices = jobServices
        # What there is by now stays.  To look through it for garbage took 50 ms, every 1,500
        # requests or so, in which nobody was answered; now it takes 1.5.
        gc.freeze()

    async def _dsn(self) -> str:
        """Where the database is; if it is our own, it is started."""
        if self.config.database is not None:
            return self.config.database
        postgres = embeddedPostgres(self.config, self.reactor)
        self._add(postgres)
        return await postgres.start()

    def _add(self, service: Any) -> None:
        self._begun.append(service)
        service.startService()

    async def _listen(self, services: list[Any]) -> None:
        from twuws.web.audit import AuditLog
        from twuws.web.root import RootResource  # Klein would install a reactor
        from twuws.web.site import PoliteSite

        settings = webSettings(self.config, services[0].database)
        root = RootResource(services, replace(settings, audit=AuditLog(self.config.audit)))
        makeRequest = requestFactory(self.config.dataDir / "jobs", self.config.web)
        limits = self.config.limits
        site = self._leaving.site = PoliteSite(
            root, makeRequest, self.reactor, limits.connection, self._isSpared
        )
        port = await self._listenAt(self.config.listen, site, "--listen tcp:8081")
        self.url = self.config.web.publicURL or _urlOf(port)

    def _isSpared(self, host: str | None) -> bool:
        """Whether a peer can have any number of connections: proxies have those of others."""
        return self.config.limits.spared.trusts(host) or self.config.web.proxies.trusts(host)

    async def _listenForMetrics(self, endpoint: str, jobServices: JobServices) -> None:
        port = await self._listenAt(endpoint, MetricsSite(jobServices), "--metrics tcp:9101")
        log.info("metrics are at {url}metrics", url=_urlOf(port))

    async def _listenAt(self, endpoint: str, site: Any, otherwise: str) -> Any:
        """
        Answer HTTP at an endpoint; return the port.

        @param otherwise: what choosing another one looks like.
        """
        try:
            port = await serverFromString(self.reactor, endpoint).listen(site)
        except CannotListenError as e:
            raise UWSError(
                f"Port {e.port} cannot be had ({_reason(e)}): stop whatever uses it, or choose"
                f" another one, as in {otherwise}:interface=127.0.0.1."
            ) from None
        except (OSError, OverflowError, ValueError) as e:
            raise UWSError(
                f"{endpoint} cannot be had ({e}): choose another one, as in"
                f" {otherwise}:interface=127.0.0.1."
            ) from None
        if "backlog=" not in endpoint:
            _admitMany(port)
        self._begun.append(Listening(port))
        return port

    def _leave(self) -> None:
        """Somebody elsewhere has asked for it, and the jobs are taken care of."""
        if self.running:
            self._stopReactor()

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        if failure.check(UWSError):
            log.critical("twuws cannot start: {e}", e=failure.value)
        else:
            log.failure("twuws cannot start", failure)
        _exitWith(1)
        self.reactor.callLater(0, self.reactor.stop)

    async def stopService(self) -> None:
        """
        Stop all of it; what becomes of jobs that run is a matter of configuration.

        HTTP is answered until they have ended, where they are waited for.  Requests that are
        under way then are answered, too.
        """
        super().stopService()
        self._starting.cancel()
        await shield(self._starting)
        if self._jobServices is not None:
            await self._jobServices.drain()
        while self._begun:
            await maybeDeferred(self._begun.pop().stopService)


def _admitMany(port: Any) -> None:
    """
    Let as many clients come at once as the system has it: of those beyond Twisted's 50 each
    would wait for a second or more until it tries again.
    """
    if isinstance(getattr(port, "socket", None), socket.socket):
        port.socket.listen(socket.SOMAXCONN)


class Listening:
    """A port, as something to stop."""

    def __init__(self, port: Any) -> None:
        self._port = port

    def stopService(self) -> Any:
        if not hasattr(self._port, "doRead"):
            return self._port.stopListening()
        # Who has got through to the port already would see a reset.  So they are accepted, and it
        # is closed in the same breath, not in the reactor's next turn, as stopListening does.
        self._port.numberAccepts = socket.SOMAXCONN  # else so many as have come at a time lately
        self._port.doRead()
        self._port.connectionLost(Failure(CONNECTION_DONE))
        return None


class _Leaving:
    """A site, as something to stop."""

    site: Any = None

    async def stopService(self) -> None:
        if self.site is not None:
            await self.site.leave()


def _reason(error: CannotListenError) -> str:
    return getattr(error.socketError, "strerror", None) or str(error.socketError)


def _urlOf(port: Any) -> str:
    """A URL for people to try, of a port that is listened to."""
    address = port.getHost()
    host = getattr(address, "host", None)
    if host is None:
        return str(address)
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104
    scheme = "https" if isinstance(getattr(port, "factory", None), TLSMemoryBIOFactory) else "http"
    return f"{scheme}://{host}:{address.port}/"


def _takeAllDescriptors() -> None:
    """
    Use as many file descriptors as this process is allowed, rather than the 1,024 that are
    usual: everybody who waits holds one.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):  # there are systems where the allowed is too much
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _exitWith(status: int) -> None:
    """
    Make the process end with a status once twistd has cleaned up: it knows no way to say
    that a service could not start.
    """

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    atexit.register(leave)
