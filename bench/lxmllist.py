"""
The job list by lxml, from a list in memory: C{python -m bench.lxmllist NUMBER URL}.

For each line of its stdin it writes the list once, to nowhere, and answers with how long that took
and how many bytes it was.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from typing import IO, Any

from lxml import etree

from bench.filling import idOf

UWS = "http://www.ivoa.net/xml/UWS/v1.0"
XLINK = "http://www.w3.org/1999/xlink"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
NSMAP = {"uws": UWS, "xlink": XLINK, "xsi": XSI}


class Nowhere:
    """A file that counts what is written to it."""

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, data: bytes) -> None:
        self.bytes += len(data)


def writeList(jobs: Iterable[tuple[str, str, str]], url: str, out: IO[bytes] | Nowhere) -> None:
    """Write a list of ids, phases and creation times, of jobs that are nobody's."""
    place: Any = out
    with etree.xmlfile(place, encoding="UTF-8") as file:
        file.write_declaration()
        with file.element(f"{{{UWS}}}jobs", nsmap=NSMAP, version="1.1"):
            file.write("\n")
            for jobId, phase, created in jobs:
                file.write("  ")
                with file.element(
                    f"{{{UWS}}}jobref",
                    {"id": jobId, f"{{{XLINK}}}type": "simple", f"{{{XLINK}}}href": url + jobId},
                ):
                    with file.element(f"{{{UWS}}}phase"):
                        file.write(phase)
                    with file.element(f"{{{UWS}}}ownerId", {f"{{{XSI}}}nil": "true"}):
                        pass
                    with file.element(f"{{{UWS}}}creationTime"):
                        file.write(created)
                file.write("\n")


def main() -> None:
    """Write it as often as is asked."""
    number, url = int(sys.argv[1]), sys.argv[2]
    jobs = [(idOf(n), "COMPLETED", "2026-11-29T03:30:03.633Z") for n in range(1, number + 1)]
    while sys.stdin.readline():
        out, began = Nowhere(), time.perf_counter()
        writeList(jobs, url, out)
        answer = {"seconds": time.perf_counter() - began, "bytes": out.bytes}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
