"""A real Slurm of one node on loopback: munged, slurmctld and slurmd, started and stopped here."""

import fcntl
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from string import Template

TEMPLATE = Path(__file__).with_name("slurm.conf.in")
MARK = TEMPLATE.read_text().splitlines()[0]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
# The executor's job step drops SLURM_CONF before its srun, which then reads this path.
BUILT_IN = Path("/etc/slurm/slurm.conf")
ACTIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")


def obstacle() -> str | None:
    """Why no Slurm can be started on this machine, or None."""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        packages = "slurmctld slurmd slurm-client munge"
        return f"not installed: {', '.join(missing)} (apt-get install {packages})"
    if os.geteuid() != 0:
        return "slurmd must be started as root"
    if BUILT_IN.exists():
        if BUILT_IN.read_text().partition("\n")[0] != MARK:
            return f"this machine has a Slurm of its own: {BUILT_IN}"
        if _is_locked(BUILT_IN):
            return f"other tests are using {BUILT_IN.resolve()}"
    return None


@dataclass(frozen=True)
class Job:
    """A job as squeue shows it; `comment` names its rule and wildcards, or its group."""

    number: str
    state: str
    partition: str
    memory: str
    time: str
    comment: str


@dataclass(frozen=True)
class Slurm:
    """A running Slurm, asked and told things by its own commands."""

    configuration: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.configuration)}

    def tell(self, *command: str) -> str:
        """What a command of Slurm's prints."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def jobs(self, run: str | None = None) -> list[Job]:
        """All jobs, also ended ones, of a run of Snakemake or of all, oldest first."""
        named = [f"--name={run}"] if run else []
        shown = ["-o", "%i|%T|%P|%m|%l|%k"]
        lines = self.tell("squeue", "-h", "--states=all", "-S", "i", *named, *shown)
        return [Job(*line.split("|", 5)) for line in lines.splitlines()]

    def cancel(self, run: str | None = None) -> None:
        """Cancel the jobs of a run, or all, and wait until they are gone."""
        self.tell("scancel", f"--name={run}" if run else "--user=root")
        wait_for(lambda: not any(job.state in ACTIVE for job in self.jobs(run)), seconds=20)


@contextmanager
def running_slurm(directory: Path) -> Iterator[Slurm]:
    """Slurm with all its files in a new directory; nothing of it is left running."""
    with ExitStack() as stack:
        slurm = Slurm(_configured(directory))
        stack.enter_context(_locked(slurm.configuration))
        stack.enter_context(_linked(slurm.configuration))
        munge = ["munged", "--foreground", "--force"]
        munge += [f"--key-file={directory}/munge.key", f"--socket={directory}/munge.sock"]
        munge += [f"--pid-file={directory}/munge.pid", f"--seed-file={directory}/munge.seed"]
        stack.enter_context(_daemon(slurm, *munge))
        wait_for((directory / "munge.sock").exists)
        stack.enter_context(_daemon(slurm, "slurmctld", "-D", "-c"))
        stack.enter_context(_daemon(slurm, "slurmd", "-D", "-c", "-N", "localhost"))
        wait_for(lambda: _node_is_idle(slurm))
        # Jobs first: their steps outlive slurmd.
        stack.callback(slurm.cancel)
        yield slurm


def wait_for(happened: Callable[[], bool], *, seconds: float = 30) -> None:
    """Wait until something has happened; an error if it has not within the time."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


def _configured(directory: Path) -> Path:
    """Write the configuration, a key, and two pretended GPUs (their device files only exist)."""
    for name in ("state", "spool"):
        (directory / name).mkdir()
    key = directory / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    (directory / "gres.conf").write_text(
        "NodeName=localhost Name=gpu File=/dev/null\nNodeName=localhost Name=gpu File=/dev/zero\n"
    )
    (directory / "plugstack.conf").touch()
    controller_port, node_port = _free_ports(2)
    path = directory / "slurm.conf"
    path.write_text(
        Template(TEMPLATE.read_text()).substitute(
            directory=directory,
            controller_port=controller_port,
            node_port=node_port,
            addresses=_addresses(),
        )
    )
    return path


def _addresses() -> str:
    """Listen on loopback only, which Slurm can where the machine's own name leads there.

    Elsewhere the daemons would not find each other: munge's key then guards them.
    """
    with suppress(OSError):
        if socket.gethostbyname(socket.gethostname()) == "127.0.0.1":
            return "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny"
    return ""


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def _daemon(slurm: Slurm, *command: str) -> Iterator[None]:
    """A daemon in the foreground, stopped at the end, and by the kernel if the tests are killed."""
    log = slurm.configuration.with_name(f"{command[0]}.log")
    with open(log, "w") as file:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command],
            env=slurm.environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    except BaseException as error:
        error.add_note(f"{command[0]}: {log.read_text()[-1500:]}")
        raise
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _node_is_idle(slurm: Slurm) -> bool:
    asked = subprocess.run(
        ["sinfo", "-h", "-N", "-o", "%T"], env=slurm.environment, capture_output=True, text=True
    )
    return asked.stdout.split()[:1] == ["idle"]


@contextmanager
def _linked(configuration: Path) -> Iterator[None]:
    """The built-in path leads to this configuration, no longer to that of a run that was killed."""
    BUILT_IN.parent.mkdir(exist_ok=True)
    if BUILT_IN.is_symlink():
        BUILT_IN.unlink()
    BUILT_IN.symlink_to(configuration)
    try:
        yield
    finally:
        BUILT_IN.unlink()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Held for as long as the Slurm runs; the kernel lets go of it even if the tests are killed."""
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_locked(path: Path) -> bool:
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        return False
