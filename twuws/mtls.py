"""
Server endpoints that ask their clients for certificates, for Twisted's endpoint strings::

    mtls:8443:privateKey=key.pem:certKey=cert.pem:clientCAs=ca.pem

C{certKey} can have the certificates between the service's own and its authority's, too, after
that; without it all are in C{privateKey}.  C{clientCAs} are the authorities whose certificates
clients can have.  With C{required=no} they need not have one.  C{interface} and C{backlog} are
as with C{ssl:}.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IStreamServerEndpoint, IStreamServerEndpointStringParser
from twisted.plugin import IPlugin
from zope.interface import implementer

from twuws.errors import UWSError


class EndpointError(UWSError, ValueError):
    """
    An endpoint cannot be made from a string.
    """


@implementer(IPlugin, IStreamServerEndpointStringParser)
class MTLSServerParser:
    """
    Makes TLS endpoints that ask for certificates.

    Who shows one that is none of the authorities', or is out of date, gets no connection.
    """

    prefix = "mtls"

    def parseStreamServer(self, reactor: Any, *args: Any, **kwargs: Any) -> IStreamServerEndpoint:
        """
        @raise EndpointError: if something is missing, or a file is not what it should be.
        @raise OSError: if a file cannot be read.
        """
        return self._parse(reactor, *args, **kwargs)

    def _parse(
        self,
        reactor: Any,
        port: str,
        privateKey: str = "",
        certKey: str | None = None,
        clientCAs: str = "",
        required: str = "yes",
        interface: str = "",
        backlog: str = "50",
    ) -> IStreamServerEndpoint:
        from twisted.internet.endpoints import SSL4ServerEndpoint

        for name, value in (("privateKey", privateKey), ("clientCAs", clientCAs)):
            if not value:
                raise EndpointError(f"{name}= is missing, which names a file")
        if required not in ("yes", "no"):
            raise EndpointError(f"required= is yes or no, not {required!r}")
        options = _options(privateKey, certKey or privateKey, clientCAs, required == "yes")
        endpoint: IStreamServerEndpoint = SSL4ServerEndpoint(
            reactor, int(port), options, int(backlog), interface
        )
        return endpoint


def _options(privateKey: str, certKey: str, clientCAs: str, isRequired: bool) -> Any:
    from OpenSSL import SSL
    from twisted.internet.ssl import CertificateOptions

    own, *chain = _certificates(certKey)
    options = CertificateOptions(
        privateKey=_key(privateKey),
        certificate=own,
        extraCertChain=chain,
        verify=True,
        caCerts=_certificates(clientCAs),
        requireCertificate=isRequired,
    )
    try:
        context = options.getContext()
    except SSL.Error:
        raise EndpointError(f"{certKey} is not the certificate of {privateKey}") from None
    context.load_client_ca(clientCAs.encode())  # by whose names browsers choose
    return options


def _certificates(path: str) -> list[Any]:
    from cryptography.x509 import load_pem_x509_certificates
    from OpenSSL.crypto import X509

    try:
        found = load_pem_x509_certificates(Path(path).read_bytes())
    except ValueError:
        raise EndpointError(f"{path} has no certificates in PEM") from None
    return [X509.from_cryptography(one) for one in found]


def _key(path: str) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from OpenSSL.crypto import PKey

    content = Path(path).read_bytes()
    try:
        # Not by pyOpenSSL, which would ask the terminal for a password.
        key: Any = load_pem_private_key(content, None)
    except TypeError:
        raise EndpointError(f"{path} has a password, which nobody is there to type") from None
    except ValueError:
        raise EndpointError(f"{path} has no private key in PEM") from None
    try:
        return PKey.from_cryptography_key(key)
    except TypeError:
        raise EndpointError(f"{path} has a key that TLS has no use for") from None
