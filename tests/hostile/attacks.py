"""
All attacks.
"""

from __future__ import annotations

from tests.hostile import documents, huge, lies, names, owners, secrets, slow, texts
from tests.hostile.attack import ATTACKS

__all__ = [
    "ATTACKS",
    "CROWDS",
    "documents",
    "huge",
    "lies",
    "names",
    "owners",
    "secrets",
    "slow",
    "texts",
]

#: Those of thousands of slow connections.
CROWDS = [one for one in ATTACKS if one.name.startswith(f"{slow.MANY} ")]
