"""
JSON objects as forms: members are parameters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from twuws.errors import BadRequest
from twuws.web.limits import USUAL, RequestLimits, tooMany
from twuws.web.multipart import checkedName, checkedText, shown

#: Strings, with or without an end, and what separates them.  In an object that is taken there
#: are at most four for each value.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[,\[{]', re.DOTALL)


class _Members(list[tuple[str, Any]]):
    """An object, told from a list, with members that are there twice."""


_KINDS: dict[type, str] = {_Members: "an object", list: "a list"}


def isJSON(kind: str) -> bool:
    """Whether a media type, in lower case and without parameters, is JSON."""
    return kind == "application/json" or (kind.startswith("application/") and kind[-5:] == "+json")


def pairsOfJSON(raw: bytes, limits: RequestLimits = USUAL) -> list[tuple[str, str]]:
    """
    The names and values in an object, as a form would have them.

    A number is the text that it is written as, true and false are C{true} and C{false}, a
    list is several values, and null is none.

    >>> pairsOfJSON(b'{"ra": 0.10, "band": ["g", "r"], "dec": null, "quick": true}')
    [('ra', '0.10'), ('band', 'g'), ('band', 'r'), ('quick', 'true')]

    @raise BadRequest: naming the member that is wrong; L{TooLarge} too.
    """
    members = _parsed(raw, limits)
    pairs = []
    seen: set[str] = set()
    for name, value in members:
        name = checkedName(name.encode("utf-8", "surrogatepass"), limits)
        if name.lower() in seen:
            raise BadRequest(
                f"Parameter {shown(name)}: it is there twice, for case does not matter;"
                " give several values as a list"
            )
        seen.add(name.lower())
        pairs += [(name, one) for one in _values(name, value, limits)]
    return pairs


def _parsed(raw: bytes, limits: RequestLimits) -> _Members:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadRequest("The JSON is not in UTF-8.") from None
    if next(islice(_TOKEN.finditer(text), 4 * limits.parameters + 10, None), None):
        raise tooMany(limits)
    try:
        found = json.loads(
            text,
            object_pairs_hook=_Members,
            parse_int=str,
            parse_float=str,
            parse_constant=_refuseConstant,
        )
    except json.JSONDecodeError as e:
        raise BadRequest(f"The JSON is malformed: {e}") from None
    except RecursionError:
        raise BadRequest(
            "The JSON is nested too deep: values are text, numbers or lists."
        ) from None
    if not isinstance(found, _Members):
        raise BadRequest('The JSON is no object; send one such as {"name": "value"}.')
    return found


def _refuseConstant(name: str) -> None:
    raise BadRequest(f"The JSON is malformed: {name} is not JSON; send it in quotes")


def _values(name: str, value: Any, limits: RequestLimits) -> Iterator[str]:
    several = value if isinstance(value, list) and not isinstance(value, _Members) else [value]
    for one in several:
        if isinstance(one, bool):
            yield "true" if one else "false"
        elif isinstance(one, str):
            yield checkedText(one.encode("utf-8", "surrogatepass"), name, limits)
        elif one is not None or several is value:
            kind = "null" if one is None else _KINDS[type(one)]
            where = " in a list" if several is value else ""
            raise BadRequest(
                f"Parameter {name}: {kind}{where} cannot be a value; send text, a number, true,"
                " false, or a list of these"
            )
