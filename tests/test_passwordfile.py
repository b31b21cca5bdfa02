"""Files of names and hashed passwords: what is in them, how they change, who guesses at them."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import bcrypt
import pytest
from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import globalLogPublisher

from twuws.authenticators.guessing import REMEMBERED, Guesses
from twuws.authenticators.passwordfile import (
    PasswordFile,
    changePasswords,
    hashPassword,
    readPasswords,
)
from twuws.authenticators.passwords import AT_ONCE, PasswordAuthenticator
from twuws.errors import Forbidden, NotAuthenticated, TooManyRequests, Unavailable, UWSError


def quickly(password):
    """A hash that takes little time."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4))


def write(path, *, age=60, **passwords):
    """Write a file as of a minute ago."""
    lines = [f"{name}:{quickly(word).decode()}\n" for name, word in passwords.items()]
    path.write_text("# who may\n\n" + "".join(lines))
    os.utime(path, (path.stat().st_mtime - age,) * 2)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "users"
    write(path, alice="wonderland", Zoë="naïve")
    return path


@pytest.fixture
def hashed(monkeypatch):
    """What bcrypt was asked: password and hash."""
    asked = []
    check = bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", lambda *args: asked.append(args) or check(*args))
    return asked


async def isRight(file, name, password):
    try:
        found = await file.requestAvatarId(UsernamePassword(name.encode(), password.encode()))
    except UnauthorizedLogin:
        return False
    assert found == name.encode()
    return True


# What is in it


async def test_who_is_in_it(path):
    file = PasswordFile(path)
    assert await isRight(file, "alice", "wonderland")
    assert await isRight(file, "Zoë", "naïve")
    for name, password in (
        ("alice", "Wonderland"), ("alice", ""), ("alice", "naïve"), ("bob", "wonderland"),
        ("", ""), ("ALICE", "wonderland"), ("alice", "wonderland\0"), ("# who may", ""),
    ):  # fmt: skip
        assert not await isRight(file, name, password), (name, password)


@pytest.mark.parametrize("kind", ["$2a$", "$2b$", "$2y$"])
async def test_htpasswd(tmp_path, kind):
    """As C{htpasswd -B} writes it, and others that make bcrypt's hashes."""
    path = tmp_path / "users"
    hash = quickly("word").replace(b"$2b$", kind.encode())
    path.write_bytes(b"alice:" + hash + b"\n")
    file = PasswordFile(path)
    assert await isRight(file, "alice", "word")
    assert not await isRight(file, "alice", "words")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("htpasswd") is None, reason="htpasswd is not installed")
async def test_htpasswd_itself(tmp_path):
    path = tmp_path / "users"
    subprocess.run(["htpasswd", "-cbB", path, "alice", "word"], check=True, capture_output=True)
    assert await isRight(PasswordFile(path), "alice", "word")


@pytest.mark.parametrize(
    "line",
    [
        "bob:secret",
        "bob:",
        "bob",
        ":",
        "bob:$apr1$O04r.y2H$/vEkesPhVInBByJUkXitA/",  # MD5
        "bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
        "bob:rqXexS6ZhobKA",  # crypt
        "bob:$5$rounds=5000$x$dT5Hkv7jS3JgVQkVKGH9l5WlbrBBB0NzuWGDE9bJUDD",
        "bob:$2b$04$short",
        "b\x07b:" + quickly("x").decode(),
        " :" + quickly("x").decode(),
        ":" + quickly("x").decode(),
    ],
    ids=lambda line: line.partition("$2b$04$")[0],  # salts are others in each process
)
def test_what_is_no_line(path, line):
    """Each is refused with its place, and nothing of it is repeated that may be a password."""
    with path.open("a") as f:
        f.write(line + "\n")
    with pytest.raises(UWSError, match=rf"^{path}, line 5: ") as caught:
        PasswordFile(path)
    assert "secret" not in str(caught.value)


def test_not_text(path):
    path.write_bytes(b"b\xffb:" + quickly("x") + b"\n")
    with pytest.raises(UWSError, match="line 1"):
        PasswordFile(path)


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir])
def test_no_file(tmp_path, make):
    make(tmp_path / "x")
    with pytest.raises(UWSError, match=rf"{tmp_path / 'x'}: it cannot be read: \w+"):
        PasswordFile(tmp_path / "x")


