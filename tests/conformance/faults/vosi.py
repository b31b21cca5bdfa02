"""Part V."""

FAULTS = {
    "V1": ["vosiOfAnotherVersion", "capabilitiesEmpty", "capabilityWithNamespace",
           "capabilitiesForUsers"],
    "V2": ["standardIDWithoutVersion", "jobsNotListed"],
    "V3": ["accessURLElsewhere"],
    "V4": ["vosiOfAnotherVersion", "availableNotSaid", "availableIsYes", "upSinceIsDuration",
           "availabilityInDisorder", "availabilityWithMore"],
    "V5": ["vosiTakesPOST"],
}  # fmt: skip
