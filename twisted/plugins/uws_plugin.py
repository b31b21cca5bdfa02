"""Makes ``twistd uws`` known."""

from twisted.application.service import ServiceMaker

uws = ServiceMaker("twuws", "twuws.service", "A Universal Worker Service (IVOA UWS 1.1).", "uws")
