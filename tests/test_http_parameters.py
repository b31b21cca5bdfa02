"""Parameters, uploads and results over HTTP (behaviours F and G)."""

from __future__ import annotations

import io

import pytest
from twisted.internet.defer import Deferred, gatherResults

from tests.validation import validate
from tests.working import until

FILE = bytes(range(256)) * 300 + b"\r\n--boundary\r\n"


def parameters(job):
    return [(one.get("id"), one.text or "") for one in job.findall("{*}parameters/*")]


async def test_at_creation(serving):
    url = (
        await serving.post("?x=1.5&X=1.5&several=1&LABEL=a+b%26", {"Several": "2", "other": "ü"})
    ).location
    job = await serving.job(url)
    assert parameters(job) == [
        ("x", "1.5"), ("label", "a b&"), ("several", "1"), ("several", "2"), ("other", "ü"),
    ]  # fmt: skip
    assert validate((await serving.get(url + "/parameters")).content) is not None
    assert (await serving.get(url + "/parameters/X")).text == "1.5"
    assert (await serving.get(url + "/parameters/several")).text == "1\n2"
    assert (await serving.get(url + "/parameters/nonsense")).status == 404


@pytest.mark.parametrize("path", ["", "/parameters"])
async def test_later(serving, path):
    url = await serving.create({"x": "1", "label": "l"})
    answer = await serving.post(url + path, {"X": "2", "a name": "a value"})
    assert (answer.status, answer.location) == (303, url)
    assert parameters(await serving.job(url)) == [
        ("x", "2"), ("label", "l"), ("a name", "a value"),
    ]  # fmt: skip


async def test_put(serving):
    url = await serving.create({"x": "1"})
    answer = await serving.request("PUT", url + "/parameters/x", data=b"3.5")
    assert (answer.status, answer.location) == (303, url)
    assert parameters(await serving.job(url)) == [("x", "3.5")]
    for bad in (b"abc", b"11", b"\xff"):
        answer = await serving.request("PUT", url + "/parameters/x", data=bad)
        assert answer.status in (400, 415)
    assert parameters(await serving.job(url)) == [("x", "3.5")]


@pytest.mark.parametrize("name", ["PHASE", "action", "WAIT", "Destruction", "executionDuration"])
async def test_putNoControl(serving, name):
    """What UWS itself is told is no parameter, and has another place."""
    url = await serving.create()
    answer = await serving.request("PUT", f"{url}/parameters/{name}", data=b"RUN")
    assert (answer.status, answer.text) == (400, f"{name}: this is no parameter of a job\n")
    assert parameters(await serving.job(url)) == []


async def test_putRunIdAndUpload(serving):
    """They mean what they mean in a form."""
    url = await serving.create({"WAIT": "5"})
    await serving.request("PUT", url + "/parameters/RUNID", data=b"mine")
    job = await serving.job(url)
    assert (job.findtext("{*}runId"), parameters(job)) == ("mine", [])
    answer = await serving.request("PUT", url + "/parameters/UPLOAD", data=b"t,ftp://example.org")
    assert answer.status == 400
    source = "https://example.org/t"
    await serving.request("PUT", url + "/parameters/UPLOAD", data=b"t," + source.encode())
    assert (await serving.get(url + "/parameters/t")).location == source


async def test_putReplaces(serving):
    """What POST would add to."""
    url = await serving.create([("several", "1"), ("several", "2")])
    await serving.request("PUT", url + "/parameters/several", data=b"3")
    assert parameters(await serving.job(url)) == [("several", "3")]


async def test_putAFile(serving):
    """A declared file is one, whatever is in it (A-23), and replaces the one before."""
    url = await serving.create()
    for content, kind in ((b"\x00\xff" * 50_000, "image/png"), (b"a=1", "text/plain")):
        answer = await serving.request(
            "PUT", url + "/parameters/F", data=content, headers={"Content-Type": kind}
        )
        assert (answer.status, answer.location) == (303, url)
        got = await serving.get(url + "/parameters/f")
        assert (got.content, got.headers["content-type"]) == (content, kind)
    ((name, reference),) = parameters(await serving.job(url))
    assert (name, (await serving.get(reference)).content) == ("f", b"a=1")
    directory = serving.uws.workDirs.forJob(url.rpartition("/")[2])
    assert len(list(directory.parameters.iterdir())) == 1
    assert list(serving.uws.workDirs.uploads().iterdir()) == []


