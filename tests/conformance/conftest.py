"""What the kit does a thousand times, or waits for a minute, is less here."""

from __future__ import annotations

import pytest

from twuws.conformance.checks import scale, security


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(scale, "BURST", 60)
    monkeypatch.setattr(scale, "NEWEST", 0.1)
    monkeypatch.setattr(scale, "BEGINNING", 0.3)
    monkeypatch.setattr(security, "SLOW", 30)
    monkeypatch.setattr(security, "HELD", 1.2)
    monkeypatch.setattr(security, "ENDLESS", 8)
