"""Builds or installs one real part each, from package registries, without root, into ``$OTEL_IR_CACHE`` (default: .cache/ of the project).

A part's folder is named after a digest of what determines it (manifest, locked modules, pinned requirements, version of the
compiler), so a change makes a new one and nothing is ever updated in place. A part that was found on the machine is not copied.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent
FRAMEWORKS = tuple(sorted(path.parent.name for path in (HERE / "frameworks").glob("*/requirements.txt")))

# PostgreSQL 16.2 as a wheel: for machines without PostgreSQL, and without root.
PGSERVER = "pgserver==0.1.4"
MINUTE = 60.0


class PartUnavailableError(RuntimeError):
    """A part can neither be found nor made; the message says what is missing and where the log is."""


def cache_folder() -> Path:
    """Where parts are kept: $OTEL_IR_CACHE, else .cache/ in the project."""
    return Path(os.environ.get("OTEL_IR_CACHE") or PROJECT / ".cache").absolute()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two runs at the same time make a part once; the lock dies with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def made(name: str, inputs: Sequence[Path | str], make: Callable[[Path], None]) -> Path:
    """The folder of a part, made by ``make(folder)`` when it is not there or was left half done."""
    digest = hashlib.sha256()
    for given in inputs:
        digest.update(given.read_bytes() if isinstance(given, Path) else given.encode())
        digest.update(b"\0")
    folder = cache_folder() / f"{name}-{digest.hexdigest()[:12]}"
    with _locked(cache_folder() / f"{name}.lock"):
        if not (folder / ".ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            started = time.monotonic()
            print(f"real parts: making {name} (once) in {folder}", file=sys.stderr, flush=True)
            make(folder)
            (folder / ".ready").touch()
            print(f"real parts: {name} made in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return folder


def run(
    command: Sequence[str | Path], *, folder: Path, log: Path, env: Mapping[str, str] | None = None, timeout: float = 10 * MINUTE
) -> None:
    """Runs a command with its output in a log; raises PartUnavailableError with the log's end when it fails."""
    with log.open("ab") as output:
        output.write(f"$ {' '.join(map(str, command))}\n".encode())
        output.flush()
        try:
            done = subprocess.run(
                command, cwd=folder, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                timeout=timeout, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PartUnavailableError(f"{command[0]}: {error} (log: {log})") from error
    if done.returncode != 0:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise PartUnavailableError(f"{command[0]} ended with {done.returncode} (log: {log})\n{end}")


# --- Go programs ---------------------------------------------------------------------------------------------------------------


def _go() -> str:
    """Path of the Go command; Collector 0.145 needs Go 1.24."""
    path = shutil.which("go")
    if path is None:
        raise PartUnavailableError("Go 1.24 or newer is needed to build this part: install it and put `go` on the PATH")
    return path


def _go_build(package: str, *, module: Path, output: Path, log: Path, timeout: float) -> None:
    """Builds with exactly the modules of the module's go.mod and go.sum: nothing is resolved, no checksum database is asked."""
    env = {"GOFLAGS": "-mod=readonly -buildvcs=false", "GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0"}
    run(
        [_go(), "build", "-trimpath", "-ldflags=-s -w", "-o", output, package],
        folder=module, log=log, env=env, timeout=timeout,
    )  # fmt: skip


def collector() -> Path:
    """The OpenTelemetry Collector: the Collector's own builder generates it from collector/manifest.yaml; returns the program."""
    source = HERE / "collector"
    locks = [source / "manifest.yaml", source / "go.mod", source / "go.sum", source / "builder" / "go.mod", source / "builder" / "go.sum"]

    def make(folder: Path) -> None:
        log = folder / "build.log"
        shutil.copytree(source / "builder", folder / "builder")
        _go_build(
            "go.opentelemetry.io/collector/cmd/builder", module=folder / "builder", output=folder / "ocb", log=log, timeout=10 * MINUTE
        )
        shutil.copy(source / "manifest.yaml", folder)
        # The builder would resolve the modules anew and write its own go.mod; so it only generates, and the locked files are put over it.
        run([folder / "ocb", "--config", "manifest.yaml", "--skip-compilation", "--skip-get-modules"], folder=folder, log=log)
        for lock in ("go.mod", "go.sum"):
            shutil.copy(source / lock, folder / "build")
        _go_build(".", module=folder / "build", output=folder / "otelcol", log=log, timeout=30 * MINUTE)

    return made("collector", locks, make) / "otelcol"


def jaeger() -> Path:
    """Jaeger 2 (module version 1.76.0), for `make test-real-full`: about eight minutes of CPU; returns the program."""
    source = HERE / "jaeger"

    def make(folder: Path) -> None:
        shutil.copytree(source, folder / "build")
        package, log = "github.com/jaegertracing/jaeger/cmd/jaeger", folder / "build.log"
        _go_build(package, module=folder / "build", output=folder / "jaeger", log=log, timeout=40 * MINUTE)

    return made("jaeger", [source / "go.mod", source / "go.sum"], make) / "jaeger"


# --- Debian packages -----------------------------------------------------------------------------------------------------------


def _unpack_debian(package: str, folder: Path) -> None:
    """Downloads one Debian package and unpacks it into ``folder``: no root, no service started, nothing of the machine changed."""
    log, state = folder / "apt.log", folder / "apt"
    for part in ("lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True)
    if shutil.which("apt-get") is None:
        raise PartUnavailableError(f"{package}: not on the PATH, and this machine has no apt-get: install it")
    # Package lists of our own: those of the machine may be empty or old, and only root may refresh them.
    apt = ["apt-get", "-o", f"Dir::State::Lists={state / 'lists'}", "-o", f"Dir::Cache={state / 'cache'}", "-o", "APT::Sandbox::User="]
    run([*apt, "update"], folder=folder, log=log)
    run([*apt, "download", package], folder=folder, log=log)
    shutil.rmtree(state)
    run(["dpkg-deb", "-x", next(folder.glob(f"{package}_*.deb")), folder / "root"], folder=folder, log=log)


def prometheus() -> Path:
    """The Prometheus server: the one on the PATH, else Debian's; returns the program."""
    if found := shutil.which("prometheus"):
        return Path(found)
    return made("prometheus", ["debian"], lambda folder: _unpack_debian("prometheus", folder)) / "root/usr/bin/prometheus"


# --- Python --------------------------------------------------------------------------------------------------------------------


def _environment(folder: Path, *requirements: str | Path) -> None:
    log = folder / "pip.log"
    run([sys.executable, "-m", "venv", folder / "venv"], folder=folder, log=log)
    run([folder / "venv/bin/python", "-m", "pip", "install", "--quiet", *requirements], folder=folder, log=log, timeout=20 * MINUTE)


def postgres() -> Path:
    """PostgreSQL's programs: the newest on this machine, else those inside the wheel ``pgserver``; returns the folder with initdb."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if installed:
        return installed[-1].parent
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    folder = made("postgres", [PGSERVER, sys.version], lambda folder: _environment(folder, PGSERVER))
    return next(folder.glob("venv/lib/python*/site-packages/pgserver/pginstall/bin"))


def framework(name: str) -> Path:
    """An environment with one agent framework and its instrumentation (frameworks/NAME/requirements.txt); returns its python."""
    requirements = HERE / "frameworks" / name / "requirements.txt"
    folder = made(f"framework-{name}", [requirements, sys.version], lambda folder: _environment(folder, "-r", requirements))
    return folder / "venv/bin/python"


PARTS: dict[str, Callable[[], Path]] = {
    "collector": collector,
    "prometheus": prometheus,
    "postgres": postgres,
    "jaeger": jaeger,
    **{name: (lambda name=name: framework(name)) for name in FRAMEWORKS},  # type: ignore[misc]
}
"""Name -> what makes it and returns where it is."""
GROUPS: dict[str, tuple[str, ...]] = {
    "core": ("collector", "prometheus", "postgres", "pydantic_ai", "openai_agents", "langgraph"),
    "all": tuple(PARTS),
}
"""What `make test-real-core` and `make test-real-full` need."""
