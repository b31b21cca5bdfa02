"""
Two runs beside each other, or two commits.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.figures import shown
from bench.processes import ROOT, environment

#: What of a commit is measured; C{bench} is always the one that does it.
PARTS = ("twuws", "twisted")


def compare(one: str, other: str, rows: Sequence[str], isShort: bool) -> str:
    """
    The table of how they differ.

    @param one: a file that C{--json} has written, or a commit, which is measured now.
    @param other: the same.
    @raise ValueError: for what is neither.
    """
    if Path(one).is_file() and Path(other).is_file():
        return differences(_read(Path(one)), _read(Path(other)), (one, other))
    with tempfile.TemporaryDirectory(prefix="twuws-bench-commits-") as place:
        trees = [_checkout(commit, Path(place) / str(n)) for n, commit in enumerate((one, other))]
        ones: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for row in rows:  # one after the other, so that what else goes on is the same for both
            for tree, figures in zip(trees, (ones, others), strict=True):
                figures.extend(_measured(tree, row, isShort))
    return differences(ones, others, (one, other))


def _read(file: Path) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = json.loads(file.read_text("utf-8"))["figures"]
    return figures


def _checkout(commit: str, place: Path) -> Path:
    """What is measured of a commit, and this benchmark beside it."""
    place.mkdir()
    packed = subprocess.run(
        ["git", "archive", commit, *PARTS], cwd=ROOT, capture_output=True, check=False
    )
    if packed.returncode != 0:
        said = packed.stderr.decode("utf-8", "replace").strip()
        raise ValueError(f"{commit} is no file and no commit: {said}")
    subprocess.run(["tar", "-x", "-C", str(place)], input=packed.stdout, check=True)
    shutil.copytree(Path(__file__).parent, place / "bench")
    return place


def _measured(tree: Path, row: str, isShort: bool) -> list[dict[str, Any]]:
    file = tree / "figures.json"
    command = [sys.executable, "-m", "bench", "--only", row, "--json", str(file)]
    done = subprocess.run(
        [*command, *["--short"] * isShort], cwd=tree, check=False, stdout=subprocess.DEVNULL,
        env={**environment(), "PYTHONPATH": str(tree)},
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{row} could not be measured in {tree}")
    return _read(file)


def differences(
    ones: Iterable[dict[str, Any]], others: Iterable[dict[str, Any]], names: tuple[str, str]
) -> str:
    """
    A table: the figures of both, and by which factor they differ; the same of their ratios to
    their bounds, and of the CPU time of a request, where there are any.
    """
    known = {(one["row"], one["what"]): one for one in others}
    lines = [f"{'':<52} {'A':>9} {'B':>9} {'B/A':>6} {'ratio':>6} {'CPU':>6}"]
    for one in ones:
        other = known.get((one["row"], one["what"]))
        if other is None or one["skipped"] or other["skipped"]:
            continue
        factors = [
            _factor(one["value"], other["value"]),
            _factor(one["ratio"], other["ratio"]),
            _factor(one["more"].get("cpu"), other["more"].get("cpu")),
        ]
        lines.append(
            f"{one['what'][:52]:<52} {shown(one['value']):>9} {shown(other['value']):>9} "
            + " ".join(f"{shown(factor):>6}" for factor in factors)
        )
    return "\n".join([f"A: {names[0]}", f"B: {names[1]}", "", *lines])


def _factor(a: float | None, b: float | None) -> float | None:
    return b / a if a and b is not None else None
