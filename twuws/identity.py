"""
Who somebody is, once that has been found out.
"""

from __future__ import annotations

from dataclasses import dataclass

#: What credentials can be good for: to look, to make and change jobs, to do what an
#: administrator may.
SCOPES = frozenset({"read", "write", "admin"})


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
