"""
Tokens: random words with which programs act for somebody, for a time, and within limits.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from twuws.database import Database, Row
from twuws.identity import SCOPES
from twuws.rows import storable
from twuws.statements import STATEMENTS

#: What each begins with: so that it is known from those of others, also where one was left
#: lying about.
PREFIX = "twuws_"
_TOKEN = re.compile(r"twuws_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, kw_only=True)
class TokenRules:
    """
    What tokens there are.

    @ivar lifetime: of those that C{twuws token create} makes, s, unless it says otherwise.
    @ivar loginLifetime: of those that are made for who logs in, s.
    @ivar login: whether they are made for who logs in.
    @ivar cleartext: whether they are taken if others may have read them on their way, too.
    """

    lifetime: int = 90 * 86_400
    loginLifetime: int = 86_400
    login: bool = True
    cleartext: bool = False


@dataclass(frozen=True, kw_only=True)
class Token:
    """
    What is known of a token: not the token itself.

    @ivar id: what it is called.
    @ivar madeBy: who made it, for the record.
    @ivar expires: its end; C{None} for never.
    """

    id: str
    owner: str
    scopes: frozenset[str]
    label: str | None
    made: datetime
    madeBy: str | None
    expires: datetime | None


class Tokens:
    """
    The table of tokens.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def make(
        self,
        owner: str,
        scopes: Collection[str],
        seconds: float | None,
        label: str | None = None,
        madeBy: str | None = None,
    ) -> tuple[str, Token]:
        """
        A new token, which nobody can find out later, and what will be known of it.

        @param scopes: of L{SCOPES}; who may do anything may look.
        @param seconds: for how long it is good; C{None} for ever.
        """
        token = PREFIX + secrets.token_urlsafe(32)
        args = {
            "tokenId": secrets.token_hex(6),
            "hash": _hashOf(token),
            "owner": owner,
            "scopes": [one for one in ("read", "write", "admin") if one in {*scopes, "read"}],
            "label": storable(label),
            "madeBy": storable(madeBy),
            "seconds": seconds,
        }
        rows = await self.database.query(STATEMENTS["makeToken"], args)
        return token, _fromRow(rows[0])

    async def find(self, token: str) -> tuple[str, frozenset[str], float | None] | None:
        """
        The owner and the scopes of a token, and for how long it will be good, s (C{None} for
        ever); C{None} if it is not, or not any more.
        """
        if not _TOKEN.fullmatch(token):
            return None
        rows = await self.database.query(STATEMENTS["findToken"], {"hash": _hashOf(token)})
        if not rows:
            return None
        return rows[0]["owner"], frozenset(rows[0]["scopes"]) & SCOPES, rows[0]["seconds"]

    async def all(self, owner: str | None = None) -> list[Token]:
        """All that are good, or those of an owner."""
        rows = await self.database.query(STATEMENTS["listTokens"], {"owner": owner})
        return [_fromRow(row) for row in rows]

    async def revoke(self, ids: Collection[str] = (), owner: str | None = None) -> list[str]:
        """End some, or all of an owner; the ids of those that there were."""
        args = {"tokenIds": list(ids), "owner": owner}
        rows = await self.database.query(STATEMENTS["revokeTokens"], args)
        return [row["token_id"] for row in rows]


def _hashOf(token: str) -> bytes:
    """What is kept of a token; see C{sql/0003.sql} for why this is enough."""
    return sha256(token.encode()).digest()


def _fromRow(row: Row) -> Token:
    return Token(
        id=row["token_id"],
        owner=row["owner"],
        scopes=frozenset(row["scopes"]),
        label=row["label"],
        made=row["made"],
        madeBy=row["made_by"],
        expires=row["expires"],
    )
