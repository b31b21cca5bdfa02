"""
All attacks.
"""

from __future__ import annotations

from tests.hostile import documents, huge, lies, slow, texts
from tests.hostile.attack import ATTACKS

__all__ = ["ATTACKS", "documents", "huge", "lies", "slow", "texts"]
