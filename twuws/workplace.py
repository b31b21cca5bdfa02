"""
What a job that runs has around it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import IO


class WorkPlace:
    """
    What a job that runs has around it; L{twuws.workdir.WorkDir} is one.
    """

    def parameterPath(self, file: str) -> str:
        """The path of an uploaded file."""
        raise NotImplementedError

    def openResult(
        self, id: str, mediaType: str, fileName: str | None
    ) -> AbstractContextManager[IO[bytes]]:
        """See L{UWSJob.openResult}."""
        raise NotImplementedError

    def reportProgress(self, fraction: float | None, message: str | None) -> None:
        """See L{UWSJob.reportProgress}."""
        raise NotImplementedError
