"""
The end of work that is a fork of a process which has imported much (L{twuws.forking}).

An interpreter that ends waits for threads, does what modules want done at exit, and then takes all
modules apart.  In a fork this is the most of it, for every page of memory is copied that is written
to.  What it is good for is to write what is still in the buffers of files that modules have
left open; else Python does not even promise that C{__del__} of what is there then is called.

So modules stay as they are where the work has left nothing open.  The process ends by C{exit} of
C then, not at once: libraries have buffers, too, and things to do at exit.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import io
import sys
from typing import Any

from twuws import family

#: Files that have something in memory until they are flushed.
BUFFERED = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)


class Exit:
    """
    The end of this process.

    @ivar status: its exit status; C{None} if it is not the work, or has not returned in order.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self._isPrepared = False
        self._files: dict[int, str] = {}
        self._streams: list[Any] = []

    def prepare(self) -> None:
        """Called before modules are imported: what they want done at exit is done before ours."""
        atexit.register(self._leave)
        self._isPrepared = True

    def remember(self) -> None:
        """What there is by now the work has not left; nor need anybody look for garbage in it."""
        if not self._isPrepared:
            return
        self._files = family.openFiles()
        self._streams += streams()
        gc.freeze()

    def _leave(self) -> None:
        """End here, or, by returning, as usual."""
        if self.status is not None and self._isNothingLeft():
            ctypes.PyDLL(None).exit(self.status)
        gc.unfreeze()  # or else files of modules that were frozen would never be closed

    def _isNothingLeft(self) -> bool:
        try:
            self._flush()
            gc.collect()  # which closes files, but in any order
            sys.stdout.flush()
            sys.stderr.flush()
            return family.openFiles() == self._files
        except Exception:  # of which more will be said
            return False

    def _flush(self) -> None:
        for stream in [*self._streams, *streams()]:
            if not stream.closed:
                stream.flush()


def streams() -> list[Any]:
    """
    The file objects with buffers that are not older than C{gc.freeze}: some may be for stdout, so
    that no other descriptor tells of them.
    """
    return [one for one in gc.get_objects() if issubclass(type(one), BUFFERED)]


#: That of this process.
end = Exit()
