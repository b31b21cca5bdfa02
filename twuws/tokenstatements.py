"""
The SQL about tokens.  See L{twuws.statements}.
"""

from __future__ import annotations

TOKEN_STATEMENTS: dict[str, str] = {
    # Without an end if the time is null.
    "makeToken": """
        INSERT INTO tokens (token_id, hash, owner, scopes, label, made_by, expires)
        VALUES (%(tokenId)s, %(hash)s, %(owner)s, %(scopes)s, %(label)s, %(madeBy)s,
                clock_timestamp() + %(seconds)s * interval '1 s')
        RETURNING *""",
    # Who a token that is good stands for, and for how long it will be, s.
    "findToken": """
        SELECT owner, scopes,
               EXTRACT(EPOCH FROM expires - clock_timestamp())::float AS seconds
        FROM tokens
        WHERE hash = %(hash)s AND (expires IS NULL OR expires > clock_timestamp())""",
    "listTokens": """
        SELECT * FROM tokens
        WHERE (expires IS NULL OR expires > clock_timestamp())
          AND (%(owner)s::text IS NULL OR owner = %(owner)s)
        ORDER BY owner, made, token_id""",
    "revokeTokens": """
        DELETE FROM tokens
        WHERE token_id = ANY(%(tokenIds)s::text[]) OR owner = %(owner)s::text
        RETURNING token_id, owner""",
    # Those that somebody else is about to forget are left alone.
    "forgetTokens": """
        DELETE FROM tokens
        WHERE token_id = ANY(ARRAY(SELECT token_id FROM tokens WHERE expires < now()
                                   ORDER BY expires LIMIT %(limit)s
                                   FOR UPDATE SKIP LOCKED))
        RETURNING token_id""",
}
