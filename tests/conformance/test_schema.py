"""What the kit finds wrong with documents, by its own rules and by a schema from a file."""

from __future__ import annotations

import pytest

from tests import validation
from tests.conformance.rightdocuments import Documents
from tests.conformance.rightjobs import File, Jobs
from twuws.conformance.documents import Document, parse
from twuws.conformance.outcomes import Unusable
from twuws.conformance.schema import problems
from twuws.conformance.xsd import PublishedSchema

NAMESPACES = (
    'xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0" xmlns:xlink="http://www.w3.org/1999/xlink"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
)


def rightJob():
    job = Jobs().create("")
    job.parameters = {"a": ["1"], "f": [File(b"x")]}
    job.results = [("r", File(b"x", "text/plain"))]
    job.error, job.runId = "It failed.", "run"
    return job


JOB = Documents("http://a/async", lambda fault: False).job(rightJob()).decode()
LIST = Documents("http://a/async", lambda fault: False).jobs([rightJob()]).decode()


def found(text):
    return problems(parse(text.encode()))


def test_right_documents():
    assert found(JOB) == []
    assert found(LIST) == []
    for name in ("results", "parameters", "jobs"):
        assert found(f"<uws:{name} {NAMESPACES}/>") == []


NIL = '<uws:startTime xsi:nil="true"/>'


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("uws:jobId>", "uws:jobid>", "job has no jobId"),
        (NIL, "", "job has no startTime"),
        (NIL, NIL + NIL, "there are 2 startTime in job"),
        (NIL, "<uws:startTime/>", "startTime is an instant, and not ''; what is not known is nil"),
        (NIL, "<uws:startTime>2020-01-01</uws:startTime>", "startTime is an instant"),
        (NIL, '<uws:startTime xsi:nil="true">x</uws:startTime>', "startTime is nil, and yet"),
        (NIL, '<uws:startTime xsi:nil="yes"/>', "nil is true or false, and not 'yes'"),
        ("<uws:runId>", '<uws:runId xsi:nil="true">', "nil of runId"),
        ("<uws:runId>", "<uws:runId><uws:x/>", "runId holds text, and there are elements in it"),
        ("PENDING", "pending", "'pending' is no phase"),
        ("PENDING", " PENDING", "' PENDING' is no phase"),
        (">3600<", ">3600.0<", "executionDuration is a whole number"),
        (">3600<", ">-1<", "executionDuration is a whole number"),
        (">3600<", ">2147483648<", "executionDuration is a whole number"),
        ("<uws:results>", '<uws:results version="1.1">', "no attribute version of results"),
        ("<uws:parameters>", '<uws:parameters version="1.1">', "attribute version of parameters"),
        ('byReference="true"', 'byReference="yes"', "byReference is true or false"),
        ('<uws:parameter id="a">', "<uws:parameter>", "parameter has no attribute id"),
        (">1</uws:parameter>", "><uws:x/></uws:parameter>", "and a holds elements"),
        ('xlink:type="simple"', 'xlink:type="result"', "type of a link is simple"),
        ('xlink:type="simple"', 'xlink:title="t"', "title of result"),
        ('size="1"', 'size="1.0"', "the size of a result"),
        ("</uws:results>", '<uws:result id="r"/></uws:results>', "there are 2 called 'r'"),
        ("</uws:results>", '<uws:result id="s">x</uws:result></uws:results>', "s is not"),
        ("</uws:results>", "x</uws:results>", "there is text between the elements of results"),
        ("</uws:results>", "<uws:x/></uws:results>", "there is no x in results"),
        ('type="fatal"', 'type="bad"', "the type of an errorSummary is transient or fatal"),
        ('hasDetail="false"', 'hasDetail="no"', "hasDetail is true or false"),
        ('hasDetail="false"', "", "errorSummary has no attribute hasDetail"),
        ("uws:message>", "uws:detail>", "errorSummary has no message"),
        ("</uws:job>", "<uws:jobInfo>text</uws:jobInfo></uws:job>", "elements of jobInfo"),
        ("</uws:job>", "<uws:progress/></uws:job>", "there is no progress in job"),
        ("</uws:job>", "<x/></uws:job>", "there is no x in job"),
        ("<uws:quote", "<uws:quote2", "not"),
        ("<uws:job ", '<uws:job colour="red" ', "there is no attribute colour of job"),
        ("uws:job>", "uws:task>", ""),
    ],
)
def test_problems_of_a_job(old, new, problem):
    if old == "<uws:quote":
        text = JOB.replace('<uws:quote xsi:nil="true"/>', "")
        quote = '<uws:quote xsi:nil="true"/>'
        assert found(text) == []
        assert "wrong order" in found(text.replace("</uws:job>", quote + "</uws:job>"))[0]
        return
    if old == "uws:job>":
        assert "document element" in found(f"<uws:task {NAMESPACES}/>")[0]
        return
    assert old in JOB
    assert [one for one in found(JOB.replace(old, new)) if problem in one]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("<uws:phase>PENDING</uws:phase>", "", "jobref has no phase"),
        (' id="', ' name="', "jobref has no attribute id"),
        ("creationTime", "startTime", "there is no startTime in jobref"),
        ("uws:jobref", "uws:job", "there is no job in jobs"),
    ],
)
def test_problems_of_a_list(old, new, problem):
    assert [one for one in found(LIST.replace(old, new)) if problem in one]


