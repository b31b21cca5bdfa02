"""
What came of the checks, in files for programs: JUnit XML and JSON.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from lxml import etree

from twuws.conformance.outcomes import Outcome, Status
from twuws.conformance.registry import PARTS
from twuws.conformance.report import explained
from twuws.conformance.session import Session

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def writeJSON(path: Path, outcomes: Sequence[Outcome], uws: Session) -> None:
    """
    Write C{{"url", "counts", "jobs": {"made", "deleted", "left"}, "checks": [...]}}.

    Each check has C{id}, C{part}, C{level}, C{section}, C{sentence}, C{status} (C{passed},
    C{failed}, C{skipped}, C{broken}), C{message}, C{exchange} and C{seconds}.
    """
    checks = [
        {
            "id": outcome.check.id,
            "part": outcome.check.part,
            "level": outcome.check.level,
            "section": outcome.check.section,
            "sentence": outcome.check.sentence,
            "status": str(outcome.status),
            "message": outcome.message,
            "exchange": outcome.exchange,
            "seconds": round(outcome.seconds, 3),
        }
        for outcome in outcomes
    ]
    counts = Counter(outcome.status for outcome in outcomes)
    content = {
        "url": uws.url,
        "counts": {str(status): counts[status] for status in Status},
        "jobs": {"made": uws.made, "deleted": uws.deleted, "left": uws.left},
        "checks": checks,
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def writeJUnit(path: Path, outcomes: Sequence[Outcome], uws: Session) -> None:
    """Write a suite for each part, and a case for each check."""
    root = etree.Element("testsuites", name=f"UWS 1.1 at {uws.url}")
    for letter, group in groupby(outcomes, key=lambda outcome: outcome.check.part):
        members = list(group)
        statuses = Counter(outcome.status for outcome in members)
        suite = etree.SubElement(
            root,
            "testsuite",
            name=f"{letter} {PARTS[letter][0]}",
            tests=str(len(members)),
            failures=str(statuses[Status.FAILED]),
            errors=str(statuses[Status.BROKEN]),
            skipped=str(statuses[Status.SKIPPED]),
            time=f"{sum(outcome.seconds for outcome in members):.3f}",
        )
        for outcome in members:
            _addCase(suite, outcome)
    path.write_bytes(
        etree.tostring(root, encoding="UTF-8", xml_declaration=True, pretty_print=True)
    )


def _addCase(suite: etree._Element, outcome: Outcome) -> None:
    one = outcome.check
    case = etree.SubElement(
        suite,
        "testcase",
        classname=f"uws.{one.part}.{one.level}",
        name=f"{one.id} {one.sentence}",
        time=f"{outcome.seconds:.3f}",
    )
    kinds = {Status.FAILED: "failure", Status.BROKEN: "error", Status.SKIPPED: "skipped"}
    if outcome.status in kinds:
        message = _NOT_IN_XML.sub("?", outcome.message)
        told = etree.SubElement(case, kinds[outcome.status], message=message)
        if outcome.isBad:
            told.text = _NOT_IN_XML.sub("?", explained(outcome))
