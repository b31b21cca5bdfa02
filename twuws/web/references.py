"""
Which parameters the files of a request are the values of (UWS 1.1, 2.2.3.1.1; DALI, 4.3.5).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from urllib.parse import unquote

from twuws.errors import BadRequest
from twuws.submission import Upload
from twuws.values import checkedSource
from twuws.web.multipart import REFERENCE, ByName, shown, uploadPairs

_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)


def referenced(
    args: ByName[str], files: ByName[Upload], fileNames: Collection[str] = ()
) -> ByName[Upload]:
    """
    Say which parameters the files of a request are the values of.

    C{X=param:part} gives parameter X that file; so does C{UPLOAD=X,param:part} for a
    declared X, and any other label makes a value of C{UPLOAD} that has it.  In place of
    C{param:part}, C{UPLOAD} can have an http or https URI; that file is elsewhere.  A file
    that nothing refers to belongs to the declared parameter that its part is named like.

    @param args: references are taken out of it.
    @param fileNames: the declared File parameters; the result has their spelling.
    @return: where a client refers to one part twice, two uploads share a path.
    @raise BadRequest: for a reference to nothing, and for a file that is for nothing.
    """
    references = _References(files, fileNames)
    references.takeUploads(args)
    references.takeValues(args)
    references.takeParts()
    return references.values


class _References:
    """
    The files of one request, on their way to their parameters.

    @ivar values: what each parameter has by now.
    """

    def __init__(self, files: ByName[Upload], fileNames: Collection[str]) -> None:
        self.values: ByName[Upload] = ByName()
        self._files = files
        self._declared = {name.lower(): name for name in fileNames}
        self._used: set[str] = set()
        self._labels: set[str] = set()

    def takeUploads(self, args: ByName[str]) -> None:
        """What C{UPLOAD} says."""
        for value in args.pop("UPLOAD", []):
            for label, uri in uploadPairs(value):
                if not _LABEL.fullmatch(label) or not uri:
                    raise BadRequest(
                        f"UPLOAD: {shown(value)} is not label,URI, where the label has letters,"
                        " digits and _, and the URI is http:…, https:…, or param:PART for a part"
                        " of the same request"
                    )
                if label.lower() in self._labels:
                    raise BadRequest(f"UPLOAD: the label {label} is there more than once")
                self._labels.add(label.lower())
                self._take(label, uri)

    def _take(self, label: str, uri: str) -> None:
        isPart = uri.lower().startswith("param:")
        upload = self._part(label, uri) if isPart else self._elsewhere(label, uri)
        if label.lower() in self._declared:
            self._give(label, upload)
        else:
            self._give("UPLOAD", replace(upload, label=label))

    def takeValues(self, args: ByName[str]) -> None:
        """What other parameters say."""
        for name in list(args):
            found = [value for value in args[name] if REFERENCE.fullmatch(value.strip())]
            for value in found:
                self._give(name, self._part(name, value.strip()))
            args[name] = [value for value in args[name] if value not in found]
            if found and not args[name]:
                del args[name]

    def takeParts(self) -> None:
        """The parts that nothing refers to."""
        for name, several in self._files.items():
            if name.lower() in self._used:
                continue
            if name.lower() not in self._declared:
                known = ", ".join(self._declared.values()) or "none"
                raise BadRequest(
                    f"Part {name}: nothing refers to it; parameters for files: {known}"
                )
            for upload in several:
                self._give(name, upload)

    def _give(self, name: str, upload: Upload) -> None:
        self.values.setdefault(self._declared.get(name.lower(), name), []).append(upload)

    def _part(self, name: str, uri: str) -> Upload:
        found = REFERENCE.fullmatch(uri)
        part = unquote(found[1]) if found else ""
        several = self._files.get(part, [])
        if len(several) != 1:
            raise BadRequest(
                f"{name}: it refers to a part {shown(part)} with a file, and"
                f" {len(several)} parts of this request are called so; it takes one"
            )
        self._used.add(part.lower())
        return several[0]

    def _elsewhere(self, label: str, uri: str) -> Upload:
        try:
            return Upload(part=label, source=checkedSource(uri))
        except ValueError as e:
            raise BadRequest(f"UPLOAD {label}: {shown(uri)} cannot be loaded: {e}") from None
