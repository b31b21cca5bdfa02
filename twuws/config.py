"""
The configuration: one checked value from a TOML file and the command line.

Every mistake is found before anything starts, and all of them are told at once.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import serverFromString

from twuws.authconfig import readAdmitted, readAuth
from twuws.declarations import program
from twuws.durationsconfig import readOwnPolicy, readPolicy
from twuws.embedded import EmbeddedPostgres
from twuws.errors import ConfigError, UWSError
from twuws.hostusers import HostUser
from twuws.interfaces import WorkLimits
from twuws.jobs import UWSJob
from twuws.limitsconfig import Limits, readLimits
from twuws.node import ON_STOP, NodeSettings, RunLimits
from twuws.options import OPTIONS
from twuws.policy import FetchPolicy, Policy
from twuws.proxies import Proxies
from twuws.tables import Kind, Table
from twuws.userconfig import checkDatabase, checkRoot, readDefault, readUser
from twuws.uwsreading import ReadableJobs
from twuws.visible import onTheWay, tellable, warnings
from twuws.web.access import Admitted
from twuws.web.limits import Waits
from twuws.web.settings import WebSettings

#: As browsers send it: in lower case, without the port that is usual.
_ORIGIN = re.compile(r"(?!http:.*:80$|https:.*:443$)https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:\d+)?")
_PUBLIC_URL = re.compile(r"https?://([\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d+)?(/[\w.~%+-]+)*/?", re.ASCII)


#: The largest body of a request unless the file says otherwise, bytes.
MAXIMUM_BODY = 4 * 2**30


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """
    One UWS.

    @ivar name: its name, in URLs and in the database.
    @ivar running: how many of its jobs run at a time, on all nodes; C{None} for any number.
    @ivar priority: of its jobs; C{None} for the job class's.
    @ivar admitted: who may use it; C{None} for everybody.
    @ivar user: as whom its work is done; C{None} for as the service is.
    @ivar policy: how long its jobs may run and live.
    """

    name: str
    jobClass: type[UWSJob]
    limits: WorkLimits
    environment: Mapping[str, str]
    running: int | None
    priority: int | None
    admitted: Admitted | None
    user: HostUser | None
    policy: Policy


@dataclass(frozen=True, kw_only=True)
class Config:
    """
    All that a process is told.

    @ivar metrics: the endpoint for metrics; C{None} for nowhere.
    @ivar database: a PostgreSQL URL; C{None} for an embedded one in the data directory.
    @ivar longestWait: the longest WAIT, s.
    @ivar cleanupInterval: how often expired jobs are removed, s.
    @ivar policy: how long jobs may run and live, of services that do not say otherwise.
    @ivar node: how this process behaves as one of several.
    @ivar web: how the services behave over HTTP.
    @ivar audit: the file of records of who has asked for what change; C{None} for none.
    @ivar fetch: what is loaded from the URIs that clients give.
    @ivar limits: what clients can have.
    @ivar warnings: for the log.
    """

    listen: str
    metrics: str | None
    database: str | None
    dataDir: Path
    slots: int
    node: NodeSettings
    policy: Policy
    longestWait: float
    cleanupInterval: float
    web: WebSettings
    audit: Path | None
    fetch: FetchPolicy
    limits: Limits
    services: tuple[ServiceConfig, ...]
    warnings: tuple[str, ...] = ()


def load(path: str | None, given: Mapping[str, Any] | None = None, *, runs: bool = False) -> Config:
    """
    Read a configuration file.

    @param path: the file; C{None} for the examples that come with twuws.
    @param given: what the command line says, by option; C{None} for what it does not say.
    @param runs: this process is to be the service, rather than to look at it.
    @raise ConfigError: with all mistakes.
    """
    name, content = _content(path)
    mistakes: list[str] = []
    table = Table(name, "", content, mistakes)
    line = {k: v for k, v in (given or {}).items() if v is not None}
    fromLine = Table("command line", "", line, mistakes, prefix="--")
    values = {}
    for key, (kind, default, _) in OPTIONS.items():
        values[key] = fromLine.take(key, kind, table.take(key, kind, default))
    values["web"] = fromLine.take("web", Kind.TRUTH, table.take("web", Kind.TRUTH, True))
    config = _checked(values, table, lambda key: fromLine if key in line else table)
    users = {one.user.name for one in config.services if one.user is not None}
    if runs:
        checkRoot(table, users)
    if config.database is None:
        checkDatabase(table, users, EmbeddedPostgres.usualUser)
    if mistakes:
        raise ConfigError(mistakes)
    told = warnings(config.database, "database" in line, path)
    return replace(config, warnings=(*told, *_onTheWay(config)) if runs else told)


def _onTheWay(config: Config) -> tuple[str, ...]:
    access, web = config.web.access, config.web
    ways = [one.cleartext for one in access.authenticators if hasattr(one, "cleartext")]
    return onTheWay(
        config.listen,
        hasProxies=bool(web.proxies),
        publicURL=web.publicURL,
        taken=[*ways, *([access.tokens.cleartext] if access.tokens is not None else [])],
    )


def _content(path: str | None) -> tuple[str, dict[str, Any]]:
    if path is None:
        examples = resources.files("twuws.examples").joinpath("examples.toml")
        return "examples.toml", tomllib.loads(examples.read_text("utf-8"))
    try:
        content = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as e:
        raise ConfigError([f"{path}: it cannot be read: {e.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: it is not text in UTF-8"]) from None
    except tomllib.TOMLDecodeError as e:
        raise ConfigError([f"{path}: it is not TOML: {e}"]) from None
    directory = str(Path(path).absolute().parent)  # job classes may lie beside it
    if directory not in sys.path:
        sys.path.insert(0, directory)
    return path, content


def passwordFile(path: str) -> Path:
    """
    The file of passwords that a configuration file names, whatever else is in it.

    @raise ConfigError: if it names none.
    """
    name, content = _content(path)
    mistakes: list[str] = []
    auth = Table(name, "", content, mistakes).table("auth")
    file = auth.table("passwords").take("file", Kind.TEXT, None)
    if file is None and not mistakes:
        mistakes.append(f"{name}: [auth.passwords] file: expected the path of a file, found none")
    if mistakes:
        raise ConfigError(mistakes)
    return Path(file)


def _checked(values: dict[str, Any], table: Table, source: Callable[[str], Table]) -> Config:
    database = values["database"]
    for key, port in (("listen", 8080), ("metrics", 9100)):
        _checkEndpoint(key, values[key], port, source(key))
    if database is not None and not database.startswith(("postgresql://", "postgres://")):
        like = "postgresql://user@host/name"
        source("database").wrong("database", f"expected a URL such as {like}, {tellable(database)}")
    policy, anonymous = readPolicy(values, table, source)
    services = _services(table, policy, anonymous)
    admitted = {one.name: one.admitted for one in services if one.admitted is not None}
    auth = table.table("auth")
    audit = auth.take("audit-log", Kind.TEXT, None)
    access = readAuth(auth, admitted)
    limits = readLimits(table.table("limits"))
    web = _web(values["public-url"], table, source("public-url"))
    config = Config(
        listen=values["listen"],
        metrics=values["metrics"],
        database=database,
        dataDir=Path(values["data-dir"]),
        slots=values["slots"],
        node=_node(values, table, source, services),
        policy=policy,
        longestWait=table.take("longest-wait", Kind.NUMBER, ReadableJobs.longestWait),
        cleanupInterval=table.take("cleanup-interval", Kind.POSITIVE_NUMBER, 60.0),
        web=replace(
            web,
            access=access,
            maximumForm=limits.request.textSize,
            limits=limits.request,
            waits=Waits(limits.waits),
            spared=limits.spared,
        ),
        audit=None if audit is None else Path(audit),
        fetch=_fetch(table.table("fetch")),
        limits=limits,
        services=services,
    )
    table.refuseRest()
    return config


def _checkEndpoint(key: str, value: str | None, port: int, source: Table) -> None:
    if value is None:
        return
    try:
        serverFromString(None, value)
    except Exception as e:
        like = f"tcp:{port}:interface=127.0.0.1"
        why = f" ({e.strerror}: {e.filename})" if isinstance(e, OSError) else ""
        why = f" ({e})" if isinstance(e, UWSError) else why
        source.wrong(key, f"expected a Twisted endpoint such as {like}, found {value!r}{why}")


def _node(
    values: dict[str, Any],
    table: Table,
    source: Callable[[str], Table],
    services: tuple[ServiceConfig, ...],
) -> NodeSettings:
    usual = NodeSettings()
    if values["on-stop"] not in ON_STOP:
        found = values["on-stop"]
        source("on-stop").wrong("on-stop", f"expected {', '.join(ON_STOP)}, found {found!r}")
    if not values["web"] and not values["slots"]:
        source("slots").wrong("slots", "expected 1 or more where no HTTP is answered, found 0")
    settings = NodeSettings(
        lease=table.take("lease", Kind.POSITIVE_NUMBER, usual.lease),
        workMayGoOn=table.take("work-may-go-on", Kind.COUNT, usual.workMayGoOn),
        onStop=values["on-stop"],
        stopTimeout=table.take("stop-timeout", Kind.COUNT, usual.stopTimeout),
        host=table.take("host", Kind.TEXT, None),
        servesWeb=values["web"],
        limits=RunLimits(
            inAll=table.take("running", Kind.POSITIVE, None),
            perOwner=table.take("running-per-owner", Kind.POSITIVE, None),
            perService={one.name: one.running for one in services},
        ),
    )
    longest = max((one.limits.grace for one in services), default=0)
    if settings.lease < 2 * longest + 1:
        table.wrong("lease", f"expected more than twice the longest grace ({longest:g} s),"
                    f" found {settings.lease:g}")  # fmt: skip
    return settings


def _web(publicURL: str | None, table: Table, source: Table) -> WebSettings:
    if publicURL is not None and not _PUBLIC_URL.fullmatch(publicURL):
        like = "https://example.org/uws"
        source.wrong("public-url", f"expected a URL such as {like}, found {publicURL!r}")
    http = table.table("http")
    origins = http.take("origins", Kind.TEXTS, ())
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            http.wrong("origins", f"expected such as https://example.org, or *, found {origin!r}")
    proxies = Proxies()
    try:
        proxies = Proxies(http.take("proxies", Kind.TEXTS, ()))
    except ValueError as e:
        http.wrong("proxies", f"expected addresses, networks, or unix, found: {e}")
    settings = WebSettings(
        publicURL=publicURL,
        maximumBody=table.take("maximum-body", Kind.SIZE, MAXIMUM_BODY),
        proxies=proxies,
        origins=frozenset(origins),
        parametersAtJob=http.take("parameters-at-job", Kind.TRUTH, True),
        tracebacks=http.take("tracebacks", Kind.TRUTH, False),
        syncTimeout=http.take("sync-timeout", Kind.POSITIVE_NUMBER, WebSettings().syncTimeout),
        syncListed=http.take("sync-listed", Kind.TRUTH, True),
        syncAborts=http.take("sync-aborts", Kind.TRUTH, False),
        longestShare=http.take("longest-share", Kind.COUNT, WebSettings().longestShare),
    )
    http.refuseRest()
    return settings


def _fetch(table: Table) -> FetchPolicy:
    usual = FetchPolicy()
    policy = FetchPolicy(
        enabled=table.take("enabled", Kind.TRUTH, usual.enabled),
        maximumSize=table.take("maximum-size", Kind.SIZE, usual.maximumSize),
        timeout=table.take("timeout", Kind.POSITIVE_NUMBER, usual.timeout),
        redirects=table.take("redirects", Kind.COUNT, usual.redirects),
        privateAddresses=table.take("private-addresses", Kind.TRUTH, usual.privateAddresses),
    )
    table.refuseRest()
    return policy


def _services(
    table: Table, policy: Policy, anonymous: Mapping[str, int]
) -> tuple[ServiceConfig, ...]:
    services, user = [], readDefault(table)
    tables = table.tables("services")
    if not tables:
        table.wrong("services", "expected at least one table [services.NAME]")
    for name, one in tables.items():
        if not name or not set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-"):
            one.wrong("", f"expected a name of a-z, 0-9, _ and -, found {name!r}")
        own = readOwnPolicy(one, policy, anonymous)
        service = _service(name, one, user, own)
        one.refuseRest()
        if service is not None:
            services.append(service)
    return tuple(services)


def _service(
    name: str, table: Table, defaultUser: str | None, policy: Policy
) -> ServiceConfig | None:
    limits = _limits(table.table("limits"))
    environment = {
        key: value for key, value in table.table("environment").texts().items() if value is not None
    }
    running = table.take("running", Kind.POSITIVE, None)
    priority = table.take("priority", Kind.PRIORITY, None)
    admitted = readAdmitted(table)
    classPath, command = table.take("class", Kind.TEXT, None), table.has("command")
    jobClass: type[UWSJob] | None = None
    if classPath is not None and command:
        table.wrong("command", "expected either class or command, found both")
        table.forget("command", "parameters", "results", "cost-depends-on")
    elif classPath is not None:
        jobClass = _imported(classPath, table)
    elif command:
        jobClass = program(name, table)
    else:
        table.wrong("class", 'expected class = "package.module.Class", or a command')
    user = readUser(table, defaultUser, jobClass)
    if jobClass is None:
        return None
    return ServiceConfig(
        name=name,
        jobClass=jobClass,
        limits=limits,
        environment=environment,
        running=running,
        priority=priority,
        admitted=admitted,
        user=user,
        policy=policy,
    )


def _limits(table: Table) -> WorkLimits:
    limits = WorkLimits(
        memory=table.take("memory", Kind.SIZE, None),
        cpu=table.take("cpu", Kind.POSITIVE, None),
        fileSize=table.take("file-size", Kind.SIZE, None),
        output=table.take("output", Kind.SIZE, WorkLimits().output),
        grace=table.take("grace", Kind.NUMBER, WorkLimits().grace),
    )
    table.refuseRest()
    return limits


def _imported(path: str, table: Table) -> type[UWSJob] | None:
    module, _, name = path.replace(":", ".").rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except Exception as e:
        table.wrong("class", f"expected a class to import, found {path!r}: {e}")
        return None
    if not (isinstance(found, type) and issubclass(found, UWSJob)):
        table.wrong("class", f"expected a subclass of twuws.UWSJob, found {path!r}")
        return None
    if not hasattr(found, "run"):
        table.wrong("class", f"expected a class that defines run(), found {path!r}")
        return None
    return found
