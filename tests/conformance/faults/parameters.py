"""Part F."""

FAULTS = {
    66: ["parametersNotPosted", "parametersWith200", "parametersLeadToList", "blanksLost",
         "parametersNotListed", "namesShortened"],
    67: ["putIgnored", "putAdds", "putRefusedButDone", "jobPostIgnored"],
    68: ["parametersAdded", "firstValueStays"],
    69: ["parametersAnyTime", "lateParametersIgnored", "lateParametersCrash", "lateRefusedButSet"],
    70: ["xmlLost", "takesAnyXML", "takesAnySize"],
    71: ["namesNotResolved", "referenceNotSaid", "referenceLeadsNowhere", "uploadEmpty",
         "uploadTypeLost", "uploadNotBelow"],
    72: ["takesAnySize", "refusesLate", "chunksAnySize", "largeCrashes"],
    73: ["filenameCrashes", "storedByFilename", "filenameIsValue"],
}  # fmt: skip
