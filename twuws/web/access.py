"""
Who may do what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from twuws.errors import Forbidden, InsufficientScope, JobNotFound, NotAuthenticated
from twuws.identity import Identity
from twuws.tokens import TokenRules

_NO_ADMIN = "these credentials are not good for what administrators may (admin)."


class Anonymous(StrEnum):
    """
    What is for those who do not say who they are: to make jobs and to list all that have no
    owner; to make jobs, which only their URLs lead to; or nothing.
    """

    ALL = "all"
    CREATE = "create"
    NOTHING = "nothing"


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """
    Who may use a service: by name, or as a member of a group.
    """

    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()

    def has(self, who: Identity) -> bool:
        """Whether somebody is one of them."""
        return who.name in self.users or bool(who.groups & self.groups)


@dataclass(frozen=True, kw_only=True)
class Access:
    """
    The rules of one service.

    @ivar authenticators: the L{twuws.interfaces.IAuthenticator}s that find out who asks, in
        the order in which they are asked.
    @ivar anonymous: what is for everybody.
    @ivar admins: the names of those who see all jobs, and may abort and destroy them.
    @ivar adminGroups: the groups whose members may.
    @ivar admitted: who may use the service; C{None} for everybody.
    @ivar services: the same by the name of a service, for L{below}.
    @ivar groupsOf: the groups of a name, beside those that an authenticator knows of.
    @ivar tokens: which tokens there are to be of this service's own; C{None} for none.
    @ivar login: gives who logs in a token, see L{twuws.web.login.Login}; C{None} if nobody can.
    @ivar hidesJobs: somebody else's job is not there (404), rather than not theirs (403).
    """

    authenticators: tuple[Any, ...] = ()
    anonymous: Anonymous = Anonymous.ALL
    admins: frozenset[str] = frozenset()
    adminGroups: frozenset[str] = frozenset()
    admitted: Admitted | None = None
    services: Mapping[str, Admitted] = field(default_factory=dict)
    groupsOf: Mapping[str, frozenset[str]] = field(default_factory=dict)
    hidesJobs: bool = False
    tokens: TokenRules | None = None
    login: Callable[..., Any] | None = None

    def below(self, name: str) -> Access:
        """The same for one of several services."""
        return replace(self, admitted=self.services.get(name, self.admitted))

    def withGroups(self, who: Identity) -> Identity:
        """Somebody, with all groups that they are in."""
        more = self.groupsOf.get(who.name or "")
        return replace(who, groups=who.groups | more) if more else who

    @property
    def wantsIdentity(self) -> bool:
        """Whether nobody can use the service without saying who they are."""
        return self.anonymous is Anonymous.NOTHING or self.admitted is not None

    @property
    def securityMethods(self) -> list[str | None]:
        """The IVOA's names of the ways to log in; C{None} among them says that one need not."""
        methods = {one: None for way in self.authenticators for one in way.securityMethods}
        return [*([] if self.wantsIdentity or not methods else [None]), *methods]

    def isAdmin(self, who: Identity) -> bool:
        """Whether somebody may do what is for administrators, and has credentials for it."""
        return self._isNamed(who) and "admin" in who.scopes

    def _isNamed(self, who: Identity) -> bool:
        isOne = who.name in self.admins or bool(who.groups & self.adminGroups)
        return isOne and who.name is not None

    def checkUse(self, who: Identity, isChange: bool) -> None:
        """
        See whether somebody may use the service at all.

        @raise NotAuthenticated: if they have to say who they are.
        @raise Forbidden: if they may not; L{InsufficientScope} if they could with others.
        """
        if who.name is None:
            if self.wantsIdentity:
                raise NotAuthenticated("This service is for those who log in.")
        elif not (self.admitted is None or self.admitted.has(who) or self.isAdmin(who)):
            raise Forbidden(f"{who.name} may not use this service; ask its operator.")
        if isChange and "write" not in who.scopes:
            raise InsufficientScope(
                "These credentials are good for looking only, not for changes (write)."
            )

    def checkJob(self, who: Identity, jobId: str, owner: str | None) -> None:
        """
        See whether somebody may see a job, and if it is theirs all that they want with it.

        A job that nobody owns is for whoever knows its URL.

        @raise NotAuthenticated: if it is somebody's, and they have not said who they are.
        @raise Forbidden: if it is somebody else's; L{JobNotFound} if that is not to be known.
        """
        if self.owns(who, owner) or self.isAdmin(who):
            return
        if self.hidesJobs:
            raise JobNotFound(jobId)
        if who.name is None:
            raise NotAuthenticated("This job belongs to somebody: log in as its owner.")
        if self._isNamed(who):
            raise InsufficientScope(f"This job is not {who.name}'s, and {_NO_ADMIN}")
        raise Forbidden(f"This job is not {who.name}'s: only its owner may see or change it.")

    def checkAdmin(self, who: Identity) -> None:
        """
        See whether somebody may do what is for administrators.

        @raise NotAuthenticated: if they have not said who they are, and could.
        @raise Forbidden: if they may not.
        """
        if self.isAdmin(who):
            return
        if who.name is None and self.authenticators:
            raise NotAuthenticated("This is for administrators: log in.")
        if self._isNamed(who):
            raise InsufficientScope(f"This is for administrators, and {_NO_ADMIN}")
        raise Forbidden("This is for administrators.")

    def owns(self, who: Identity, owner: str | None) -> bool:
        """Whether a job is somebody's, or nobody's."""
        return owner is None or owner == who.name

    def listed(self, who: Identity) -> tuple[str | None, bool, bool]:
        """
        Whose jobs the job list has for somebody (A-59): an owner; whether it is anybody
        instead; and whether there is a list at all, or an empty one.
        """
        mayList = who.name is not None or self.anonymous is Anonymous.ALL
        return who.name, self.isAdmin(who), mayList
