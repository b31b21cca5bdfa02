"""
A small UWS 1.1 in memory that does everything right, unless a fault is switched on.

C{with RightServer(faults=["noQuote"]) as server} serves at C{server.url}.  A new fault is a line
or two here, in C{rightresources}, C{rightjobs}, C{rightdocuments} or C{rightforms}:
C{if self.has("itsName")}; and its name in C{tests.conformance.faults} beside the number of the
check that must find it.

A job works for as long as its parameter C{seconds} says, and fails with what C{failure} says.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.conformance.rightaccess import Access
from tests.conformance.rightattacked import Attacked
from tests.conformance.rightclients import Clients
from tests.conformance.rightdocuments import Documents
from tests.conformance.rightforms import readBody, readForm
from tests.conformance.rightjobs import Jobs, Refused
from tests.conformance.rightresources import CONTROLS, PATH, Resources
from tests.conformance.rightsync import SYNC, Sync
from tests.conformance.rightvosi import VOSI


class RightServer:
    """
    The service, in threads of this process.

    @param faults: what it does wrong.
    @param users: passwords by names; authentication is asked for where there are some.
    """

    def __init__(self, faults=(), users=None, slots=3):
        self.jobs = Jobs(faults, slots)
        self.users = users or {}
        self._http = _Server(("127.0.0.1", 0), Connection)
        self._http.right = self
        self.url = f"http://127.0.0.1:{self._http.server_port}{PATH}"
        self.documents = Documents(self.url, self.jobs.has)

    def __enter__(self):
        serve = self._http.serve_forever
        threading.Thread(target=serve, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.jobs.close()
        self._http.shutdown()
        self._http.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 200


class Handler(Access, Sync, Resources, BaseHTTPRequestHandler):
    """Finds what is asked for, and answers."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *arguments):
        pass

    def has(self, fault):
        return self.server.right.jobs.has(fault)

    def _handle(self):
        self.jobs = self.server.right.jobs
        self.documents = self.server.right.documents
        self.url = self.server.right.url
        self.user = ""
        split = urlsplit(self.path)
        try:
            self.query = parse_qsl(split.query, keep_blank_values=True)
            self.body = readBody(self.rfile, self.headers, self.has)
            self.user = self.findUser()
            with self.jobs.changed:
                answer = self._answer(split.path)
        except Refused as e:
            answer = (e.status, "text/plain; charset=utf-8", e.text.encode(), {})
            self.close_connection = e.status == 413
        self._send(*answer)
        if answer[0] == 413:
            self._linger()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def _send(self, status, mediaType, body, headers):
        self.send_response(status)
        if mediaType:
            self.send_header("Content-Type", mediaType)
        self.send_header("Content-Length", str(len(body)))
        for name, value in {**self.cookies(), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _linger(self):
        """Read on for a moment, for a reset would overtake the answer."""
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(1)
        with suppress(OSError):
            while self.connection.recv(65536):
                pass

    # What is asked for.

    def _answer(self, path):
        """Find the resource: the list, a job, or what is below a job."""
        steps = [unquote(step) for step in path.removeprefix(PATH).strip("/").split("/") if step]
        if path == SYNC or path.startswith(SYNC + "/"):
            return self.answerSync(path.removeprefix(SYNC).split("/")[1:])
        if not (path == PATH or path.startswith(PATH + "/")):
            raise Refused(404, "There is nothing here.")
        if self.command == "HEAD" and self.has("noHEAD"):
            raise Refused(405, "HEAD is not known")
        if not steps:
            return self._dispatch(self.getList, POST=self.postList)
        job = self.jobFor(steps[0], "/".join(steps[1:]))
        below = "/".join(steps[1:2])
        if not below:
            return self._dispatch(self.getJob, job, POST=self.postJob, DELETE=self.deleteJob)
        if len(steps) == 3 and below in ("parameters", "results"):
            name = "getResult" if below == "results" else "getParameter"
            put = {"PUT": self.putParameter} if below == "parameters" else {}
            return self._dispatch(getattr(self, name), job, steps[2], **put)
        if len(steps) > 2 or not hasattr(self, f"get_{below}"):
            return self._nothing()
        post = getattr(self, f"post_{below}", None)
        return self._dispatch(
            getattr(self, f"get_{below}"), job, **({"POST": post} if post else {})
        )

    def _nothing(self):
        if self.has("nonsenseIsThere"):
            return self.plain("")
        raise Refused(500 if self.has("nonsenseCrashes") else 404, "There is nothing here.")

    def _dispatch(self, get, *arguments, **others):
        method = "GET" if self.command == "HEAD" else self.command
        handlers = {"GET": get, **others}
        if method not in handlers:
            raise Refused(405, f"There is no {method} here.")
        return handlers[method](*arguments)

    def _form(self):
        """Names and values of query and body; the names of controls in upper case."""
        form = readForm(self.body, self.headers.get("Content-Type", ""), self.has)
        pairs = form if self.has("queryIgnored") else [*self.query, *form]
        known = {} if self.has("namesByCase") else {name.lower(): name for name in CONTROLS}
        return [(known.get(name.lower(), name), value) for name, value in pairs]

    # Answers.

    def plain(self, text):
        kind = "text/html" if self.has("textAsHTML") else "text/plain"
        return 200, f"{kind}; charset=utf-8", text.encode(), {}

    def xml(self, document):
        """A document, or what else was asked for."""
        accept = self.headers.get("Accept", "")
        isBrowser = "text/html" in accept and "xhtml" in accept
        if isBrowser or ("*/*" in accept and self.has("htmlForAny")):
            return 200, "text/html; charset=utf-8", b"<html></html>", {"Vary": "Accept"}
        if "nonsense" in accept and self.has("acceptCrashes"):
            raise Refused(500, "ParseException")
        kind = "text/xml; charset=utf-8"
        if "json" in accept and self.has("liesAboutType"):
            kind = "application/json"
        if not accept and self.has("xmlAsPlain"):
            kind = "text/plain"
        return 200, kind, document, {"Vary": "Accept"}

    def seeOther(self, url):
        if self.has("answers302"):
            return 302, "text/plain", b"", {"Location": url}
        return 303, "text/plain", b"", {"Location": url}


class Connection(Attacked, Clients, VOSI, Handler):
    """One connection."""
