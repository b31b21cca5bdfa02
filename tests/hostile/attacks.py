"""
All attacks.
"""

from __future__ import annotations

from tests.hostile import slow
from tests.hostile.attack import ATTACKS

__all__ = ["ATTACKS", "slow"]
