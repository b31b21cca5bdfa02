"""Part K."""

FAULTS = {
    100: ["slowNewest", "slowList", "creationsCrash"],
    101: ["listShort", "listedTwice", "creationsCrash"],
    102: ["fewIds", "runIdsMixed"],
}
