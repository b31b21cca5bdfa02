"""
Authorities that sign certificates, and who has some.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
PEM = serialization.Encoding.PEM


def named(common, *more):
    """A subject with these common names."""
    names = [x509.NameAttribute(NameOID.COMMON_NAME, one) for one in (common, *more)]
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests"), *names])


@dataclass(frozen=True, kw_only=True)
class Holder:
    """
    A certificate, and its key.

    @ivar chain: the certificates between this and its authority, in PEM.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: bytes = b""

    @property
    def pem(self):
        return self.certificate.public_bytes(PEM) + self.chain

    @property
    def keyPEM(self):
        secret = serialization.NoEncryption()
        return self.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, secret)

    def write(self, path):
        """Write all of it to a file; its path."""
        path.write_bytes(self.keyPEM + self.pem)
        return path


class Authority:
    """One that signs what it is asked to; by itself, or below another."""

    def __init__(self, name, above=None):
        self.name = named(name)
        self.key = ec.generate_private_key(ec.SECP256R1())
        signer = above or self
        extensions = [(x509.BasicConstraints(ca=True, path_length=None), True)]
        self.certificate = signer.sign(self.name, self.key, extensions)
        self.chain = b"" if above is None else self.pem + above.chain

    @property
    def pem(self):
        return self.certificate.public_bytes(PEM)

    def sign(self, subject, key, extensions, start=-DAY, end=DAY):
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + start)
            .not_valid_after(now + end)
        )
        for extension, isCritical in extensions:
            builder = builder.add_extension(extension, critical=isCritical)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, subject, alternatives=(), usage=ExtendedKeyUsageOID.CLIENT_AUTH, **times):
        """A certificate for somebody; with a common name as subject, or a whole one."""
        key = ec.generate_private_key(ec.SECP256R1())
        extensions = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.ExtendedKeyUsage([usage]), False),
        ]
        if alternatives:
            extensions.append((x509.SubjectAlternativeName(list(alternatives)), False))
        whole = named(subject) if isinstance(subject, str) else subject
        made = self.sign(whole, key, extensions, **times)
        return Holder(certificate=made, key=key, chain=self.chain)

    def issueForHost(self):
        """For servers on the loopback."""
        names = [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
        return self.issue("server", names, ExtendedKeyUsageOID.SERVER_AUTH)


def emails(*addresses):
    return [x509.RFC822Name(one) for one in addresses]
