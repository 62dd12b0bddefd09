"""The real parts, made on first use (tools/real_parts) and started on ephemeral loopback ports.

Nothing here may be skipped: a part that cannot be had is a failure, or a machine without Go would look like a passing one.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.real.processes import free_port
from tools.real_parts import install


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is ``real_core`` unless it says ``real_full``."""
    for item in items:
        if "real" in item.path.parts and item.get_closest_marker("real_full") is None:
            item.add_marker(pytest.mark.real_core)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: a test against a real part may not be skipped: {call.excinfo and call.excinfo.value}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and "real" in collector.path.parts:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid}: tests against a real part may not be skipped"
    return report


@pytest.fixture(scope="session")
def collector_program() -> Path:
    """The OpenTelemetry Collector."""
    return install.collector()


@pytest.fixture(scope="session")
def jaeger_program() -> Path:
    """Jaeger 2."""
    return install.jaeger()


@pytest.fixture(scope="session")
def prometheus_program() -> Path:
    """The Prometheus server."""
    return install.prometheus()


@pytest.fixture(scope="session")
def framework_python() -> Callable[[str], Path]:
    """By name of an agent framework, the Python of the environment in which it is installed."""
    return install.framework


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """``host:port`` of an empty PostgreSQL with superuser ``postgres``, no password, no fsync."""
    programs = install.postgres()
    # PostgreSQL refuses to run as root, and the other user must be able to reach the programs and the folder.
    account = _unprivileged() if os.geteuid() == 0 else None
    home = Path(tempfile.mkdtemp(prefix="otel-ir-postgres-"))
    try:
        if account is not None:
            os.chown(home, account.pw_uid, account.pw_gid)
            if not programs.is_relative_to("/usr"):
                # site-packages/pgserver/pginstall/bin, which finds its libraries in site-packages/pgserver.libs
                for part in ("pgserver", "pgserver.libs"):
                    shutil.copytree(programs.parents[2] / part, home / part, symlinks=True)
                programs = home / "pgserver" / "pginstall" / "bin"

        uid, gid, groups = (account.pw_uid, account.pw_gid, ()) if account else (None, None, None)

        def run(program: str, *arguments: str | Path) -> None:
            # Output to a file: the server inherits it, so a pipe would stay open for as long as the server runs.
            with (home / f"{program}.log").open("a") as log:
                done = subprocess.run(
                    [programs / program, *arguments], cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False,
                    timeout=120, user=uid, group=gid, extra_groups=groups,
                )  # fmt: skip
            assert done.returncode == 0, (home / f"{program}.log").read_text()

        port = free_port()
        run("initdb", "-D", home / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -p {port}"
        run("pg_ctl", "-D", home / "data", "-w", "-o", options, "-l", home / "data" / "server.log", "start")
        try:
            yield f"127.0.0.1:{port}"
        finally:
            run("pg_ctl", "-D", home / "data", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home)


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError("neither a user postgres nor a user nobody on this machine")


@pytest.fixture
def postgres_url(postgres_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """SQLAlchemy URL of a database of this test's own."""
    import sqlalchemy

    name = f"test_{abs(hash(request.node.nodeid)) % 10**12}"
    admin = sqlalchemy.create_engine(f"postgresql+psycopg://postgres@{postgres_server}/postgres", isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    yield f"postgresql+psycopg://postgres@{postgres_server}/{name}"
    with admin.connect() as connection:
        connection.execute(sqlalchemy.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()
