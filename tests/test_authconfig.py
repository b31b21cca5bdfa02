"""Who may do what, as a configuration says it; what is wrong with it, by file, table and key."""

from __future__ import annotations

import bcrypt
import pytest

from twuws import config
from twuws.composition import webSettings
from twuws.database import Database
from twuws.errors import ConfigError
from twuws.identity import Identity
from twuws.tokens import TokenRules
from twuws.web.access import Admitted, Anonymous

PROGRAM = '[services.a]\ncommand = ["cat"]\n'
PASSWORDS = '[auth.passwords]\nfile = "{users}"\n'


@pytest.fixture
def load(tmp_path):
    users = tmp_path / "users"
    users.write_bytes(b"alice:" + bcrypt.hashpw(b"x", bcrypt.gensalt(4)) + b"\n")

    def load(text):
        path = tmp_path / "uws.toml"
        path.write_text(text.replace("{users}", str(users)))
        return config.load(str(path))

    return load


def access(load, text):
    return load(text + PROGRAM).web.access


def test_nothing_said(load):
    """Then there are no users, and everything is for everybody."""
    found = access(load, "")
    assert (found.authenticators, found.anonymous, found.tokens) == ((), Anonymous.ALL, None)
    assert found.securityMethods == []


@pytest.mark.parametrize("text", [PASSWORDS, "[auth.tokens]\n"])
@pytest.mark.parametrize(
    ("key", "anonymous"),
    [("", Anonymous.CREATE), ('anonymous = "all"\n', Anonymous.ALL),
     ('anonymous = "nothing"\n', Anonymous.NOTHING)],
)  # fmt: skip
def test_who_says_no_name(load, text, key, anonymous):
    assert access(load, f"[auth]\n{key}{text}").anonymous is anonymous


def test_rules(load):
    found = access(
        load,
        '[auth]\nadmins = ["root"]\nadmin-groups = ["chiefs"]\nhide-jobs = true\n'
        '[auth.groups]\nchiefs = ["zoe"]\nstaff = ["zoe", "bob"]\n',
    )
    assert found.hidesJobs
    zoe, bob, root = (found.withGroups(Identity(name=name)) for name in ("zoe", "bob", "root"))
    assert (zoe.groups, bob.groups, root.groups) == ({"chiefs", "staff"}, {"staff"}, frozenset())
    assert [found.isAdmin(one) for one in (zoe, bob, root)] == [True, False, True]


def test_services(load):
    services = load(
        PASSWORDS + PROGRAM + '[services.b]\ncommand = ["cat"]\nusers = ["bob"]\n'
        '[services.c]\ncommand = ["cat"]\ngroups = ["staff"]\nusers = []\n'
        '[services.d]\ncommand = ["cat"]\nusers = []\n'
    )
    below = services.web.access.below
    assert below("a").admitted is None
    assert below("b").admitted == Admitted(users=frozenset({"bob"}))
    assert below("c").admitted == Admitted(groups=frozenset({"staff"}))
    assert not below("d").admitted.has(Identity(name="bob"))
    assert [below(name).wantsIdentity for name in "abcd"] == [False, True, True, True]


async def test_tokens(load):
    text = PASSWORDS + "[auth.tokens]\nlifetime = 60\nlogin-lifetime = 30\nlogin = false\n"
    text += "cleartext = true\n"
    rules = TokenRules(lifetime=60, loginLifetime=30, login=False, cleartext=True)
    assert access(load, text).tokens == rules
    assert access(load, "[auth.tokens]\n").tokens == TokenRules()
    database = Database("postgresql://nowhere.invalid/x")
    for text, ways, canLogIn in (
        (PASSWORDS + "[auth.tokens]\n", ["PasswordAuthenticator", "TokenAuthenticator"], True),
        (PASSWORDS + "[auth.tokens]\nlogin = false\n",
         ["PasswordAuthenticator", "TokenAuthenticator"], False),
        ("[auth.tokens]\n", ["TokenAuthenticator"], False),
        (PASSWORDS, ["PasswordAuthenticator"], False),
    ):  # fmt: skip
        found = webSettings(load(text + PROGRAM), database).access
        assert [type(one).__name__ for one in found.authenticators] == ways
        assert (found.login is not None) is canLogIn
        assert ("ivo://ivoa.net/sso#tls-with-password" in found.securityMethods) is canLogIn
    assert len(webSettings(load(PROGRAM), database).access.authenticators) == 0


