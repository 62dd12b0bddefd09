"""Guards that speak the protocol over real sockets, with nothing but the standard library: also run as the process of an agent.

    python scripted.py PORT SERVICE INSTANCE AGENT,AGENT COUNTER FIFO

counts in the file COUNTER while it runs, and can be made to hang (in a state in which no signal stops it) by making FIFO.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode


class Line:
    """One connection to the server, as a guard uses it."""

    def __init__(self, port: int, token: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], Any]:
        """-> status, headers, JSON body."""
        given = self._headers | {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        if content is not None:
            given = {"content-type": "application/json"} | given
        self._connection.request(method, f"/guard/v1/{path}", content, given)
        reply = self._connection.getresponse()
        text = reply.read()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, json.loads(text) if text else None

    def register(self, service: str = "helpdesk", instance: str = "i-1", **changes: Any) -> tuple[int, dict[str, str], Any]:
        body = {"service": service, "instance": instance, "pid": os.getpid(), "self_test": {"outcome": "passed"}} | changes
        return self.ask("POST", "register", body)

    def state(self, service: str = "helpdesk", instance: str = "i-1", wait: float = 0, etag: str = "") -> tuple[int, dict[str, str], Any]:
        query = urlencode({"service": service, "instance": instance, "wait": wait})
        return self.ask("GET", f"state?{query}", **({"if_none_match": etag} if etag else {}))

    def report(self, service: str = "helpdesk", instance: str = "i-1", **said: Any) -> tuple[int, dict[str, str], Any]:
        return self.ask("POST", "report", {"service": service, "instance": instance} | said)

    def close(self) -> None:
        self._connection.close()


class ScriptedGuard:
    """A guard as a thread: it does what it is asked, or what a test makes of it.

    ``lies``: it says that it enforces what it does not. ``deaf``: it polls, and says nothing. ``hung``: it does not even poll.
    """

    def __init__(self, port: int, service: str = "helpdesk", instance: str = "i-1", *, token: str = "", **facts: Any) -> None:
        self.port, self.service, self.instance, self.token, self.facts = port, service, instance, token, facts
        self.lies = self.deaf = self.hung = False
        self.enforced: dict[str, Any] = {}
        self.states = self.probed = self.registered = 0
        self._free, self._end = threading.Event(), threading.Event()
        self._free.set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.is_set():
            line = Line(self.port, self.token)
            try:
                self._live(line)
            except (OSError, http.client.HTTPException):
                self._end.wait(0.02)
            finally:
                line.close()

    def _live(self, line: Line) -> None:
        etag, known = "", False
        while not self._end.is_set():
            self._free.wait()
            if not known:
                status, _, _ = line.register(self.service, self.instance, **self.facts)
                known, etag = status == 200, ""
                self.registered += known
                if not known:
                    self._end.wait(0.02)
                continue
            status, headers, body = line.state(self.service, self.instance, 25, etag)
            if self._end.is_set():
                return
            self._free.wait()
            if status == 404:
                known = False
            elif status == 200:
                etag = headers["etag"]
                self._enforce(line, etag, body)
            elif status != 304:
                self._end.wait(0.02)

    def _enforce(self, line: Line, etag: str, body: Any) -> None:
        asked = {restriction["id"]: restriction for restriction in body["restrictions"]}
        self.enforced = {} if self.lies or self.deaf else asked
        self.states += 1
        if self.deaf:
            return
        probes = [{"nonce": probe["nonce"], "id": probe["id"], "blocked": probe["id"] in self.enforced} for probe in body["probes"]]
        self.probed += len(probes)
        line.report(self.service, self.instance, etag=etag, applied=list(asked), probes=probes)

    def hang(self) -> None:
        self._free.clear()

    def resume(self) -> None:
        self._free.set()

    def close(self) -> None:
        self._end.set()
        self._free.set()


def main(port: str, service: str, instance: str, agents: str, counter: str, fifo: str) -> None:
    """An agent's process."""
    ScriptedGuard(int(port), service, instance, agents=agents.split(","))
    file = os.open(counter, os.O_RDWR | os.O_CREAT)
    count = 0
    while True:
        count += 1
        os.pwrite(file, count.to_bytes(8, "little"), 0)
        time.sleep(0.001)
        if Path(fifo).exists():
            # posix_spawn waits as vfork does until the child has opened its files: this one waits for a writer.
            os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, fifo, os.O_RDONLY, 0)])
            Path(fifo).unlink()


if __name__ == "__main__":
    main(*sys.argv[1:])
