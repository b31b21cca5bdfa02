"""
What hypothesis sends: bytes, and requests that are almost right.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote_from_bytes

from hypothesis import strategies as st

METHODS = (*["GET"] * 6, *["POST"] * 9, *["PUT"] * 2, "DELETE", "HEAD", "OPTIONS", "PATCH", "get",
           "TRACE", "X", "G\xc9T")  # fmt: skip
#: Where C{JOB} stands for a job that is there.
SEGMENTS = ("work", "read", "closed", "async", "sync", "login", "capabilities", "availability",
            "JOB", "phase", "parameters", "results", "error", "quote", "owner", "destruction",
            "executionduration", "stdout", "stderr", "text", "file", "out", "..", ".", "",
            "%2e%2e", "%00", "%ff", "%", "*", "\xff")  # fmt: skip
ROUTES = ("/", "/work/async", "/work/async", "/work/async/JOB", "/work/async/JOB/phase",
          "/work/async/JOB/parameters", "/work/async/JOB/parameters/text",
          "/work/async/JOB/parameters/file", "/work/async/JOB/results",
          "/work/async/JOB/destruction", "/work/async/JOB/executionduration", "/work/login",
          "/work/sync/JOB", "/read/async", "/work/capabilities", "/closed/async",
          "/work/async/JOB/error", "/work/availability")  # fmt: skip
NAMES = ("text", "number", "real", "when", "within", "file", "fails", "document", "PHASE", "phase",
         "ACTION", "RUNID", "EXECUTIONDURATION", "DESTRUCTION", "WAIT", "LAST", "AFTER", "UPLOAD",
         "Idempotency-Key", "username", "password", "TEXT", "x", "",
         "a\0", "\xe9", "__class__")  # fmt: skip
VALUES = (
    "RUN", "ABORT", "DELETE", "PENDING", "EXECUTING", "QUEUED", "ARCHIVED", "0", "1", "-1", "+1",
    "1.5", "1e999", "nan", "inf", "-0", "٣", "9" * 20, "9" * 400, "0x10", "1_000", "", " ",
    "2026-11-29T09:15:35Z", "2026-11-29", "9999-12-31T23:59:59Z", "0000-00-00",
    "10000-01-01T00:00:00",
    "2026-02-30T00:00:00Z", "2026-11-29T24:00:00Z", "2026-11-29T23:59:60.999999999Z", "P1D", "yes",
    "1 2", "2 1", "-Inf +Inf", "nan nan", "file,param:file", "file,http://127.0.0.1/", "param:x",
    "file,http://[::1", "file,http://a:99999/", "a,b;c,d", "\0", "\ufffe", "\U0001f600", "'\"\\",
    "<a>&amp;", "true", "null", "\r\n", "%", "a" * 70, "\u202e",
)  # fmt: skip
HEADERS: dict[str, tuple[str, ...]] = {
    "Accept": ("*/*", "text/xml", "application/xml;q=0", "a/b;q=x", ";", "*/*;q=1e9", ",,,",
               "text/*"),
    "Range": ("bytes=0-", "bytes=-1", "bytes=5-2", "bytes=" + "9" * 30 + "-", "bytes=0-0,1-1,-3",
              "x=1", "bytes=\xb2-"),
    "If-None-Match": ("*", '"a"', 'W/"a"', '"', "a,b", "\xff"),
    "If-Match": ("*", '"a"'),
    "If-Modified-Since": ("Sun, 29 Nov 2026 09:15:35 GMT", "yesterday", "0", "\xff",
                          "Sun, 99 Nov 99999 99:99:99 GMT", ";", " ;a"),
    "If-Unmodified-Since": ("yesterday",),
    "If-Range": ('"a"', "Sun, 29 Nov 2026 09:15:35 GMT", "\xff"),
    "Authorization": ("Basic", "Basic YTpi", "Basic !", "Basic " + "A" * 99, "Bearer",
                      "Bearer x.y.z",
                      "Bearer twuws_", "Bearer e30.e30.", "Digest a=b", " ", "\xff", "Basic Og==",
                      "Bearer eyJhbGciOiJub25lIn0.e30."),
    "Forwarded": ("for=1.2.3.4", 'host="', "for=;;,", "proto=https;host=a", 'for="[::1]:1"',
                  "\xff"),
    "X-Forwarded-For": ("1.2.3.4", "a, b", "::1", ",", "%"),
    "X-Forwarded-Host": ("a", "a:b", "", "[", "\xff"),
    "X-Forwarded-Port": ("0", "99999", "\xb2", "a"),
    "X-Forwarded-Proto": ("https", "a"),
    "X-Remote-User": ("alice", "", "\xff", "(null)"),
    "Idempotency-Key": ("a", "", "\xff", "a" * 300, '"a"'),
    "Content-Type": ("", ";", "text/xml", "a", "multipart/form-data", "text/xml; charset=utf-16",
                     "application/x-www-form-urlencoded; charset=x",
                     "multipart/form-data; boundary=",
                     'multipart/form-data; boundary="', "application/json; charset=\xff",
                     "application/a+xml", "MULTIPART/FORM-DATA; BOUNDARY=b"),
    "Content-Encoding": ("gzip", "identity", "", "a, b"),
    "Transfer-Encoding": ("chunked", "identity", "gzip, chunked", "\xff"),
    "Content-Length": ("0", "5", "-1", "a", "9" * 30, "1_0"),
    "Expect": ("100-continue", "a"),
    "Host": ("a", "", "a:b", "[::1]:80", "a b", "\xff", "a.example:99999", "..", "a" * 300),
    "Origin": ("null", "http://a", "\xff"),
    "Access-Control-Request-Method": ("PUT", "\xff"),
    "Sec-Fetch-Site": ("cross-site", "none", "\xff"),
    "Accept-Encoding": ("gzip", "gzip;q=0", "*;q=x", "\xff"),
    "Upgrade": ("h2c", "websocket"),
    "Connection": ("upgrade", "keep-alive", "a, close"),
    "Cookie": ("a=b", ";", "\xff"),
}  # fmt: skip
_WORDS = (b"GET", b"POST", b" ", b" ", b"/", b"/work/async", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9",
          b"\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b":", b"Host: a\r\n",
          b"Content-Length: 5\r\n",
          b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"PRI * HTTP/2.0\r\n",
          b"\x16\x03\x01\x02\x00", b"SSH-2.0-a\r\n", b"\0", b"\xff", b"\t", b"a", b"%", b"?",
          b"Expect: 100-continue\r\n", b"Connection: close\r\n")  # fmt: skip

pieces = st.one_of(st.sampled_from(_WORDS), st.binary(max_size=20))
#: Bytes that are no request, or hardly one.
raw = st.one_of(st.binary(max_size=300), st.lists(pieces, max_size=25).map(b"".join))

values = st.one_of(st.sampled_from(VALUES), st.text(max_size=12), st.integers().map(str),
                   st.floats().map(str))  # fmt: skip
names = st.one_of(st.sampled_from(NAMES), st.sampled_from(NAMES), st.text(max_size=8))
#: What is right, so that what comes after it is reached, too.
RIGHT = (("text", "hello"), ("number", "1"), ("real", "1.5"), ("fails", "yes"), ("PHASE", "RUN"),
         ("PHASE", "ABORT"), ("RUNID", "a"), ("when", "2026-11-29T09:15:35Z"), ("within", "1 2"),
         ("EXECUTIONDURATION", "5"), ("DESTRUCTION", ""), ("WAIT", "0"), ("LAST", "2"),
         ("AFTER", "2026-01-01"), ("Idempotency-Key", "a"), ("document", "<a/>"),
         ("x", "y"))  # fmt: skip
_right = st.lists(st.sampled_from(RIGHT), max_size=3, unique_by=lambda pair: pair[0])
_odd = st.lists(st.one_of(st.sampled_from(RIGHT), st.tuples(names, values)), max_size=5)


def often(usual: Any, *others: Any, times: int = 4) -> Any:
    """One of several, most often the first; C{one_of} takes each for as good as any other."""
    return st.sampled_from([*[usual] * times, *others]).flatmap(lambda one: one)


pairs = often(_right, _odd, times=2)
paths = often(
    st.sampled_from(ROUTES),
    st.lists(st.sampled_from(SEGMENTS), max_size=6).map(lambda several: "/" + "/".join(several)),
    st.text(max_size=20).map(lambda text: "/" + quote_from_bytes(_utf8(text), safe="/%?&=")),
    times=8,
)
_headers = st.lists(
    st.sampled_from(sorted(HEADERS)).flatmap(
        lambda name: st.tuples(
            st.just(name),
            st.one_of(st.sampled_from(HEADERS[name]), st.text("\t ~!aZ0,;=\"\\/\xe9", max_size=12)),
        )
    ),
    max_size=3,
)  # fmt: skip
headers = often(st.just([]), _headers, times=2)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _form(several: list[tuple[str, str]]) -> bytes:
    return b"&".join(
        quote_from_bytes(_utf8(n)).encode() + b"=" + quote_from_bytes(_utf8(v)).encode()
        for n, v in several
    )


def _part(name: str, value: str, more: str) -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (
        _utf8(name), _utf8(more), _utf8(value)
    )  # fmt: skip


_MORE = ("", '; filename="a"', '; filename=""', "; filename*=utf-8''%ff", "\r\nContent-Type: a/b",
         "\r\nContent-Transfer-Encoding: base64", "\r\nContent-Type: text/plain; charset=x",
         '; filename="../a"', "; name*=x''a", "\r\n folded", "\r\nX",
         '; filename="\xff')  # fmt: skip
parts = st.lists(st.tuples(names, values, st.sampled_from(_MORE)), max_size=4).map(
    lambda several: b"".join(_part(*one) for one in several) + b"--b--\r\n"
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), values)
objects = st.dictionaries(
    names, st.one_of(scalars, st.lists(scalars, max_size=3), st.just({})), max_size=4
).map(lambda value: json.dumps(value).encode())
_MARKUP = ("<a>", "</a>", "<a/>", "text", "&lt;", "&#65;", "&e;", "<!-- a -->", "<![CDATA[a]]>",
           "<?a b?>", "<?xml version='1.0'?>", "<!DOCTYPE a>", "<!DOCTYPE a [<!ENTITY e 'x'>]>",
           "<a b='c'>", "<x:a xmlns:x='y'>", "\ufeff", "\0", "<", "&")  # fmt: skip
markup = st.lists(st.sampled_from(_MARKUP), max_size=8).map(lambda words: "".join(words).encode())

_form_body = st.tuples(st.just("application/x-www-form-urlencoded"), pairs.map(_form))
bodies = often(
    _form_body,
    st.tuples(st.just("multipart/form-data; boundary=b"), parts),
    st.tuples(st.just("application/json"), objects),
    st.tuples(st.just("text/xml"), markup),
    st.tuples(st.sampled_from(HEADERS["Content-Type"]), st.binary(max_size=50)),
)
#: Where, from 0 to 1, what is done, and with which byte.
mutations = st.lists(
    st.tuples(
        st.floats(0, 1), st.sampled_from(("drop", "put", "change", "twice", "cut")),
        st.sampled_from(b"\0\t\n\r \"%&+,-./09:;<=>?AZ[\\]az{|}\x7f\x80\xff"),
    ),
    max_size=3,
)  # fmt: skip


def mutated(data: bytes, several: list[tuple[float, str, int]]) -> bytes:
    """Bytes with some of them changed."""
    found = bytearray(data)
    for where, how, byte in several:
        at = min(int(where * len(found)), max(len(found) - 1, 0))
        if how == "drop":
            del found[at : at + 1]
        elif how == "put":
            found.insert(at, byte)
        elif how == "change":
            found[at : at + 1] = bytes([byte])
        elif how == "twice":
            found[at:at] = found[at : at + 40]
        else:
            del found[at : at + 40]
    return bytes(found)


@st.composite
def requests(draw: Any) -> bytes:
    """A request that may be right; C{JOB} in it stands for a job's id."""
    method = draw(st.sampled_from(METHODS))
    path = draw(paths)
    if query := draw(often(st.just([]), pairs, times=2)):
        path += "?" + _form(query).decode()
    told = draw(headers)
    kind, body = draw(bodies) if method in ("POST", "PUT", "PATCH") else ("", b"")
    if body:
        body = mutated(body, draw(often(st.just([]), mutations, times=7)))
    lines = [f"{method} {path} HTTP/1.1"]
    known = {name for name, _ in told}
    if "Host" not in known:
        lines.append("Host: uws.example")
    if kind and "Content-Type" not in known:
        lines.append(f"Content-Type: {kind}")
    if not known & {"Content-Length", "Transfer-Encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in told]
    if "Connection" not in known:
        lines.append("Connection: close")
    data = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body
    return mutated(data, draw(often(st.just([]), mutations, times=7)))


#: All that is sent.
examples = often(requests(), raw, times=6)