async def test_putWhatIsNoText(serving):
    """It is there by reference (A-23), where any value will do; then text takes its place."""
    url = await serving.create({"x": "1"})
    headers = {"Content-Type": "image/png"}
    for content in (b"\x89PNG\r\n\x1a\n\x00\xff", b"\xff" * 100_000):
        answer = await serving.request(
            "PUT", url + "/parameters/icon", data=content, headers=headers
        )
        assert (answer.status, answer.location) == (303, url)
        job = validate((await serving.get(url)).content)
        (icon,) = job.findall("{*}parameters/{*}parameter[@id='icon']")
        assert (icon.get("byReference"), icon.text) == ("true", url + "/parameters/icon")
        got = await serving.get(icon.text)
        assert (got.content, got.headers["content-type"]) == (content, "image/png")
    assert (await serving.request("PUT", url + "/parameters/icon", data=b"none")).status == 303
    answer = await serving.request("PUT", url + "/parameters/x", data=b"\xff")
    assert answer.status == 400
    assert answer.text == "Parameter x: its value is not in UTF-8\n"
    assert parameters(await serving.job(url)) == [("x", "1"), ("icon", "none")]
    for name in ("RUNID", "UPLOAD", "PHASE"):
        answer = await serving.request("PUT", f"{url}/parameters/{name}", data=b"\xff")
        assert answer.status == 400
        assert f"{name}: " in answer.text
    directory = serving.uws.workDirs.forJob(url.rpartition("/")[2])
    assert list(directory.parameters.iterdir()) == []
    await until(lambda: list(serving.uws.workDirs.uploads().iterdir()) == [])


async def test_noPlaceForFiles(serving):
    """A disk that takes nothing is no mistake of the client's, nor one without a name."""
    await serving.jobServices.stopService()  # whose Sweeper looks there, too
    uploads = serving.uws.workDirs.uploads()
    uploads.rmdir()
    uploads.write_bytes(b"")
    answer = await serving.post("", files={"f": ("a.txt", io.BytesIO(b"content"))})
    assert answer.status == 503
    assert answer.text.startswith("The service cannot store this now: ")
    assert str(uploads) not in answer.text
    assert len(validate((await serving.get()).content)) == 0


async def test_refused_changes_nothing(serving):
    url = await serving.create({"x": "1"})
    before = (await serving.get(url)).content
    for bad in ({"x": "11"}, {"x": "abc"}, [("x", "1"), ("x", "2")], {"f": "text"},
                {"label": "new", "x": "nan"}, {"RUNID": "new", "x": "-1"},
                {"DESTRUCTION": "2015-01-01", "label": "new"}):  # fmt: skip
        answer = await serving.post(url + "/parameters", bad)
        assert answer.status == 400, bad
        assert "Traceback" not in answer.text
        assert (await serving.get(url)).content == before
        if "RUNID" not in bad:
            assert (await serving.post("", bad)).status == 400
    assert len(validate((await serving.get()).content)) == 1
    known = {path for path, _ in serving.uws.workDirs.known()}
    assert known == {url.rpartition("/")[2]}


async def test_settled_once_it_runs(serving):
    url = await serving.create({"x": "1", "PHASE": "RUN"})
    await serving.ended(url)
    before = (await serving.get(url)).content
    for answer in (
        await serving.post(url + "/parameters", {"x": "2"}),
        await serving.post(url, {"label": "2"}),
        await serving.request("PUT", url + "/parameters/x", data=b"2"),
        await serving.post(url + "/executionduration", {"EXECUTIONDURATION": "5"}),
    ):
        assert answer.status == 403
    assert (await serving.get(url)).content == before


SAMPLES = [
    "\x00", "\x01\x1f", "]]>", "&amp;<x>", "😀", "a\rb\r\nc", "\ue000", "\ufffe", " ", "",
    "a\x00\ue0001", "\\u0000", "\x85\u2028", "e\u0301", "\U0010ffff", '"\'',
]  # fmt: skip


async def test_any_text_comes_back(serving):
    for sample in SAMPLES:
        url = await serving.create({"label": sample})
        document = await serving.get(url)
        job = validate(document.content)
        (one,) = job.findall("{*}parameters/*")
        if one.get("byReference") == "true":
            answer = await serving.get(one.text)
            assert answer.content == sample.encode()
        else:
            assert (one.text or "") == sample


