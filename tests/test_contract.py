"""Our own backends keep the contract that we publish."""

from __future__ import annotations

from twisted.internet.task import deferLater

from twuws import backendcontract as contract
from twuws.backends.process import ProcessBackend
from twuws.backends.reactor import ReactorBackend
from twuws.errors import JobFailure
from twuws.jobs import UWSJob


class TestProcessBackend(contract.BackendContract):
    def makeBackend(self):
        return ProcessBackend()


class Quick(UWSJob):
    """Quick."""

    async def run(self):
        with self.openResult("answer", "text/plain") as out:
            out.write(b"42")


class Failing(UWSJob):
    """Failing."""

    async def run(self):
        raise JobFailure("The sky is cloudy", "all of it")


class Lasting(UWSJob):
    """Lasting, without holding up the reactor."""

    async def run(self):
        from twisted.internet import reactor

        with self.openResult("begun", "text/plain") as out:
            out.write(b"yes")
        await deferLater(reactor, 300)


class TestReactorBackend(contract.BackendContract):
    quick, failing, lasting = Quick, Failing, Lasting
    survives = False

    def makeBackend(self):
        return ReactorBackend()
