"""
Whose jobs are whose, at a service that does everything right; see C{rightserver}.

Who has said a name and a password is known by a cookie, too, except where another site sends
a form.
"""

from __future__ import annotations

import base64

from tests.conformance.rightjobs import Refused

COOKIE = "session=crumbs-"


class Access:
    """Who asks, and what for."""

    def findUser(self):
        """The user; C{""} for nobody."""
        users = self.server.right.users
        kind, _, given = self.headers.get("Authorization", "").partition(" ")
        if users and not kind:
            return self._userOfCookie(users)
        if not users:
            return ""
        if kind.lower() == "bearer" and given in users.values():
            return next(name for name, password in users.items() if password == given)
        if kind.lower() == "basic":
            name, _, password = base64.b64decode(given).decode().partition(":")
            if users.get(name) == password:
                return name
        raise Refused(401, "Wrong user or password")

    def _userOfCookie(self, users):
        cookie = self.headers.get("Cookie", "")
        name = cookie.removeprefix(COOKIE)
        if not cookie.startswith(COOKIE) or name not in users:
            if self.has("no anonymous"):
                raise Refused(401, "Who are you?")
            return ""
        isElsewhere = self.headers.get("Sec-Fetch-Site") == "cross-site"
        if isElsewhere and self.command != "GET" and not self.has("cookieSuffices"):
            raise Refused(403, "This comes from another site.")
        return name

    def cookies(self):
        """What is said to those who have said who they are."""
        return {"Set-Cookie": f"{COOKIE}{self.user}; HttpOnly"} if self.user else {}

    def jobFor(self, jobId, path=""):
        """A job, for those who may do what is asked for."""
        if self.has("resultsOutlive") and path.startswith("results/"):
            return self.jobs.buried(jobId)
        try:
            job = self.jobs.find(jobId)
        except Refused:
            if self.command == "DELETE" and self.has("secondDeleteCrashes"):
                raise Refused(500, "NullPointerException") from None
            raise
        if not job.owner and self.has("anonymousJobLost"):
            raise Refused(404, "There is no job of yours.")
        if not job.owner or job.owner == self.user or self._isOpen(path):
            return job
        if self.has("refusedButDone") and self.command == "POST":
            job.duration = 17
        raise Refused(500 if self.has("foreignCrashes") else 403, "This is somebody else's job.")

    def _isOpen(self, path):
        """Whether something may be done to the jobs of others."""
        isReading = self.command in ("GET", "HEAD")
        return (
            self.has("everybodySeesAll")
            or (self.has("anonymousSeesAll") and not self.user)
            or (self.has("othersReadPhase") and isReading and path == "phase")
            or (self.has("othersReadResults") and isReading and path.startswith("results/"))
            or (self.has("othersMayChange") and self.command in ("POST", "PUT"))
            or (self.has("othersMayDelete") and self.command == "DELETE")
        )
