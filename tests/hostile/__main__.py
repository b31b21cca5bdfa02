"""
C{python -m tests.hostile [WORD…]}: make all attacks whose name has one of the words, and print
what they cost.
"""

from __future__ import annotations

import sys

from tests.hostile.attacks import ATTACKS
from tests.hostile.service import service
from tests.hostile.watcher import HEADING

WIDTH = 44


def main(words: list[str]) -> int:
    """Return 1 if anything was found that must not be."""
    chosen = [one for one in ATTACKS if not words or any(word in one.name for word in words)]
    bad = 0
    with service() as target:
        print(f"{'':{WIDTH}}{HEADING}", flush=True)
        for one in chosen:
            said, cost, wrong = one.measured(target)
            bad += bool(wrong)
            print(f"{one.name[: WIDTH - 1]:{WIDTH}}{cost.row()}", flush=True)
            for text in [said, *(f"WRONG: {text}" for text in wrong)]:
                print(f"    {text}", flush=True)
    print(f"{len(chosen)} attacks, {bad} of them with success")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
