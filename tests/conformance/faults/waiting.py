"""Part D."""

FAULTS = {
    46: ["waitsForAnything"],
    47: ["neverWaits", "waitsLonger"],
    48: ["phaseOfWaitIgnored", "inactivePhaseWaits", "inactivePhaseRefused"],
    49: ["neverWaits", "wakesLate"],
    50: ["minusOneIsZero", "minusOneRefused", "waitsForEver"],
    51: ["waitZeroWaits", "badWaitIgnored", "fractionTaken", "minusTwoTaken", "largestWait",
         "firstWait"],
    52: ["waitersLeak"],
    53: ["waitsBlockOthers"],
    54: ["deletedWaiterStays", "deletedWaiterSeesJob"],
}  # fmt: skip
