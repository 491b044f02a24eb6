"""A client of a daemon's monitor, as benchmarks need it."""

import json
import socket
import time


class Monitor:
    """Waits until somebody listens on the socket; events are kept until they are waited for."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        for attempt in range(200):
            try:
                self.socket.connect(str(path))
                break
            except OSError:
                if attempt == 199:
                    raise
                time.sleep(0.025)
        self.lines = self.socket.makefile("rw")
        self.events = []
        self.lines.readline()
        self.ask("qmp_capabilities")

    def _next(self):
        line = self.lines.readline()
        if not line:
            raise RuntimeError("the daemon has closed its monitor")
        return json.loads(line)

    def ask(self, command, **arguments):
        """What the command returns; an error is one of the benchmark."""
        self.lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.lines.flush()
        while "event" in (reply := self._next()):
            self.events.append(reply)
        if "return" not in reply:
            raise RuntimeError(f"{command} {arguments}: {reply}")
        return reply["return"]

    def wait(self, *names):
        """The data of the next event of one of these names."""
        while True:
            while self.events:
                event = self.events.pop(0)
                if event["event"] in names:
                    return event["data"]
            self.events.append(self._next())

    def close(self):
        self.lines.close()
        self.socket.close()
