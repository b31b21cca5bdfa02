"""
Jobs that are shared: a token says which one, until when, and that the service has made it.

A token is C{ID.EXPIRES.SIGNATURE}: the job's id, seconds since 1970, and the HMAC-SHA256 of both
and the service's name, in base64url, under a key that all nodes share.  Nothing is stored for it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time

from twuws.errors import Forbidden, NotFound
from twuws.jobstable import JobsTable

_TOKEN = re.compile(r"([0-9a-f]{16,64})\.([0-9]{1,12})\.([A-Za-z0-9_-]{43})", re.ASCII)


class Shares:
    """
    The tokens of one service.

    @ivar clock: what time it is, s.
    """

    def __init__(self, table: JobsTable, service: str) -> None:
        self._table = table
        self._service = service
        self._known: bytes | None = None
        self.clock = time.time

    async def token(self, jobId: str, lifetime: int) -> str:
        """
        The token by which a job is shared from now on.

        @param lifetime: for how long, s.
        """
        expires = int(self.clock()) + lifetime
        return f"{jobId}.{expires}.{signature(await self._key(), self._service, jobId, expires)}"

    async def jobId(self, token: str) -> str:
        """
        Which job a token is for.

        @raise NotFound: if it is none of this service's.
        @raise Forbidden: if its time is over.
        """
        found = _TOKEN.fullmatch(token)
        if found is not None:
            jobId, expires = found[1], int(found[2])
            good = signature(await self._key(), self._service, jobId, expires)
            if hmac.compare_digest(good.encode(), found[3].encode()):
                if self.clock() >= expires:
                    raise Forbidden("This job was shared for a time that is over: ask its owner.")
                return jobId
        raise NotFound("Nothing is shared here: the URL is not, or not all of, what was made.")

    async def _key(self) -> bytes:
        if self._known is None:
            fresh = {"name": "sharing", "value": secrets.token_hex(32)}
            (row,) = await self._table.run("makeSecret", fresh)
            self._known = bytes.fromhex(row["value"])
        return self._known


def signature(key: bytes, service: str, jobId: str, expires: int) -> str:
    """
    What only who has the key can say.

    >>> signature(bytes(32), "a", "0f", 1)
    '3bSQhenstEFHYf9pU8kLQycfM0v4YZt8TTI_Ae4ATdk'
    """
    said = f"{service}\n{jobId}\n{expires}".encode()
    digest = hmac.new(key, said, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