async def test_long_passwords(tmp_path):
    """What is longer than bcrypt looks at is not right by its beginning."""
    path = tmp_path / "users"
    word = "ä" * 36
    write(path, alice=word)
    file = PasswordFile(path)
    assert await isRight(file, "alice", word)
    for longer in (word + "x", word * 2):
        assert not await isRight(file, "alice", longer)
        with pytest.raises(ValueError, match="72 bytes"):
            hashPassword(longer)
    with pytest.raises(ValueError, match="1 to 72 bytes"):
        hashPassword("")


def test_cost():
    """What is written here takes as long as bcrypt's authors say that it should now."""
    assert hashPassword("word").startswith(b"$2b$12$")


# Who is asked


async def test_names_take_as_long_as_passwords(path, hashed):
    """Nobody can tell by the time whether there is somebody of a name."""
    file = PasswordFile(path)
    for name in ("alice", "nobody"):
        for password in ("wrong", "x" * 100):
            hashed.clear()
            assert not await isRight(file, name, password)
            assert [one[1][:7] for one in hashed] == [b"$2b$04$"], name
    path.write_text("")
    hashed.clear()
    assert not await isRight(file, "nobody", "wrong")
    assert len(hashed) == 1


async def test_what_was_right_is_remembered(path, hashed):
    file = PasswordFile(path)
    assert await file.recall(UsernamePassword(b"alice", b"wonderland")) is None
    assert hashed == []
    for _ in range(3):
        assert await isRight(file, "alice", "wonderland")
    assert len(hashed) == 1
    assert await file.recall(UsernamePassword(b"alice", b"wonderland")) == b"alice"
    assert await file.recall(UsernamePassword(b"alice", b"wrong")) is None
    for _ in range(2):  # what was wrong is not
        assert not await isRight(file, "alice", "wrong")
    assert len(hashed) == 3
    assert b"wonderland" not in repr(vars(file)).encode()


async def test_change_counts_at_once(path):
    """With another time or not, of another size or not, in place or not."""
    file = PasswordFile(path)
    words = ["wonderland"]
    for number, replace in enumerate([False, True] * 5):
        assert await isRight(file, "alice", words[-1])
        target = path.with_suffix(".new") if replace else path
        words.append(f"looking-gla{number}")
        write(target, age=60 if number < 5 else 0, alice=words[-1])
        if replace:
            target.replace(path)
        assert await isRight(file, "alice", words[-1])
        for old in words[:-1]:
            assert not await isRight(file, "alice", old)
    write(path, bob="builder")
    assert not await isRight(file, "alice", words[-1])


async def test_changes_within_one_tick(path, monkeypatch):
    """A file that was changed twice in the same instant, to the same size."""
    file = PasswordFile(path)
    state = path.stat()
    same = SimpleNamespace(st_mtime=state.st_mtime + 60, **{
        name: getattr(state, name) for name in ("st_mtime_ns", "st_ctime_ns", "st_size", "st_ino")
    })  # fmt: skip
    file._path = SimpleNamespace(
        read_bytes=path.read_bytes, stat=lambda: same, __str__=lambda: "users"
    )
    write(path, alice="first")
    assert await isRight(file, "alice", "first")
    write(path, alice="other")
    assert not await isRight(file, "alice", "first")
    assert await isRight(file, "alice", "other")


# How it is changed


def test_changing(path):
    path.chmod(0o640)
    before = path.read_text()

    def change(hashes):
        assert set(hashes) == {"alice", "Zoë"}
        hashes["bob"] = quickly("builder")
        hashes["alice"] = quickly("new")

    changePasswords(path, change)
    assert path.stat().st_mode & 0o777 == 0o640
    lines = path.read_text().splitlines()
    assert lines[:2] == ["# who may", ""]
    assert lines[3] == before.splitlines()[3]
    assert [line.partition(":")[0] for line in lines[2:]] == ["alice", "Zoë", "bob"]
    changePasswords(path, lambda hashes: hashes.pop("alice"))
    assert list(readPasswords(path)) == ["Zoë", "bob"]
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_made_for_its_owner_alone(tmp_path):
    old = os.umask(0)
    try:
        changePasswords(tmp_path / "new", lambda hashes: hashes.update(a=quickly("x")))
    finally:
        os.umask(old)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


