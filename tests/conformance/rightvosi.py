"""
What a service that does everything right says of itself; see C{rightserver}.
"""

from __future__ import annotations

from tests.conformance.rightjobs import Refused

BASE = "/uws"
_STD = "ivo://ivoa.net/std/"
_XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'


class VOSI:
    """The two resources beside the job list; inherits before who finds the others."""

    def _answer(self, path):
        name = path.removeprefix(BASE).strip("/")
        if name not in ("capabilities", "availability") or self.has("no vosi"):
            return super()._answer(path)
        if name == "availability" and self.has("no availability"):
            raise Refused(404, "There is nothing here.")
        if self.command not in ("GET", "HEAD") and not self.has("vosiTakesPOST"):
            raise Refused(405, "This is for reading.")
        if self.has("capabilitiesForUsers") and not self.user:
            raise Refused(403, "This is not for everybody.")
        inside = self._capabilities() if name == "capabilities" else self._availability()
        kind = name[0].upper() + name[1:]
        version = "1.1" if self.has("vosiOfAnotherVersion") else "1.0"
        namespace = f'xmlns:v="http://www.ivoa.net/xml/VOSI{kind}/v{version}" {_XSI}'
        return 200, "text/xml", f"<v:{name} {namespace}>{inside}</v:{name}>".encode(), {}

    def _capabilities(self):
        if self.has("capabilitiesEmpty"):
            return ""
        base = self.url.rpartition("/")[0]
        jobs = "UWS" if self.has("standardIDWithoutVersion") else "UWS#rest-1.1"
        if self.has("no capability of UWS"):
            jobs = "TAP"
        where = base if self.has("accessURLElsewhere") else self.url
        found = {"VOSI#capabilities": f"{base}/capabilities", jobs: where}
        if self.has("jobsNotListed"):
            del found[jobs]
        capabilities = "".join(
            f'<capability standardID="{_STD}{standard}"><interface>'
            f'<accessURL use="full">{url}</accessURL></interface></capability>'
            for standard, url in found.items()
        )
        if self.has("capabilityWithNamespace"):
            return capabilities.replace("<capability", "<v:capability").replace(
                "</capability", "</v:capability"
            )
        return capabilities

    def _availability(self):
        word = "yes" if self.has("availableIsYes") else "true"
        available = "" if self.has("availableNotSaid") else f"<v:available>{word}</v:available>"
        since = "P3D" if self.has("upSinceIsDuration") else "2026-01-01T00:00:00Z"
        parts = [available, f"<v:upSince>{since}</v:upSince>", "<v:note>It is up.</v:note>"]
        if self.has("availabilityInDisorder"):
            parts.reverse()
        if self.has("availabilityWithMore"):
            parts.append("<v:load>0.1</v:load>")
        return "".join(parts)
