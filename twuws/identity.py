"""
Who somebody is, once that has been found out.
"""

from __future__ import annotations

from dataclasses import dataclass

#: What credentials can be good for: to look, to make and change jobs, to do what an
#: administrator may.
SCOPES = frozenset({"read", "write", "admin"})

#: How long a name can be, in characters; OpenID Connect's C{sub} has as many (Core, 2).
LONGEST_NAME = 255


def checkedName(name: str) -> str:
    """
    Return what somebody else says that a user is called.

    @raise ValueError: if nobody can be called that.
    """
    if not name or len(name) > LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise ValueError(
            f"{name[:40]!r} cannot name a user: names have 1 to {LONGEST_NAME} characters that can"
            " be printed, and no space around them"
        )
    return name


@dataclass(frozen=True, kw_only=True)
class Identity:
    """
    Somebody who asks.

    @ivar name: the owner of what they create (2.1.8); C{None} for nobody in particular.
    @ivar groups: what groups they are in.
    @ivar scopes: what their credentials are good for, of L{SCOPES}; they may do no more than
        this, even if they are allowed more.
    @ivar isAmbient: a browser sends these credentials by itself, also with what another site
        has it send.
    @ivar method: how it was found out, for the records.
    """

    name: str | None
    groups: frozenset[str] = frozenset()
    scopes: frozenset[str] = SCOPES
    isAmbient: bool = True
    method: str = "none"

    def __str__(self) -> str:
        return self.name or "anonymous"


#: Nobody in particular.
ANONYMOUS = Identity(name=None, isAmbient=False)