def test_links_stay(path):
    link = path.with_name("link")
    link.symlink_to(path)
    changePasswords(link, lambda hashes: hashes.clear())
    assert link.is_symlink()
    assert readPasswords(path) == {}


def test_what_fails_changes_nothing(path):
    before = path.read_bytes()
    for change in (lambda hashes: hashes["nobody"], lambda hashes: hashes.update(a=None)):
        with pytest.raises((KeyError, TypeError)):
            changePasswords(path, change)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_many_change_it(path):
    """None undoes what another has done."""
    one = quickly("x")
    threads = [
        threading.Thread(target=changePasswords, args=(path, lambda h, n=n: h.update({n: one})))
        for n in map(str, range(20))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(readPasswords(path)) == {"alice", "Zoë", *map(str, range(20))}


# Who asks too often


def test_guesses():
    now = [0.0]
    guesses = Guesses(most=3, period=60, now=lambda: now[0])
    for _ in range(3):
        guesses.check("192.0.2.1", b"alice")
        guesses.wrong("192.0.2.1", b"alice")
        now[0] += 10
    with pytest.raises(TooManyRequests, match="again in 30 s") as caught:
        guesses.check("192.0.2.1", b"alice")
    assert caught.value.retryAfter == 30
    guesses.check("192.0.2.1", b"bob")
    guesses.check("192.0.2.2", b"alice")
    now[0] = 60
    guesses.check("192.0.2.1", b"alice")
    guesses.wrong("192.0.2.1", b"alice")
    with pytest.raises(TooManyRequests):
        guesses.check("192.0.2.1", b"alice")


def test_networks_count_as_one():
    guesses = Guesses(most=1)
    guesses.wrong("2001:db8::1", b"alice")
    guesses.wrong("::ffff:192.0.2.1", b"alice")
    for address in ("2001:db8::ffff:2", "2001:db8::1%eth0", "192.0.2.1"):
        with pytest.raises(TooManyRequests):
            guesses.check(address, b"alice")
    guesses.check("2001:db8:0:1::1", b"alice")


def test_guesses_take_little_memory():
    now = [0.0]
    guesses = Guesses(most=1, now=lambda: now[0])
    for n in range(REMEMBERED + 10):
        guesses.wrong("192.0.2.1", str(n).encode())
    assert len(guesses._wrong) == REMEMBERED
    with pytest.raises(TooManyRequests):
        guesses.check("192.0.2.1", str(n).encode())
    now[0] = 61
    guesses.wrong("192.0.2.1", b"x")
    assert len(guesses._wrong) == 1


def asked(address="192.0.2.1", **more):
    """What a request says of who has sent it."""
    return SimpleNamespace(**{"cameFrom": address, "isConfidential": True, **more})


class Slow:
    """A checker that answers when it is told to."""

    credentialInterfaces = ()

    def __init__(self):
        self.asked = []

    def requestAvatarId(self, credentials):
        self.asked.append((credentials.username, Deferred()))
        return self.asked[-1][1]


async def test_few_at_a_time():
    """However many ask, and even if they hang up."""
    slow = Slow()
    checking = PasswordAuthenticator([slow])
    waiting = [
        Deferred.fromCoroutine(checking.check(b"alice", b"x", asked(f"192.0.2.{n}")))
        for n in range(9)
    ]
    assert len(slow.asked) == AT_ONCE
    for one in waiting[:4]:
        one.addErrback(lambda failure: None)
        one.cancel()
    assert len(slow.asked) == AT_ONCE
    for n in range(9):
        slow.asked[n][1].errback(UnauthorizedLogin())
        assert len(slow.asked) == min(n + 1 + AT_ONCE, 9)
    outcomes = await DeferredList(waiting[4:], consumeErrors=True)
    assert all(one[1].check(NotAuthenticated) for one in outcomes)


async def test_one_address_cannot_keep_all_waiting():
    slow = Slow()
    checking = PasswordAuthenticator([slow], guesses=Guesses(waiting=3))
    waiting = [
        Deferred.fromCoroutine(checking.check(str(n).encode(), b"x", asked())) for n in range(3)
    ]
    with pytest.raises(TooManyRequests):
        await checking.check(b"4", b"x", asked())
    other = Deferred.fromCoroutine(checking.check(b"bob", b"x", asked("192.0.2.2")))
    for n in range(4):
        slow.asked[n][1].callback(slow.asked[n][0])
    assert (await other).name == "bob"
    assert [(await one).name for one in waiting] == ["0", "1", "2"]


async def test_all_guesses_count():
    """Also those that come at the same time, and whose senders hang up."""
    slow = Slow()
    checking = PasswordAuthenticator([slow], guesses=Guesses(most=3))
    waiting = [Deferred.fromCoroutine(checking.check(b"a", b"x", asked())) for n in range(20)]
    for one in waiting:
        one.addErrback(lambda failure: failure.type)
    waiting[0].cancel()
    done = 0
    while done < len(slow.asked):
        slow.asked[done][1].errback(UnauthorizedLogin())
        done += 1
    assert done < 3 + AT_ONCE
    kinds = [await one for one in waiting[1:]]
    assert kinds.count(TooManyRequests) == 20 - done
    with pytest.raises(TooManyRequests):  # were it right, one could guess on
        await checking.check(b"a", b"right", asked())


async def test_what_is_remembered_waits_for_nobody(path):
    """Who has logged in before does not notice those who guess."""
    slow = Slow()
    checking = PasswordAuthenticator([PasswordFile(path), slow])
    right = asked("192.0.2.9")
    assert (await checking.check(b"alice", b"wonderland", right)).name == "alice"
    guessing = [
        Deferred.fromCoroutine(checking.check(b"bob", b"x", asked(f"192.0.2.{n}")))
        for n in range(5)
    ]
    assert (await checking.check(b"alice", b"wonderland", right)).name == "alice"
    done = 0
    while not all(one.called for one in guessing):
        while done < len(slow.asked):
            slow.asked[done][1].errback(UnauthorizedLogin())
            done += 1
        await _turn()
    for one in guessing:
        one.addErrback(lambda failure: failure.trap(NotAuthenticated))


async def _turn():
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    await deferLater(reactor, 0.001)


async def test_who_may_have_read_it(path):
    file = PasswordFile(path)
    with pytest.raises(Forbidden, match="https"):
        await PasswordAuthenticator([file]).check(
            b"alice", b"wonderland", asked(isConfidential=False)
        )
    lenient = PasswordAuthenticator([file], cleartext=True)
    who = await lenient.check(b"alice", b"wonderland", asked(isConfidential=False))
    assert (who.name, who.isAmbient) == ("alice", True)


async def test_vanished(path):
    """Nobody is let in, and the log says why."""
    checking = PasswordAuthenticator([PasswordFile(path)])
    assert (await checking.check(b"alice", b"wonderland", asked())).name == "alice"
    said = []
    globalLogPublisher.addObserver(said.append)
    try:
        path.rename(path.with_name("gone"))
        with pytest.raises(Unavailable, match="tell the operator") as caught:
            await checking.check(b"alice", b"wonderland", asked())
        assert str(path) not in str(caught.value)
    finally:
        globalLogPublisher.removeObserver(said.append)
    assert any(str(path) in str(one.get("e")) for one in said)
    path.with_name("gone").rename(path)
    assert (await checking.check(b"alice", b"wonderland", asked())).name == "alice"


async def test_first_that_knows_counts(path, tmp_path):
    other = tmp_path / "others"
    word = secrets.token_hex(8)
    write(other, bob=word, alice="other")
    checking = PasswordAuthenticator([PasswordFile(path), PasswordFile(other)])
    for name, password in (("alice", "wonderland"), ("alice", "other"), ("bob", word)):
        who = await checking.check(name.encode(), password.encode(), asked())
        assert (who.name, who.method) == (name, "password")
    with pytest.raises(NotAuthenticated, match="name or the password"):
        await checking.check(b"bob", b"wonderland", asked())