@pytest.mark.parametrize("how", ["part", "reference", "upload"])
async def test_upload(serving, how):
    files = {"part": "F", "reference": "x1", "upload": "x1"}[how]
    data = {"part": {}, "reference": {"f": "param:x1"}, "upload": {"UPLOAD": "f,param:x1"}}[how]
    url = await serving.create(
        {**data, "x": "2"}, files={files: ("../a b.fits", "application/fits", io.BytesIO(FILE))}
    )
    job = await serving.job(url)
    byName = {one.get("id"): one for one in job.findall("{*}parameters/*")}
    assert set(byName) == {"f", "x"}
    assert byName["f"].get("byReference") == "true"
    answer = await serving.get(byName["f"].text)
    assert answer.content == FILE
    assert answer.headers["content-type"] == "application/fits"
    part = await serving.get(byName["f"].text, headers={"Range": "bytes=10-19"})
    assert (part.status, part.content) == (206, FILE[10:20])
    assert list(serving.uws.workDirs.uploads().iterdir()) == []


async def test_upload_by_a_label_of_its_own(serving):
    url = await serving.create(
        [("UPLOAD", "t1,param:a"), ("UPLOAD", "t2,param:a")],
        files={"a": ("t.xml", "text/xml", io.BytesIO(b"<x/>"))},
    )
    job = await serving.job(url)
    shown = parameters(job)
    assert shown == [
        ("UPLOAD", f"t1,{url}/parameters/a"), ("UPLOAD", f"t2,{url}/parameters/a"),
    ]  # fmt: skip
    assert (await serving.get(url + "/parameters/a")).content == b"<x/>"


async def test_upload_replaced(serving):
    url = await serving.create(files={"f": ("a", "text/plain", io.BytesIO(b"old"))})
    refused = await serving.post(
        url + "/parameters", {"x": "99"}, files={"f": ("b", "text/plain", io.BytesIO(b"bad"))}
    )
    assert refused.status == 400
    assert (await serving.get(url + "/parameters/f")).content == b"old"
    await serving.post(
        url + "/parameters", {}, files={"f": ("b", "text/plain", io.BytesIO(b"new"))}
    )
    assert (await serving.get(url + "/parameters/f")).content == b"new"
    directory = serving.uws.workDirs.forJob(url.rpartition("/")[2])
    assert len(list(directory.parameters.iterdir())) == 1
    assert list(serving.uws.workDirs.uploads().iterdir()) == []


async def test_upload_refused_leaves_nothing(serving):
    for data, files in (
        ({"f": "param:nothing"}, {"other": ("a", "text/plain", io.BytesIO(FILE))}),
        ({}, {"other": ("a", "text/plain", io.BytesIO(FILE))}),
        ({"x": "99"}, {"f": ("a", "text/plain", io.BytesIO(FILE))}),
        ({"UPLOAD": "t,file:///etc/passwd"}, {"f": ("a", "text/plain", io.BytesIO(FILE))}),
    ):
        answer = await serving.post("", data, files=files)
        assert answer.status == 400, data
    assert validate((await serving.get()).content).getchildren() == []
    assert list(serving.uws.workDirs.known()) == []


async def test_unknown_body(serving):
    for kind in ("application/x-nothing", "text/json", "text/xml"):
        answer = await serving.post("", b"{}", headers={"Content-Type": kind})
        assert answer.status == 415
        assert kind in answer.text


async def test_results(serving):
    url = await serving.create()
    empty = await serving.get(url + "/results")
    assert validate(empty.content).getchildren() == []
    assert (await serving.get(url + "/results/result")).status == 404
    await serving.post(url + "/phase", {"PHASE": "RUN"})
    job = await serving.ended(url)
    found = {one.get("id"): one for one in job.find("{*}results")}
    assert set(found) == {"early", "result"}
    href = found["result"].get("{http://www.w3.org/1999/xlink}href")
    assert href == url + "/results/result"
    whole = await serving.get(href)
    assert whole.status == 200
    assert whole.headers["content-type"] == found["result"].get("mime-type") == "text/csv"
    assert len(whole.content) == int(found["result"].get("size")) == 8000
    part = await serving.get(href, headers={"Range": "bytes=-8"})
    assert (part.status, part.content) == (206, whole.content[-8:])
    assert (await serving.get(url + "/results/nonsense")).status == 404


