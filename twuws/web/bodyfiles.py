"""
Bodies on their way into temporary files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from twuws.endings import whyOf
from twuws.errors import BadRequest, Unavailable
from twuws.submission import Upload
from twuws.workdir import WorkDirs

_CHUNK = 64 * 2**10

_log = Logger()


def removeFiles(paths: Iterable[Path]) -> None:
    """Remove temporary files, as far as they are still there."""
    for path in paths:
        path.unlink(missing_ok=True)


class BodyFiles:
    """
    The temporary files that the body of one request is taken apart into.

    @ivar paths: all of them.
    """

    def __init__(self, content: IO[bytes], uploads: WorkDirs) -> None:
        self.paths: list[Path] = []
        self._content = content
        self._uploads = uploads
        self._out: IO[bytes] | None = None
        self._abandoned = False
        self._isRead = False

    def _inThread(self, steps: list[Callable[[], None]]) -> Deferred[None]:
        """Take steps in a thread, which cleans up behind itself if the Deferred is cancelled."""

        def abandon(_: Deferred[None]) -> None:
            self._abandoned = True

        def ended(result: Any) -> Any:
            return deferToThread(self.discard) if self._abandoned else outer.callback(result)

        self._isRead = True
        outer: Deferred[None] = Deferred(abandon)
        deferToThread(self._take, steps).addBoth(ended)
        return outer

    def _take(self, steps: list[Callable[[], None]]) -> None:
        try:
            for step in steps:
                step()
        except OSError as e:
            self.discard()
            _log.error("A request's files cannot be stored: {e}", e=e)
            raise Unavailable(f"The service cannot store this now: {whyOf(e)}.") from e
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Remove all temporary files.  Blocks."""
        if self._out is not None:
            self._out.close()
        removeFiles(self.paths)

    def forget(self) -> None:
        """Nobody will read the body any more: remove what there is of it, unless somebody has."""
        if self.paths and not self._isRead:
            deferToThread(self.discard).addErrback(
                lambda failure: _log.failure("Files of a form could not be removed", failure)
            )

    def _chunk(self) -> bytes:
        """The next piece of the body, empty at its end."""
        try:
            if not self._abandoned:
                return self._content.read(_CHUNK)
        except ValueError:  # Twisted closes the body when the connection is lost
            pass
        raise BadRequest("The client hung up while its request was read.")

    def _newFile(self) -> tuple[IO[bytes], Path]:
        out, path = self._uploads.newUpload()
        self.paths.append(path)
        return out, path


class WholeBody(BodyFiles):
    """
    A body that is one file.
    """

    async def read(self, name: str, mediaType: str) -> Upload:
        """Copy the body; if that fails, or nobody waits any more, no file is left."""
        await self._inThread([self._copy])
        (path,) = self.paths
        return Upload(path=path, part=name, mediaType=mediaType, size=self._size)

    def _copy(self) -> None:
        self._out, _ = self._newFile()
        with self._out as out:
            while chunk := self._chunk():
                out.write(chunk)
            self._size = out.tell()
