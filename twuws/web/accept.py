"""
What a client can take: the headers Accept and Accept-Encoding (RFC 9110, 12.5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

_MEDIA_RANGE = re.compile(
    r"\s*(?P<type>\*|[\w!#$&^.+*-]+/[\w!#$&^.+*-]+)"
    r"(?P<parameters>(?:\s*;\s*[\w-]+\s*=\s*(?:\"(?:[^\"\\]|\\.)*\"|[^\s\",;]*))*)\s*(?:,|$)",
    re.ASCII,
)
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"")
_QUALITY = re.compile(r";\s*q\s*=\s*(?:(0?\.\d+|[01]\.?0*)\s*(?:;|$))?", re.IGNORECASE)


def wantsHTML(accept: str | None) -> bool:
    """
    Whether an Accept is a browser's.  Java, too, names C{text/html}, so that is not enough.
    """
    ranges = _ranges(accept)
    return all(ranges.get(name, 0.0) > 0 for name in ("text/html", "application/xhtml+xml"))


@lru_cache(maxsize=16)  # programs send the same each time, and few do
def acceptable(accept: str | None, offered: Sequence[str]) -> str | None:
    """
    The media type to answer with (RFC 9110, 12.5.1), the first of equals; C{None} if none fits.

    Parameters other than C{q} are passed over.  What is no Accept counts as C{*/*}.

    >>> acceptable("text/*;q=0.5, application/json", ("text/xml", "application/json"))
    'application/json'
    """
    ranges = _ranges(accept)

    def quality(mediaType: str) -> float:
        exact = mediaType.partition(";")[0].strip().lower()
        general = (exact, exact.partition("/")[0] + "/*", "*/*")
        return next((ranges[name] for name in general if name in ranges), 0.0)

    best = max(offered, key=quality, default=None)
    return best if best is not None and quality(best) > 0 else None


def _ranges(accept: str | None) -> Mapping[str, float]:
    """Media ranges to their quality."""
    found: dict[str, float] = {}
    blanksCollapsed = " ".join((accept or "").split())  # so that matching takes linear time
    rest = ",".join(one for one in blanksCollapsed.split(",") if one.strip())
    position = 0
    while position < len(rest):
        one = _MEDIA_RANGE.match(rest, position)
        quality = _QUALITY.search(_QUOTED.sub("", one["parameters"])) if one else None
        if one is None or (quality and quality[1] is None):
            return {"*/*": 1.0}
        name = "*/*" if one["type"] == "*" else one["type"].lower()
        found[name] = max(float(quality[1]) if quality else 1.0, found.get(name, 0.0))
        position = one.end()
    return found or {"*/*": 1.0}


@lru_cache(maxsize=16)
def takesGzip(acceptEncoding: str | None) -> bool:
    """Whether a client says that it can read gzip."""
    ranges = _ranges(",".join(f"x/{one.strip()}" for one in (acceptEncoding or "").split(",")))
    return max(ranges.get("x/gzip", 0.0), ranges.get("x/x-gzip", 0.0)) > 0
