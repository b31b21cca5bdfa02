"""
What a service says of its jobs, as documents: pure functions from jobs to bytes.
"""

from __future__ import annotations

from twuws.documents.votable import VOTABLE, errorVOTable
from twuws.documents.xml import (
    MEDIA_TYPE,
    jobDocument,
    jobListDocument,
    jobListEnd,
    jobListStart,
    jobRef,
    parametersDocument,
    parameterURL,
    resultsDocument,
    resultURL,
    xmlText,
)

__all__ = [
    "MEDIA_TYPE",
    "VOTABLE",
    "errorVOTable",
    "jobDocument",
    "jobListDocument",
    "jobListEnd",
    "jobListStart",
    "jobRef",
    "parameterURL",
    "parametersDocument",
    "resultURL",
    "resultsDocument",
    "xmlText",
]
