"""
Random runs: C{python -m tests.chaos --minutes M --seed S}.

Exit status 1 if anything was found that must not be; then all logs are kept.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.bugs import BUGS
from tests.chaos.checker import Violation, check
from tests.chaos.clients import Asker, Client, Log, crowd, finish
from tests.chaos.cluster import Cluster
from tests.chaos.evidence import (
    Evidence,
    collect,
    troubles,
    untilEmpty,
    usageOf,
    watchMismatches,
)
from tests.chaos.faults import KINDS, Faults
from tests.chaos.journal import clock

#: What provokes each deliberate bug.
PROVOKING = {
    "no-fencing": ["freeze", "stall", "partition"],
    "no-row-lock": ["delay", "nap"],
    "pid-alone": ["pid"],
}


class Run:
    """
    One run, in a directory that is kept if anything is wrong.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.seed = arguments.seed
        self.directory = Path(tempfile.mkdtemp(prefix=f"twuws-chaos-{self.seed}-"))
        hosts = random.Random(f"{self.seed}/hosts").choice([["a", "b", "c"], ["a", "b", "b"]])
        self.evidence = Evidence()
        self.cluster = Cluster(self.directory, hosts, bug=arguments.bug)
        kinds = arguments.kinds.split(",") if arguments.kinds else PROVOKING.get(arguments.bug)
        self.faults = Faults(self.cluster, self.seed, kinds)
        self.log = Log(self.directory / "clients.jsonl")
        nodes = {node.name: node.url for node in self.cluster.nodes}
        self.asker = Asker(nodes, self.log)
        self.clients: list[Client] = crowd(arguments.clients, self.seed, nodes, self.log)

    def run(self) -> list[Violation]:
        """Do all of it; what was found wrong."""
        try:
            self._say(f"seed {self.seed}, in {self.directory}")
            for kind, why in self.faults.skipped.items():
                self._say(f"no faults of kind {kind}: {why}")
            self.cluster.start()
            self._act()
            self._settle()
        finally:
            self.faults.close()
            self.cluster.close()
            self.log.close()
        return check(self.evidence)

    def _act(self) -> None:
        for client in self.clients:
            client.start()
        time.sleep(3)
        before = usageOf(self.cluster)
        self.evidence.usage = {name: (one, one) for name, one in before.items()}
        self.faults.begin(self.arguments.threads)
        until = time.monotonic() + 60 * self.arguments.minutes
        while (left := until - time.monotonic()) > 0 and self.faults.trouble is None:
            time.sleep(min(10, left))
            self._progress(left)
        self.faults.end()
        self.healed = clock()
        if self.faults.trouble is not None:
            self.evidence.others.append(("a fault cannot be healed", repr(self.faults.trouble)))

    def _progress(self, left: float) -> None:
        if self.arguments.verbose:
            acked = sum(op.what == "created" for op in list(self.log.ops))
            faults = len(self.faults.injected)
            self._say(f"{left:.0f} s to go: {acked} jobs, {faults} faults")

    def _settle(self) -> None:
        """Wait until all has ended that is to end, and look at what is left."""
        for node in self.cluster.nodes:
            if not node.isThere:
                node.start()
        # One lease, and what it takes to look and to start; the crowd goes on meanwhile.
        time.sleep(self.cluster.lease * 1.5)
        self.evidence.mismatches = watchMismatches(self.cluster)
        for client in self.clients:
            client.isMaking = False
        finish(self.clients)
        self.evidence.unsettled = untilEmpty(self.cluster, 90)
        time.sleep(2)
        collect(self.cluster, self.evidence, self.asker)
        self.evidence.ops = self.log.ops
        self.evidence.faults = self.faults.injected
        after = usageOf(self.cluster)
        for name, (before, _) in self.evidence.usage.items():
            self.evidence.usage[name] = before, after[name]
        for decoy in self.faults.decoys:
            if decoy.poll() is not None:
                text = f"pid {decoy.pid} ended with {decoy.returncode}"
                self.evidence.others.append(("a process of others was ended", text))

    def _say(self, text: str) -> None:
        print(text, flush=True)

    # Telling

    def report(self, violations: list[Violation]) -> None:
        """Print what was done, and what was found."""
        for line in self._figures():
            self._say(line)
        for rule, number in Counter(one.rule for one in violations).most_common():
            self._say(f"VIOLATION {number} x {rule}")
        for violation in violations[: self.arguments.most]:
            for line in self._story(violation):
                self._say(line)
        if (more := len(violations) - self.arguments.most) > 0:
            self._say(f"... and {more} more")
        self._say(f"{len(violations)} violations with seed {self.seed}")

    def _figures(self) -> Iterator[str]:
        counted = self.faults.counted()
        several = ", ".join(f"{kind} {counted[kind]}" for kind in KINDS if counted[kind])
        yield f"{sum(counted.values())} faults: {several}"
        last = {event["job_id"]: event["phase"] or "destroyed" for event in self.evidence.events}
        phases = ", ".join(f"{k} {n}" for k, n in sorted(Counter(last.values()).items()))
        yield f"{len(last)} jobs, by their last phase: {phases}"
        attempts = Counter(
            event["attempt"] for event in self.evidence.events if event["phase"] == "EXECUTING"
        )
        yield "attempts: " + ", ".join(f"no. {k}: {n}" for k, n in sorted(attempts.items()))
        outcomes = Counter(f"{op.what} {op.outcome}" for op in self.evidence.ops)
        yield "requests: " + ", ".join(f"{k} {n}" for k, n in sorted(outcomes.items()))
        whys = Counter(event["why"] for event in self.evidence.events if event["why"] is not None)
        for why, number in whys.most_common(12):
            yield f"   {number} x {why[:140]}"
        for node in self.cluster.nodes:
            for line, number in troubles(node.log).most_common(8):
                yield f"   log of {node.name}: {number} x {line}"

    def _story(self, violation: Violation) -> Iterator[str]:
        """What is known of a violation's job."""
        yield f"* {violation.rule}: {violation.jobId or ''} {violation.text}"
        jobId = violation.jobId
        if jobId is None:
            return
        at = self.evidence.wallClock
        lines = []
        for event in self.evidence.events:
            if event["job_id"] == jobId:
                lines.append(
                    (
                        event["at"].timestamp() - at,
                        f"event {event['phase'] or 'destroyed'} attempt {event['attempt']} by"
                        f" {event['node'] or event['who']}: {event['why'] or ''}",
                    )
                )
        for span in self.evidence.spans:
            if span.jobId == jobId:
                lines.append((span.begin, f"attempt {span.attempt} begins in {span.pids}"))
                end = "ends" if span.ended else "is heard of for the last time"
                lines.append((span.last, f"attempt {span.attempt} {end}"))
        for op in self.evidence.ops:
            if op.jobId == jobId:
                text = f"{op.what} at {op.node}: {op.outcome} {op.status}"
                if op.outcome == "acked":
                    text += f" {op.value or ''}".partition("\n")[0][:80]
                else:
                    text += f" {op.text[:80]}"
                if op.what not in ("read", "wait", "had") or op.outcome != "acked":
                    lines.append((op.ended, f"client, from {op.began:.2f}: {text}"))
        for fault in self.evidence.faults:
            if lines and fault.ended > min(lines)[0] and fault.began < max(lines)[0]:
                text = f"fault {fault.kind} {fault.node or ''} {fault.jobId or ''} {fault.text}"
                lines.append((fault.began, f"{text}, until {fault.ended:.2f}"))
        for when, line in sorted(lines):
            yield f"    {when:.2f} {line}"
        yield f"    logs: grep {jobId} {self.directory}/node-*.log"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="how long faults are injected")
    parser.add_argument("--seed", type=int, help="a fresh one if not given")
    parser.add_argument("--clients", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="faults at a time")
    parser.add_argument("--kinds", help=f"of faults, with commas: {', '.join(KINDS)}")
    parser.add_argument("--bug", choices=sorted(BUGS), help="with a deliberate bug")
    parser.add_argument("--most", type=int, default=12, help="violations told of in full")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a good run, too")
    parser.add_argument("--verbose", action="store_true", help="say how it goes on")
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1_000_000)
    return arguments


def main() -> int:
    """Run, and return the exit status."""
    arguments = _arguments()
    run = Run(arguments)
    violations = run.run()
    run.report(violations)
    if violations or arguments.keep:
        run._say(f"the logs are in {run.directory}")
    else:
        shutil.rmtree(run.directory, ignore_errors=True)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
