"""C{python -m twuws.admin}: the same as C{twuws}."""

from twuws.admin import main

main()
