"""
Servers on the loopback that files are loaded from: one that behaves, one that does not.
"""

from __future__ import annotations

import datetime
import ipaddress
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import PrivateCertificate
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.working import until

TABLE = b"ra,dec\n83.82,-5.39\n"
LARGE = bytes(range(256)) * 12_000  # some of what is held at a time, and not a multiple of it


class Pages(Resource):
    """What there is: C{/table}, C{/large}, C{/chunked}, C{/status/404}, C{/to/URL}, C{/waits}."""

    isLeaf = True

    def __init__(self):
        super().__init__()
        self.asked = []
        self.waiting = []
        self.hungUp = 0

    def render_GET(self, request):
        self.asked.append(request)
        name, _, rest = request.path.decode().lstrip("/").partition("/")
        return getattr(self, f"page_{name}")(request, unquote(rest))

    def page_table(self, request, rest):
        request.setHeader("content-type", "text/csv; header=present")
        return TABLE

    def page_doctype(self, request, rest):
        return b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>\n<a>&b;</a>"

    def page_large(self, request, rest):
        return LARGE

    def page_chunked(self, request, rest):
        request.write(LARGE)  # without a length it is chunked
        return b""

    def page_status(self, request, rest):
        request.setResponseCode(int(rest))
        return b"a page that says why"

    def page_to(self, request, rest):
        request.setResponseCode(302)
        request.addCookie("a", "b")
        if rest:
            request.setHeader("location", rest)
        return b"elsewhere"

    def page_waits(self, request, rest):
        """Sends half of the table, and the rest when it is told to go on."""
        request.setHeader("content-length", str(len(TABLE)))
        request.write(TABLE[:9])
        self.waiting.append(request)

        def gone(_):
            self.hungUp += 1
            self.waiting.remove(request)

        request.notifyFinish().addErrback(gone)
        return NOT_DONE_YET

    def goOn(self):
        for request in self.waiting:
            request.write(TABLE[9:])
            request.finish()
        self.waiting.clear()


class Counted(Site):
    """A site that knows its connections."""

    noisy = False
    displayTracebacks = False

    def __init__(self, pages):
        super().__init__(pages)
        self.open = set()

    def buildProtocol(self, addr):
        channel = super().buildProtocol(addr)
        lost = channel.connectionLost
        self.open.add(channel)

        def connectionLost(reason):
            self.open.discard(channel)
            lost(reason)

        channel.connectionLost = connectionLost
        return channel


class Rude(Protocol):
    """Sends what its factory has for whoever asks, and then as that says."""

    def connectionMade(self):
        self.factory.open.add(self)

    def dataReceived(self, data):
        if b"\r\n\r\n" in data or data.startswith(b"\x16"):  # a request, or TLS's hello
            self.factory.behaviour(self)

    def connectionLost(self, reason):
        self.factory.open.discard(self)


class RudeFactory(Factory):
    """
    @ivar behaviour: called with the protocol when it was asked.
    """

    protocol = Rude
    noisy = False

    def __init__(self, behaviour):
        self.behaviour = behaviour
        self.open = set()


class Remotes:
    """Ports on the loopback, to be closed together."""

    def __init__(self):
        self._ports = []

    def _listen(self, factory, tls=None, interface="127.0.0.1"):
        from twisted.internet import reactor

        if tls is None:
            port = reactor.listenTCP(0, factory, interface=interface)
        else:
            port = reactor.listenSSL(0, factory, tls.options(), interface=interface)
        self._ports.append((port, factory))
        return port.getHost().port

    def pages(self, tls=None, host="127.0.0.1", interface="127.0.0.1"):
        """A server that behaves: its URL without a slash, and its pages."""
        pages = Pages()
        scheme = "http" if tls is None else "https"
        return f"{scheme}://{host}:{self._listen(Counted(pages), tls, interface)}", pages

    def rude(self, behaviour):
        """A server that does what it likes: its URL."""
        return f"http://127.0.0.1:{self._listen(RudeFactory(behaviour))}/"

    async def close(self):
        for port, factory in self._ports:
            await maybeDeferred(port.stopListening)
            await until(lambda open=factory.open: not open)


def certificate(*names):
    """A certificate for these names that nobody but itself has signed, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [
        x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
        for name in names
    ]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return PrivateCertificate.loadPEM(made.public_bytes(pem) + secret)
