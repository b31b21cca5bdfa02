"""
What files in a job's directory, and results, can be called.
"""

from __future__ import annotations

import re

#: What a name in a job's directory may look like: nothing that a file system hides or minds.
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}", re.ASCII)


def isSafeName(name: str) -> bool:
    """
    Whether a name can be that of a file in a job's directory.

    >>> isSafeName("result.csv"), isSafeName("../etc"), isSafeName(""), isSafeName(".x")
    (True, False, False, False)
    """
    return _SAFE_NAME.fullmatch(name) is not None


def isResultId(id: str) -> bool:
    """
    Whether a name can be that of a result, and so an element of a URL's path.

    >>> isResultId("cutout 1.fits"), isResultId("a/b"), isResultId("")
    (True, False, False)
    """
    return 0 < len(id) <= 200 and "/" not in id and id.isprintable() and id not in (".", "..")
