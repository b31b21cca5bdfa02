"""
A job that is a program: C{program.py SECONDS}, which prints the mark of its attempt.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

# It is beside this program, and no part of a package there.
from journal import Entry  # type: ignore[import-not-found]

entry = Entry(os.environ["UWS_WORK"])
for _ in entry.beats(float(sys.argv[1])):
    pass
sys.stdout.write((os.environ["UWS_WORK"] + "\n") * 200)
