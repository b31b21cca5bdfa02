"""
A download of 2 GB, beside C{twisted.web.static.File}.

The file is the same, and has no blocks on the disk: what is measured is how it is sent.  Both
send it in the same way, the service in larger pieces; nearly all of the time is in reading the file
and in writing to the socket.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from statistics import median

from bench.bed import Bed
from bench.figures import Figure, Target, ratioOf
from bench.rows.document import FIVE


def receive(bed: Bed, port: int, path: str, size: int) -> float:
    """Read a file, and say how fast that was, in MB/s."""
    done = bed.transfer.ask({"port": port, "path": path})
    if done["status"] != 200 or done["bytes"] < size:
        raise RuntimeError(f"{path}: {done}")
    return float(size / done["seconds"] / 1e6)


def measure(bed: Bed) -> Iterator[Figure]:
    """The rates of both."""
    size = 200_000_000 if bed.isShort else 2_000_000_000
    service, bounds = bed.usual, bed.bounds
    with service.client() as client:
        job = client.create("five", {**FIVE, "PHASE": "RUN"})
        client.untilEnded(job)
    jobId = job.rpartition("/")[2]
    file = service.jobs / jobId[:2] / jobId / "results" / "cutout.txt"
    os.truncate(file, size)
    os.link(file, bounds.files / "cutout.txt")
    own, bare, cpus, bareCpus = [], [], [], []
    for _ in range(bed.rounds):
        cpu, bareCpu = service.process.cpu(), bounds.process.cpu()
        bare.append(receive(bed, bounds.plainPort, "/files/cutout.txt", size))
        own.append(receive(bed, service.port, f"{job}/results/cutout.txt", size))
        cpus.append(1000 * (service.process.cpu() - cpu))
        bareCpus.append(1000 * (bounds.process.cpu() - bareCpu))
    os.unlink(file)
    yield Figure(row="download", what=f"download of {size / 1e9:g} GB", value=median(own),
                 unit="MB/s", bound=median(bare), ratio=ratioOf(own, bare),
                 more={"cpu": median(cpus), "boundCpu": median(bareCpus)},
                 target=Target(least=0.95, ofRatio=True, slack=2))  # fmt: skip
