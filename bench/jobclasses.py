"""
The jobs that are measured: they do as good as nothing.
"""

from __future__ import annotations

from twuws import UWSJob
from twuws import parameters as p


class Noop(UWSJob):
    """Does nothing, in the service's process."""

    async def run(self) -> None:
        pass


class Pause(UWSJob):
    """Lets some time go by, in the service's process."""

    seconds = p.Real(default=0.25, minimum=0)

    async def run(self) -> None:
        from twisted.internet import reactor
        from twisted.internet.task import deferLater

        await deferLater(reactor, self.seconds)


class Plain(UWSJob):
    """Does nothing, in a process of its own."""

    def run(self) -> None:
        pass


class Five(UWSJob):
    """Has five parameters, and a small result."""

    image = p.Text(description="which image")
    ra = p.Real(unit="deg", minimum=0, maximum=360)
    dec = p.Real(unit="deg", minimum=-90, maximum=90)
    size = p.Real(unit="deg", default=0.1, minimum=0)
    mode = p.Choice(choices=("fast", "slow"))

    async def run(self) -> None:
        with self.openResult("cutout.txt", "text/plain") as out:
            out.write(b"as good as nothing\n")


class Taking(UWSJob):
    """Takes a file."""

    file = p.File()

    async def run(self) -> None:
        pass
