"""
Attacks on a running service, over sockets, and what they cost it.

C{python -m tests.hostile} makes all of them and prints a table of the costs; the tests here hold
each to its budget.  L{tests.hostile.fuzz} sends what no client would.
"""
