"""A lock file with an owner and a heartbeat, good on shared file systems and after crashes.

The owner touches the file every few seconds. A waiter takes the lock over when it has seen no touch for
`stale_s` seconds of its own clock (so clocks of different machines are never compared), or at once when the
owner was a process of this machine that is gone.
"""

import json
import os
import socket
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any


def machine_id() -> str:
    """Identifies this boot and process namespace: process numbers mean the same only within it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def process_lives(pid: int) -> bool:
    """True when a process of that number runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state not in ("Z", "X")  # a dead process that nobody has reaped


class Lock:
    """`with Lock(path): ...` holds the lock; entering waits until it is free or stale.

    `lost` is set when another process took the lock over (this one was silent for too long).
    """

    def __init__(self, path: Path, *, stale_s: float = 120.0, poll_s: float = 0.5) -> None:
        self.path, self.stale_s, self.poll_s = path, stale_s, poll_s
        self.token = uuid.uuid4().hex
        self.lost = threading.Event()
        self._released = threading.Event()
        self._announced = False

    def __enter__(self) -> "Lock":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        last, since = None, time.monotonic()
        while not self._create():
            state = self._state()
            if state is None:
                continue
            if state != last:
                last, since = state, time.monotonic()
            silent = time.monotonic() - since
            if (silent > self.stale_s or self._owner_is_gone()) and self._take_over(silent):
                break
            self._announce()
            time.sleep(self.poll_s)
        threading.Thread(target=self._beat, daemon=True, name=f"heartbeat {self.path.name}").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        if self._owner().get("token") == self.token:
            self.path.unlink(missing_ok=True)

    def _content(self) -> str:
        owner = {
            "token": self.token,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "machine": machine_id(),
            "job": os.environ.get("SLURM_JOB_ID"),
            "restart": int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        }
        return json.dumps(owner)

    def _create(self) -> bool:
        """Create the file with its content in one step (a link fails where the name exists)."""
        temporary = self.path.with_name(f".{self.path.name}.{self.token}")
        temporary.write_text(self._content())
        try:
            os.link(temporary, self.path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _owner(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.path.read_text()))
        except (OSError, ValueError):
            return {}

    def _state(self) -> tuple[str, int] | None:
        try:
            return str(self._owner().get("token")), self.path.stat().st_mtime_ns
        except OSError:
            return None

    def held(self) -> bool:
        """Whether somebody holds the lock: a living process of this machine, or one elsewhere with a recent
        heartbeat."""
        try:
            silent = time.time() - self.path.stat().st_mtime
        except OSError:
            return False
        return silent < 2 * self.stale_s and not self._owner_is_gone()

    def _owner_is_gone(self) -> bool:
        owner = self._owner()
        job, restart = os.environ.get("SLURM_JOB_ID"), int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        if job and owner.get("job") == job and restart > owner.get("restart", 0):
            return True  # an earlier attempt of this very job, whose node crashed
        same = owner.get("machine") and owner["machine"] == machine_id()
        return bool(same) and not process_lives(int(owner["pid"]))

    def _take_over(self, silent_s: float) -> bool:
        """Replace the stale owner. A marker bearing its token lets only one waiter through."""
        old = self._owner().get("token")
        marker = self.path.with_name(f"{self.path.name}.{old}.takeover")
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            if silent_s > 2 * self.stale_s:  # the waiter that left the marker died as well
                marker.unlink(missing_ok=True)
            return False
        temporary = self.path.with_name(f".{self.path.name}.{self.token}")
        temporary.write_text(self._content())
        won = self._owner().get("token") == old
        if won:
            os.replace(temporary, self.path)
        temporary.unlink(missing_ok=True)
        marker.unlink(missing_ok=True)
        return won

    def _announce(self) -> None:
        if not self._announced:
            owner = self._owner()
            who = f"process {owner.get('pid')} on {owner.get('host')}"
            print(f"waiting for {self.path.stem}: {who} works on it", file=sys.stderr)
            self._announced = True

    def _beat(self) -> None:
        while not self._released.wait(self.stale_s / 6):
            if self._owner().get("token") != self.token:
                self.lost.set()
                return
            try:
                os.utime(self.path)
            except OSError:
                continue
