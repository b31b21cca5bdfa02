"""Part G."""

FAULTS = {
    74: ["failsAsCompleted", "noErrorSummary", "twoErrorSummaries", "noErrorMessage",
         "emptyErrorMessage", "errorTypeBad", "noStartTime", "noEndTime"],
    75: ["errorAlwaysThere", "errorNotThere", "errorEmpty"],
    76: ["relativeResults", "resultCrashes", "resultTypeDiffers", "resultSizeDiffers",
         "resultsNotListed", "nonsenseIsThere"],
    77: ["noResultsAre404", "resultsTooEarly", "resultReadableEarly"],
    78: ["abortLosesResults", "resultsOutlive"],
    79: ["syncCrashes", "syncLeadsNowhere", "syncLosesJob", "hangUpSticks", "hangUpBreaks"],
}  # fmt: skip
