"""Part E."""

FAULTS = {
    56: ["destructionWith200", "destructionLeadsToList", "destructionNotRead"],
    "E56": ["destructionIgnored", "destructionLater"],
    57: ["durationWith200", "durationLeadsToList", "durationNotRead", "durationWithFraction"],
    58: ["pastTaken", "pastCrashes", "pastRefusedButSet"],
    59: ["endedKeepsDestruction", "endedIgnoresDestruction"],
    60: ["zeroKills"],
    61: ["badDurationIgnored", "badDurationSets", "badDurationCrashes", "negativeDuration",
         "floatDuration", "hugeDuration", "badDestructionIgnored", "badDestructionCrashes"],
    62: ["durationIgnored", "overrunIsError", "overrunLosesResults", "noEndTime"],
    63: ["neverDestroyed", "resultsOutlive"],
    64: ["sameInstantStays"],
    65: ["destructionRevertsPhase"],
}  # fmt: skip
