"""Part J."""

FAULTS = {
    95: ["takesDoctype", "fetchesEntities", "slowDocumentTypes", "onlyEntitiesShown"],
    96: ["errorPages", "lostPages", "runIdInPage", "pathInHeader"],
    97: ["traceShown", "sqlShown"],
    98: ["fetchesAnything", "fetchesUploads", "fetchesFromLocalhost"],
    99: ["manyParametersCrash", "takesAnyHeader", "takesAnySize", "fewConnections",
         "slowRequestsStay"],
}  # fmt: skip
