"""Part H."""

FAULTS = {
    80: ["everybodySeesAll", "listShowsAll", "othersReadPhase", "othersReadResults",
         "othersMayChange", "othersMayDelete", "refusedButDone", "foreignCrashes"],
    81: ["everybodySeesAll", "listShowsAll", "anonymousSeesAll", "othersMayDelete"],
    82: ["listShowsAll", "anonymousListCrashes", "anonymousJobLost", "newestNotListed"],
    83: ["sequentialIds", "orderedIds", "shortIds"],
    85: ["getChangesPhase", "getDeletes", "cookieSuffices", "queryPostCrashes"],
}  # fmt: skip