def test_results_may_have_attributes_of_ones_own():
    custom = 'xmlns:c="urn:uwscustom" c:colour="red" size="1"'
    assert found(JOB.replace('size="1"', custom)) == []
    assert found(JOB.replace('size="1"', custom.replace("uwscustom", "other")))


def test_document_types_are_refused():
    with pytest.raises(ValueError, match="document type"):
        parse(b'<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>')


# The published schema.

SMALL = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"
    xmlns:xlink="http://www.w3.org/1999/xlink" targetNamespace="urn:small">
  <xs:import namespace="http://www.w3.org/1999/xlink"
      schemaLocation="http://nowhere.invalid/xlink.xsd"/>
  <xs:element name="a">
    <xs:complexType><xs:attribute ref="xlink:type"/></xs:complexType>
  </xs:element>
</xs:schema>"""


def test_schema_imports_nothing_from_elsewhere(tmp_path):
    path = tmp_path / "small.xsd"
    path.write_text(SMALL)
    schema = PublishedSchema(path)
    link = 'xmlns:x="http://www.w3.org/1999/xlink"'
    assert schema.problems(parse(f'<a xmlns="urn:small" {link} x:type="arc"/>'.encode())) == []
    (problem,) = schema.problems(parse(f'<a xmlns="urn:small" {link} x:type="q"/>'.encode()))[:1]
    assert "by the published schema" in problem


@pytest.mark.skipif(not validation._PUBLISHED.is_file(), reason="there is no published schema")
def test_published_schema():
    schema = PublishedSchema(validation._PUBLISHED)
    assert schema.problems(parse(JOB.encode())) == []
    assert schema.problems(parse(LIST.encode())) == []
    assert schema.problems(parse(JOB.replace("PENDING", "pending").encode()))


def test_wrong_schema_files(tmp_path):
    path = tmp_path / "x.xsd"
    with pytest.raises(Unusable, match="cannot be read"):
        PublishedSchema(path)
    path.write_text("<a/>")
    with pytest.raises(Unusable, match="is no schema"):
        PublishedSchema(path)


def test_reading():
    job = Document(parse(JOB.encode()))
    assert (job.phase, job.text("runId"), job.text("startTime")) == ("PENDING", "run", None)
    assert [(one.id, one.byReference) for one in job.parameters] == [("a", False), ("f", True)]
    assert [(one.id, one.size, one.mediaType) for one in job.results] == [("r", "1", "text/plain")]
    assert job.message == "It failed."
