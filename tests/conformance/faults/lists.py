"""Part C."""

FAULTS = {
    32: ["refWithoutId", "refPhaseStale", "refPhaseLower", "abortedNotListed"],
    33: ["refWithoutLink", "refLinksToList", "runIdNotListed", "refOwnerDiffers",
         "refWithoutTime", "refTimeDiffers"],
    34: ["phaseFilterIgnored", "phaseFilterFindsNone", "rarePhaseRefused"],
    35: ["firstPhaseOnly", "lastPhaseOnly"],
    36: ["badPhaseIgnored", "badPhaseTaken"],
    37: ["archivedListed", "archivedInPhases"],
    38: ["lastIgnored", "lastTooMany", "lastAreOldest", "lastAscending"],
    39: ["badLastIgnored", "badLastCrashes", "lastZeroTaken"],
    40: ["afterIgnored", "afterInclusive", "afterIsLocal", "afterNeedsZ", "afterNeedsTime"],
    "C40": ["shortInstantsRefused", "yearIsNumber", "badInstantIgnored", "offsetIgnored"],
    41: ["filtersNotTogether", "lastBeforeOthers"],
    42: ["filterNamesByCase"],
    43: ["largestLast", "earliestAfter"],
    44: ["tiesShuffled", "tiesLost", "listedTwice"],
    45: ["listCrashesOnDelete", "listBreaksOnDelete"],
}  # fmt: skip
