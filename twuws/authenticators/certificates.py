"""
Certificates that clients show when they connect by TLS.

OpenSSL has looked at them by then: who has shown one has the key of it, and an authority that
the endpoint trusts has signed it.  L{twuws.mtls} makes such endpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from cryptography import x509
from zope.interface import implementer

from twuws.errors import NotAuthenticated
from twuws.identity import Identity, checkedName
from twuws.interfaces import IAuthenticator


class Named(StrEnum):
    """
    What of a certificate is the name of a user: the whole subject, as RFC 4514 writes it; the
    common name in that; or the email address in C{subjectAltName}.
    """

    SUBJECT = "subject"
    COMMON_NAME = "common-name"
    EMAIL = "email"


@implementer(IAuthenticator)
class CertificateAuthenticator:
    """
    Whoever has a certificate.

    @param issuers: whose certificates count; C{None} for those of all that the endpoint trusts.
    @param now: the time.
    """

    securityMethods = ("ivo://ivoa.net/sso#tls-with-certificate",)

    def __init__(
        self,
        named: Named = Named.SUBJECT,
        issuers: Iterable[x509.Name] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._named = named
        self._issuers = None if issuers is None else frozenset(issuers)
        self._now = now

    def challenges(self, baseURL: str) -> list[str]:
        """Where to get one is not for us to say, so there are no parameters."""
        return ["ivoa_x509"]

    async def authenticate(self, request: Any) -> Identity | None:
        shown = getattr(request.transport, "getPeerCertificate", lambda: None)()
        if shown is None:
            return None
        certificate: x509.Certificate = shown.to_cryptography()
        if self._now() > certificate.not_valid_after_utc:  # since the connection was made
            raise NotAuthenticated("Your certificate has expired.")
        if self._issuers is not None and certificate.issuer not in self._issuers:
            raise NotAuthenticated("Your certificate is of an issuer whose users are none here.")
        try:
            name = checkedName(self._nameIn(certificate))
        except ValueError as e:
            raise NotAuthenticated(f"Your certificate does not say who you are: {e}.") from None
        return Identity(name=name, method="certificate")

    def _nameIn(self, certificate: x509.Certificate) -> str:
        """The name; C{ValueError} if there is none, or more than one."""
        if self._named is Named.SUBJECT:
            return certificate.subject.rfc4514_string()
        if self._named is Named.COMMON_NAME:
            oid = x509.NameOID.COMMON_NAME
            names = [str(one.value) for one in certificate.subject.get_attributes_for_oid(oid)]
        else:
            names = _emails(certificate)
        if len(names) != 1:
            raise ValueError(f"it has {len(names)} names of the kind {self._named}, and not one")
        return names[0]


def _emails(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return found.value.get_values_for_type(x509.RFC822Name)
