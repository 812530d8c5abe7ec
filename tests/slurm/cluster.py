"""Slurm's daemons as children of the test process: two nodes with fake GPUs, preemption, no accounting."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
SYSTEM = f"{os.pathsep}/usr/sbin{os.pathsep}/sbin"
NODES = ("n1", "n2")

SLURM_CONF = """
ClusterName=throwaway
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={base}/munge.socket,cred_expire=5
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool-%n
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd-%n.pid
SlurmctldLogFile={base}/slurmctld.log
SlurmdLogFile={base}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
KillWait=5
MinJobAge=3600
SlurmdTimeout=300
MessageTimeout=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=DEFAULT CPUs=16 RealMemory=16000 Gres=gpu:2
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}]
PartitionName=low Nodes=n[1-2] Default=YES MaxTime=INFINITE DefMemPerCPU=100 PriorityTier=10 GraceTime=60
PartitionName=high Nodes=n[1-2] MaxTime=INFINITE DefMemPerCPU=100 PriorityTier=100 PreemptMode=OFF
"""


class Cluster:
    """The daemons, and what the tests do to them."""

    def __init__(self, base: Path, port: int) -> None:
        self.base, self.port = base, port
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        base, host = self.base, socket.gethostname().split(".")[0]
        for folder in ("state", "spool-n1", "spool-n2"):
            (base / folder).mkdir()
        for number in (0, 1):
            os.mknod(base / f"gpu{number}", 0o666 | 0o020000, os.makedev(1, 3))
        key = base / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        values = {
            "base": base,
            "host": host,
            "port": self.port,
            "first": self.port + 1,
            "last": self.port + 2,
        }
        (base / "slurm.conf").write_text(SLURM_CONF.format(**values))
        (base / "gres.conf").write_text(f"NodeName=n[1-2] Name=gpu File={base}/gpu[0-1]\n")
        os.environ["SLURM_CONF"] = str(base / "slurm.conf")
        files = [f"--{name}={base}/munged.{name[:3]}" for name in ("pid-file", "log-file", "seed-file")]
        self.daemon("munged", "munged", "-F", f"--key-file={key}", f"--socket={base}/munge.socket", *files)
        self.wait_for(lambda: self.call("munge", "-n", f"--socket={base}/munge.socket")[0] == 0)
        self.daemon("slurmctld", "slurmctld", "-D", "-i")
        for node in NODES:
            self.start_node(node)
        self.wait_for(lambda: set(self.call("sinfo", "-hN", "-o", "%T")[1].split()) == {"idle"})

    def daemon(self, name: str, *command: str) -> None:
        with open(self.base / f"{name}.console", "ab") as console:
            self.daemons[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
            )

    def start_node(self, node: str) -> None:
        self.daemon(f"slurmd-{node}", "slurmd", "-D", "-N", node)

    def call(self, *command: str) -> tuple[int, str]:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def wait_for(
        self, condition: Callable[[], object], timeout_s: float = 180, what: str = "the cluster"
    ) -> None:
        """Poll until `condition()`; generous, since the machine may be busy."""
        end = time.monotonic() + timeout_s
        while not condition():
            for name, process in self.daemons.items():
                if process.poll() is not None:
                    console = (self.base / f"{name}.console").read_text()[-1500:]
                    raise RuntimeError(f"{name} ended with {process.returncode}: {console}")
            if time.monotonic() > end:
                queue = (
                    self.call("squeue")[1] + self.call("sinfo")[1] + self.call("scontrol", "show", "node")[1]
                )
                log = (self.base / "slurmctld.log").read_text()[-3000:]
                raise TimeoutError(f"waited {timeout_s} s for {what}: {queue}\n{log}")
            time.sleep(0.1)

    def kill(self, name: str) -> None:
        process = self.daemons.pop(name)
        process.kill()
        process.wait()

    def restart_controller(self) -> None:
        """An update of the cluster's software: the controller ends, saves its state, and starts again."""
        process = self.daemons.pop("slurmctld")
        process.terminate()
        process.wait()
        self.daemon("slurmctld", "slurmctld", "-D")
        self.wait_for(lambda: self.call("squeue")[0] == 0, what="the controller")

    def crash(self, node: str) -> None:
        """As after a power cut: daemon, steps and processes of a node are gone at once, no signal handled."""
        self.kill(f"slurmd-{node}")
        marks = (f"SLURMD_NODENAME={node}\0".encode(), b"SLURM_CONF=" + bytes(self.base))
        for _ in range(2):  # the second time for processes that were just being started
            for folder in Path("/proc").glob("[0-9]*"):
                if self._belongs(folder, node, marks):
                    os.kill(int(folder.name), signal.SIGKILL)
        self.call("scontrol", "update", f"nodename={node}", "state=DOWN", "reason=crash")

    def _belongs(self, folder: Path, node: str, marks: tuple[bytes, bytes]) -> bool:
        try:
            environment = (folder / "environ").read_bytes() + b"\0"
            command = (folder / "cmdline").read_bytes()
        except OSError:
            return False
        if marks[1] not in environment:
            return False
        if b"slurmstepd" in command.split(b"\0")[0]:
            return self._steps_of(node, command)
        return marks[0] in environment

    def _steps_of(self, node: str, command: bytes) -> bool:
        """A step daemon is titled `slurmstepd: [12.0]`; it belongs to the node where that job runs."""
        job = command.partition(b"[")[2].partition(b".")[0].decode()
        return node in self.call("squeue", "-h", "-o", "%N", "-j", job)[1]

    def revive(self, node: str) -> None:
        self.start_node(node)
        self.wait_for(lambda: self._resumed(node), what=f"{node} to take jobs again")

    def _resumed(self, node: str) -> bool:
        """Whether a node takes jobs again.

        It may register late, so that one request is not enough. A request also marks the node as not heard of
        (`idle*`) until its next answer: a node that is no longer down is left to answer. It may be called
        `mixed` for minutes, by the job that was lost with it, and takes jobs all the same.
        """
        state = self.call("sinfo", "-hN", "-n", node, "-o", "%T")[1].split()[:1]
        if state and state[0].startswith("down"):
            self.call("scontrol", "update", f"nodename={node}", "state=RESUME")
        return state in (["idle"], ["mixed"])

    def jobs(self) -> dict[str, str]:
        """State of each job in the queue by id."""
        code, text = self.call("squeue", "-h", "-r", "-o", "%i %T")
        if code != 0:
            return {"?": text}  # no answer is not an empty queue
        return dict(line.split(" ", 1) for line in text.splitlines())

    def wait_until_empty(self, timeout_s: float = 180) -> None:
        self.wait_for(lambda: not self.jobs(), timeout_s, "an empty queue")

    def stop(self) -> None:
        if "slurmctld" in self.daemons:
            self.call("scancel", "--user=root")
            time.sleep(0.5)
        for process in reversed(self.daemons.values()):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_ports(count: int) -> int:
    """The first of `count` free ports in a row; each worker of pytest-xdist looks in a range of its own."""
    start = 16800 + 1000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for first in range(start, start + 1000, 10):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise OSError("no free ports")


def missing() -> str:
    """What keeps a cluster from being started here; empty where nothing does."""
    path = os.environ["PATH"] + SYSTEM
    absent = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if absent:
        return f"no {', '.join(absent)} on this machine (Debian: slurmctld slurmd slurm-client munge)"
    return "" if os.geteuid() == 0 else "Slurm's daemons need root"
