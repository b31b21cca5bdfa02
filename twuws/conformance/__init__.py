"""
A conformance kit: whether a service does what UWS 1.1 says, as seen over HTTP alone.

It works on any UWS, in whatever language that is written::

    twuws check https://example.org/uws/async --veryshort seconds=0 --long seconds=600

There is a check for each behaviour, with a number (1 to 102), a level, a section of the standard
and a sentence.  The levels are C{M}, what a service must do; C{S}, what it should do, and what
clients count on; and C{R}, what makes it robust.

The same from pytest, a test for each check: C{pytest --pyargs twuws.conformance --uws-url URL}.

The kit is told which parameters make a job very short, short, long, or failing, and nothing else
about the service.  It makes few jobs, and deletes each of them.  Nothing here imports anything
else of twuws, and Twisted is not needed.

A check is a function in a module of L{twuws.conformance.checks}; see there how to write one.
"""
