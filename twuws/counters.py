"""
What a process counts as it goes along, for L{twuws.metrics}.

To count is to add to a number under a lock, about a microsecond.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

#: The bounds of the times that statements are sorted into, s.
LATENCIES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Counters:
    """
    The counters of all that shares one L{twuws.database.Database}, from 0 when that is made.

    They have a registry of their own, so that several in a process do not collide.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.claims = Counter(
            "twuws_claims",
            "Jobs that this process has taken off the queue",
            ["service"],
            registry=registry,
        )
        self.takeovers = Counter(
            "twuws_takeovers",
            "Attempts of processes that are gone, found again by this one: still running, or ended",
            ["service"],
            registry=registry,
        )
        self.lostAttempts = Counter(
            "twuws_lost_attempts",
            "Attempts that this process has recorded as lost, by the phase of the job after that",
            ["service", "then"],
            registry=registry,
        )
        self.leaseRenewals = Counter(
            "twuws_lease_renewals", "Times that this process renewed its lease", registry=registry
        )
        self.leaseRenewalFailures = Counter(
            "twuws_lease_renewal_failures",
            "Tries of this process to renew its lease that failed",
            registry=registry,
        )
        self.leaseLapses = Counter(
            "twuws_lease_lapses",
            "Times that the lease of this process had run out, and all its work was ended",
            registry=registry,
        )
        self.statements = Histogram(
            "twuws_database_statement_seconds",
            "Time of a statement from being sent to its answer, locks that it waited for included",
            buckets=LATENCIES,
            registry=registry,
        )
        self.statementFailures = Counter(
            "twuws_database_statement_failures",
            "Statements that a lost connection or a time limit ended",
            registry=registry,
        )
