"""
The C{twuws} command in processes of its own that need not import it first.

To import it takes several times as long as most of what it does.  So one process does that, and
is forked for each call: then it has the arguments, the streams, the environment and the
directory of a new one, runs the module as C{python -m} does, and exits as that would.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile

MODULE = "twuws.admin"
LIMIT = 60.0  # seconds for one call


def run(*words, said="", cwd=None):
    """The completed process of C{python -m twuws.admin}; what it writes is text."""
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as stdout,
        tempfile.TemporaryFile() as stderr,
    ):
        stdin.write(said.encode())
        stdin.seek(0)
        asked = json.dumps([words, os.path.abspath(cwd or os.curdir), dict(os.environ)])
        streams = [each.fileno() for each in (stdin, stdout, stderr, theirs)]
        socket.send_fds(_server(), [asked.encode()], streams)
        theirs.close()
        ours.settimeout(LIMIT)
        status = int(ours.recv(100))
        written = []
        for each in (stdout, stderr):
            each.seek(0)
            written.append(each.read().decode())
    return subprocess.CompletedProcess(words, status, *written)


@functools.cache
def _server():
    """The socket of the process that is forked; it ends with this one."""
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with theirs:
        subprocess.Popen(
            [sys.executable, "-P", __file__, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    return ours


def _serve(requests):
    __import__(MODULE)
    gc.collect()
    gc.freeze()  # to look at what is shared would make copies of it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait
    while True:
        asked, streams, _, _ = socket.recv_fds(requests, 1 << 20, 4)
        if not asked:
            return
        if os.fork() == 0:
            requests.close()
            _answer(*json.loads(asked), *streams)
            return
        for each in streams:
            os.close(each)


def _answer(words, directory, environment, stdin, stdout, stderr, answer):
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = os.fork()
    if process != 0:
        for each in (stdin, stdout, stderr):
            os.close(each)
        _, status = os.waitpid(process, 0)
        os.write(answer, str(os.waitstatus_to_exitcode(status)).encode())
        return
    for number, each in enumerate((stdin, stdout, stderr)):
        os.dup2(each, number)
        os.close(each)
    os.close(answer)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, directory)
    sys.argv[1:] = words
    runpy.run_module(MODULE, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _serve(socket.socket(fileno=int(sys.argv[1])))
