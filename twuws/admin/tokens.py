"""
What the subcommands of C{twuws token} do.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from twuws.admin.output import Columns
from twuws.admin.session import Session
from twuws.authenticators.passwordfile import checkName
from twuws.errors import UWSError
from twuws.times import formatInstant
from twuws.tokens import Token, Tokens


async def createToken(session: Session, options: Namespace) -> None:
    """C{twuws token create}: make one, and show it this once."""
    rules = session.config.web.access.tokens
    if rules is None:
        raise UWSError(
            "The configuration has no [auth.tokens], so that no token would be taken: give the"
            " service's with --config."
        )
    try:
        owner = checkName(options.owner)
    except ValueError as e:
        raise UWSError(str(e)) from None
    seconds = rules.lifetime if options.expires is None else options.expires
    token, known = await Tokens(session.database).make(
        owner,
        options.scope or ("read", "write"),
        None if seconds == float("inf") else seconds,
        options.label,
        session.who,
    )
    if session.report.asJSON:
        session.report.give({**_forPrograms(known), "token": token})
    else:
        session.report.say(token)


async def listTokens(session: Session, options: Namespace) -> None:
    """C{twuws token list}: those that are good, but for what they are."""
    found = await Tokens(session.database).all(options.owner)
    if session.report.asJSON:
        session.report.give([_forPrograms(one) for one in found])
        return
    table = Columns(session.report, "id", "owner", "scopes", "made", "expires", "made by", "label")
    table.add(
        (one.id, one.owner, " ".join(_scopes(one)), one.made, one.expires, one.madeBy, one.label)
        for one in found
    )


async def revokeTokens(session: Session, options: Namespace) -> None:
    """C{twuws token revoke}: end some, or all of an owner."""
    if bool(options.tokens) == (options.owner is not None):
        raise UWSError("Give the ids of tokens, or --owner for all that somebody has.")
    done = await Tokens(session.database).revoke(options.tokens, options.owner)
    missing = [one for one in dict.fromkeys(options.tokens) if one not in done]
    for one in missing:
        session.report.failure(f"There is no token {one!r}; `twuws token list` lists them.")
    if session.report.asJSON:
        session.report.give({"revoked": done, "missing": missing})
        return
    for one in done:
        session.report.say(f"{one} revoked")


def _scopes(token: Token) -> list[str]:
    return [one for one in ("read", "write", "admin") if one in token.scopes]


def _forPrograms(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "owner": token.owner,
        "scopes": _scopes(token),
        "label": token.label,
        "made": formatInstant(token.made),
        "madeBy": token.madeBy,
        "expires": token.expires and formatInstant(token.expires),
    }
