"""Makes endpoints known that begin with ``mtls:``."""

from twuws.mtls import MTLSServerParser

mtls = MTLSServerParser()
