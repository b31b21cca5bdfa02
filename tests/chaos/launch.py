"""
The process of one node: C{twistd}, with a deliberate bug or with gates if the environment
asks for them.
"""

from __future__ import annotations

import os
import signal

from tests.chaos import gates

#: The variable that names a bug of L{tests.chaos.bugs}.
BUG = "CHAOS_BUG"


def main() -> None:
    """Be C{twistd} with the arguments of this process."""
    # What a shell has put into the background ignores it, and so does all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if bug := os.environ.get(BUG):
        from tests.chaos.bugs import BUGS

        BUGS[bug]()
    if os.environ.get(gates.VARIABLE):
        gates.install()
    from twisted.scripts import twistd

    twistd.run()


if __name__ == "__main__":
    main()
