"""
C{twistd uws}: its options, and the way to its service.

twistd imports this to show its help, so all that takes time is imported by L{makeService}.
"""

from __future__ import annotations

import signal
from typing import NoReturn

from twisted.application.service import IService
from twisted.python import usage

import twuws
from twuws.options import OPTIONS


class Options(usage.Options):
    """What the command line can say; the configuration file can say the same."""

    synopsis = "[options]"
    longdesc = (
        "A Universal Worker Service (IVOA UWS 1.1). Without --config it serves three examples:"
        " messier, digest and sleep. All options but --config are keys of the file, too; the"
        " command line wins."
    )
    optParameters = [
        ["config", "c", None, "the TOML file that declares the services"],
        *(
            [name, None, None, text + ("" if default is None else f" [default: {default}]")]
            for name, (_, default, text) in OPTIONS.items()
        ),
    ]
    optFlags = [["no-web", None, "only run jobs, and answer no HTTP"]]

    def opt_version(self) -> NoReturn:
        """Display the version of twuws and exit."""
        print(f"twuws {twuws.__version__}")  # noqa: T201
        raise SystemExit(0)


def makeService(options: Options) -> IService:
    """
    Make the service that twistd runs.

    @raise SystemExit: with all that is wrong with the configuration, a line each.
    """
    # Until the service starts, Ctrl-C just ends the process: Python's way is a traceback,
    # or nothing at all where an exception is not passed on.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    from twuws.config import load
    from twuws.errors import ConfigError
    from twuws.logs import keepClean
    from twuws.workerservice import WorkerService

    keepClean()
    try:
        given = {name: options[name] for name in OPTIONS}
        if options["no-web"]:
            given["web"] = False
        config = load(options["config"], given, runs=True)
    except ConfigError as e:
        raise SystemExit(str(e)) from None
    return WorkerService(config)