@pytest.mark.parametrize("path", ["", "/parameters"])
async def test_refused_as_a_whole(serving, path):
    """A phase that cannot be: then nothing of the request is done."""
    url = await serving.create(
        {"x": "1", "EXECUTIONDURATION": "9"},
        files={"f": ("a", "text/plain", io.BytesIO(b"old"))},
    )
    before = (await serving.get(url)).content
    for bad in ({"PHASE": "BAD"}, {"PHASE": ""}, {"ACTION": "BAD"}, {"PHASE": "RUNRUN"}):
        data = {"x": "2", "RUNID": "new", "EXECUTIONDURATION": "5", **bad}
        files = {"f": ("b", "text/plain", io.BytesIO(b"new"))}
        answer = await serving.post(url + path, data, files=files)
        assert answer.status == 400
        assert (await serving.get(url)).content == before
        assert (await serving.get(url + "/parameters/f")).content == b"old"
    await serving.post(url + "/phase", {"PHASE": "RUN"})
    done = (await serving.ended(url)) is not None and (await serving.get(url)).content
    later = {"DESTRUCTION": "", "PHASE": "ABORT"}
    assert (await serving.post(url, later)).status == 403
    assert (await serving.get(url)).content == done


async def test_parameters_and_run_at_once(serving):
    url = await serving.create()
    assert (await serving.post(url, {"x": "3", "PHASE": "RUN"})).status == 303
    job = await serving.ended(url)
    assert parameters(job) == [("x", "3")]
    assert job.findtext("{*}phase") == "COMPLETED"


async def test_put_is_whole_or_refused(serving):
    url = await serving.create()
    for size, status in ((1000, 303), (1_500_000, 303), (3_000_000, 413)):
        answer = await serving.request("PUT", url + "/parameters/label", data=b"x" * size)
        assert answer.status == status
        if status == 303:
            assert len((await serving.get(url + "/parameters/label")).content) == size
    assert len((await serving.get(url + "/parameters/label")).content) == 1_500_000
    assert (await serving.request("PUT", url + "/parameters/a%00b", data=b"x")).status == 400


async def test_many_ranges(serving):
    url = await serving.create({"PHASE": "RUN"})
    await serving.ended(url)
    ranges = ",".join(["0-0"] * 1000)
    answer = await serving.get(url + "/results/result", headers={"Range": f"bytes={ranges}"})
    assert (answer.status, len(answer.content)) == (200, 8000)
    few = await serving.get(url + "/results/result", headers={"Range": "bytes=0-0,2-2"})
    assert few.status == 206


async def test_thousands_of_names(serving):
    """They cost as much as they are many, and hold up nobody."""
    before = serving.reactor.seconds()
    url = await serving.create([(f"p{n}", "1") for n in range(5000)])
    assert len(parameters(await serving.job(url))) == 5000
    assert serving.reactor.seconds() - before < 5


async def test_uploads_at_the_same_time(serving):
    """Two requests whose files would be called the same: each parameter keeps its own."""
    url = await serving.create()
    first = {"UPLOAD": "t1,param:f"}
    await gatherResults(
        [
            Deferred.fromCoroutine(
                serving.post(
                    url + "/parameters", data, files={"f": ("a", "text/plain", io.BytesIO(content))}
                )
            )
            for data, content in ((first, b"labelled"), ({}, b"plain"))
        ]
    )
    shown = dict(parameters(await serving.job(url)))
    label, _, reference = shown["UPLOAD"].partition(",")
    assert (label, (await serving.get(shown["f"])).content) == ("t1", b"plain")
    assert (await serving.get(reference)).content == b"labelled"


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_job_can_have_so_much(serving, method):
    """However little of it comes at a time."""

    async def more(name, value):
        if method == "PUT":
            path = f"{url}/parameters/{name}"
            return await serving.request("PUT", path, data=value.encode())
        return await serving.post(url + "/parameters", {name: value})

    serving.uws.mostValues, serving.uws.mostText = 3, 100
    answer = await serving.post("", {"a": "x" * 60, "b": "ü" * 21})
    assert answer.status == 413
    assert answer.text.startswith("The job would have 102 bytes of text in its parameters")
    url = await serving.create({"a": "x" * 60})
    assert (await more("b", "ü" * 20)).status == 303
    assert (await more("c", "x")).status == 413
    assert (await more("b", "")).status == 303
    assert (await more("c", "x")).status == 303
    answer = await more("d", "")
    assert answer.status == 413
    assert answer.text.startswith("The job would have 4 values; it can have 3")
    kept = [("a", "x" * 60), ("b", ""), ("c", "x")]
    assert sorted(parameters(await serving.job(url))) == kept
