"""
An upload of 2 GB, beside Twisted that writes the same body to a file.

The reactor writes the file of the form as it comes.  Beside that writing, and reading the socket,
it takes the parser to look for the boundary, and to copy each piece twice: together a quarter of
the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from statistics import median

from bench.bed import Bed
from bench.client import Client
from bench.figures import Figure, Target, ratioOf


def send(bed: Bed, port: int, path: str, size: int) -> float:
    """Send a file of so many bytes, and say how fast that was, in MB/s; a job is removed again."""
    done = bed.transfer.ask({"port": port, "path": path, "upload": size})
    if done["status"] != 303:
        raise RuntimeError(f"the upload is answered {done['status']}")
    if "/async/" in done["location"]:
        with closing(Client(port)) as client:
            client.begin("DELETE", done["location"].partition(f":{port}")[2])
            client.end()
    return float(size / done["seconds"] / 1e6)


def measure(bed: Bed) -> Iterator[Figure]:
    """Rate and memory."""
    size = 100_000_000 if bed.isShort else 2_000_000_000
    own, bare, cpus = [], [], []
    with bed.service("upload") as service:
        send(bed, service.port, "/taking/async", 1_000_000)
        before = service.process.memory()
        service.process.forgetPeak()
        for _ in range(3):
            bare.append(send(bed, bed.bounds.plainPort, "/upload", size))
            cpu = service.process.cpu()
            own.append(send(bed, service.port, "/taking/async", size))
            cpus.append(1000 * (service.process.cpu() - cpu))
        more = service.process.peak() - before
    what = f"upload of {size / 1e9:g} GB"
    yield Figure(row="upload", what=what, value=median(own), unit="MB/s", bound=median(bare),
                 ratio=ratioOf(own, bare), more={"cpu": median(cpus)},
                 target=Target(least=0.6, ofRatio=True, slack=3))  # fmt: skip
    yield Figure(row="upload", what=f"{what}: memory", value=more, unit="MB",
                 target=Target(most=32, slack=1.5))  # fmt: skip
