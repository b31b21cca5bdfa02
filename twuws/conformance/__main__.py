"""C{python -m twuws.conformance}: what C{twuws check} is."""

from twuws.conformance.command import main

main()
