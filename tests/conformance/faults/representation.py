"""Part B."""

FAULTS = {
    23: ["textAsHTML", "xmlAsPlain"],
    24: ["durationDiffers", "destructionDiffers", "durationWithFraction"],
    25: ["instantWithoutZ", "instantWithBlank", "instantWithOffset"],
    26: ["quoteNone", "ownerNULL", "ownerNULLAlone", "emptyNotNil"],
    27: ["textNotEscaped", "astralLost", "controlsInXML"],
    28: ["noHEAD"],
    29: ["xmlAsPlain", "htmlForAny", "acceptCrashes", "liesAboutType"],
    30: ["sameResultIds"],
    31: ["errorInCompleted", "abortIsAnError"],
}  # fmt: skip