def test_checkers_of_twisted(load):
    """By their descriptions, as twistd's own services take them."""
    found = access(load, '[auth.passwords]\ncheckers = ["memory:alice:x:bob:y"]\n')
    assert len(found.authenticators) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[auth]\nadmin = []", "[auth] admin: this key means nothing here; did you mean admins?"),
        ('[auth]\nadmins = "root"', "[auth] admins: expected a list of texts, found 'root'"),
        ("[auth]\nadmin-groups = [3]", "[auth] admin-groups: expected a list of texts"),
        ('[auth]\nhide-jobs = "yes"', "[auth] hide-jobs: expected true or false"),
        ("[auth]\nanonymous = true", "[auth] anonymous: expected a text"),
        ('[auth]\nanonymous = "some"',
         "[auth] anonymous: expected all, create, nothing, found 'some'"),
        ('[auth]\nanonymous = "nothing"', "[auth] anonymous: expected a way to log in"),
        ("auth = 3", "[auth] expected a table"),
        ("[auth]\ngroups = 3", "[auth.groups] expected a table"),
        ('[auth.groups]\nstaff = "bob"', "[auth.groups] staff: expected a list of texts"),
        ("[auth.passwords]\nfile = 3", "[auth.passwords] file: expected a text"),
        ('[auth.passwords]\nfile = "none"', "[auth.passwords] file: none: it cannot be read"),
        ('[auth.passwords]\nfile = "."', "[auth.passwords] file: .: it cannot be read"),
        ('[auth.passwords]\nfiles = "x"',
         "[auth.passwords] files: this key means nothing here; did you mean file?"),
        ("[auth.passwords]\ncleartext = 1", "[auth.passwords] cleartext: expected true or false"),
        ('[auth.passwords]\ncheckers = ["nosuch:x"]',
         "[auth.passwords] checkers: 'nosuch:x' is no checker of Twisted's here"),
        ('[auth.passwords]\ncheckers = ["memory:odd"]',
         "[auth.passwords] checkers: 'memory:odd' "),
        ('[auth.passwords]\ncheckers = ["anonymous"]',
         "[auth.passwords] checkers: 'anonymous' checks no names with passwords"),
        ("[auth.tokens]\nlifetime = 0", "[auth.tokens] lifetime: expected a whole number, 1 or"),
        ("[auth.tokens]\nlogin-lifetime = nan", "[auth.tokens] login-lifetime: expected a whole"),
        ("[auth.tokens]\nlogin = 0", "[auth.tokens] login: expected true or false"),
        ("[auth.tokens]\nexpiry = 1", "[auth.tokens] expiry: this key means nothing here"),
        ("[auth]\ntokens = true", "[auth.tokens] expected a table"),
        ('[services.b]\ncommand = ["cat"]\nusers = "bob"',
         "[services.b] users: expected a list of texts, found 'bob'"),
        ('[services.b]\ncommand = ["cat"]\ngroups = [1]', "[services.b] groups: expected a list"),
    ],
)  # fmt: skip
def test_mistakes(load, tmp_path, monkeypatch, text, expected):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load(f"{text}\n{PROGRAM}")
    assert len(caught.value.mistakes) == 1, caught.value.mistakes
    assert caught.value.mistakes[0].startswith(f"{tmp_path}/uws.toml: {expected}"), caught.value


def test_wrong_lines_of_passwords(load, tmp_path):
    (tmp_path / "users").write_text("bob:secret\n")
    with pytest.raises(ConfigError) as caught:
        load(PASSWORDS + PROGRAM)
    assert f"[auth.passwords] file: {tmp_path}/users, line 1: expected name:hash" in str(
        caught.value
    )
