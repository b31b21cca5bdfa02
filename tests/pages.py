"""
The pages of the documentation, as tests read them: their code blocks, to be run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of code: where it is, and what."""

    line: int
    language: str
    text: str

    @property
    def fileName(self):
        named = re.match(r"# (\S+\.(?:py|toml|conf))\n", self.text)
        return named and named[1]


def blocks(document):
    """The code blocks of a document; what follows C{::} has no language."""
    lines = document.split("\n")
    for number, line in enumerate(lines):
        directive = re.fullmatch(r"\.\. code-block:: (\w+)", line)
        if not directive and not (line.endswith("::") and not line.startswith("..")):
            continue
        body = []
        for one in lines[number + 1 :]:
            if one and not one.startswith("    "):
                break
            body.append(one[4:])
        yield Block(
            line=number + 1,
            language=directive[1] if directive else "",
            text="\n".join(body).strip("\n") + "\n",
        )


def documented(name):
    """The code blocks of a page, by its path in the project."""
    return list(blocks((ROOT / name).read_text()))


def section(name, title):
    """The code blocks of one section of a page."""
    text = (ROOT / name).read_text()
    found = re.search(rf"\n{re.escape(title)}\n(-+)\n(.*?)(?=\n\S[^\n]*\n---|\Z)", text, re.DOTALL)
    assert found, f"{name} has no section {title!r}"
    return list(blocks(found[2]))
