"""Plays a session of a monitor against a daemon, and tells what two daemons have said that is not alike.

A session is a list of steps: requests; {"wait": [JOB, STATUS]}, which waits until an event has told that the
job has the status, unless every request with that job-id was refused; and {"rest": true}, which waits until jobs
and exports stay as they are. The masks are those of tests/golden."""

import contextlib
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import time

import newer_qmp

LONGEST = 20  # seconds that an answer may take: ends a hang, no more


def load_golden():
    path = str(pathlib.Path(__file__).resolve().parents[1] / "golden" / "run-qmp")
    loader = importlib.machinery.SourceFileLoader("run_qmp", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("run_qmp", loader))
    loader.exec_module(module)
    return module


golden = load_golden()
# Without a machine there is no clock of it: the peer takes the host's.
MASKS = golden.Masks({"mask_keys": ["vm-clock-sec", "vm-clock-nsec"]}, {})


class Daemon:
    """A storage daemon whose monitor is on its standard input and output."""

    def __init__(self, command, folder, environment, user=None):
        identity = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        self.process = subprocess.Popen(
            [*command, "--chardev", "stdio,id=m", "--monitor", "chardev=m"], cwd=folder, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            **identity)
        self.buffer, self.events, self.ended = b"", [], False
        self.next()
        self.ask({"execute": "qmp_capabilities"})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()
        self.process.communicate()

    def kill(self):
        """What the program has started keeps its pipes open, and goes with it."""
        os.killpg(self.process.pid, signal.SIGKILL)

    def next(self, longest=LONGEST):
        """The next message, or None at the end, and when it does not come."""
        deadline = time.monotonic() + longest
        while b"\n" not in self.buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            data = os.read(self.process.stdout.fileno(), 1 << 20) if ready else b""
            if not data:
                self.ended = self.ended or bool(ready)
                return None
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        # The peer announces new images on its standard output, in the middle of the monitor's.
        return json.loads(line) if line.startswith(b"{") else self.next(longest)

    def ask(self, request):
        """The answer; events on the way are kept."""
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            pass
        while (message := self.next()) is not None and "event" in message:
            self.events.append(message)
        return message if message is not None else {"silent": "ended" if self.ended else "hangs"}

    def wait(self, job, status, since):
        """Waits for an event that tells a job's status."""
        def tells(event):
            data = event.get("data", {})
            return event["event"] == "JOB_STATUS_CHANGE" and (data["id"], data["status"]) == (job, status)
        while not any(map(tells, self.events[since:])):
            message = self.next()
            if message is None:
                return {"silent": "ended" if self.ended else "hangs"}
            self.events.append(message)
        return {"waited": True}

    def rest(self):
        """Waits until no job and no export changes any more."""
        before, alike, deadline = None, 0, time.monotonic() + LONGEST
        while alike < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
            jobs, exports = self.ask({"execute": "query-jobs"}), self.ask({"execute": "query-block-exports"})
            if "silent" in exports:
                return exports
            now = [[job["id"], job["status"]] for job in jobs["return"]], exports
            busy = any(status in ("created", "waiting", "aborting") for _, status in now[0])
            alike = alike + 1 if now == before and not busy else 0
            before = now
        return {"rested": True}

    def end(self):
        """Asks it to end; how it did, and what it had to say besides. As in tests/golden, events count until then."""
        events = len(self.events)
        answer = self.ask({"execute": "quit"})
        while self.next() is not None:
            pass
        del self.events[events:]
        stdin, self.process.stdin = self.process.stdin, None  # communicate() need not close it
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
        try:
            code = self.process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            self.kill()
            code = "hangs"
        return {"quit": answer, "exit": code, "stderr": self.process.stderr.read().decode(errors="replace")}


def play(daemon, steps):
    """The answers to all steps, then the end and the events."""
    said, begun = [], {}  # begun: how many events there were when a job was asked for
    for step in steps:
        if "wait" in step:
            job, status = step["wait"]
            said.append(daemon.wait(job, status, begun[job]) if job in begun else {"skipped": True})
        elif "rest" in step:
            said.append(daemon.rest())
        else:
            before = len(daemon.events)
            said.append(daemon.ask(step))
            if "return" in said[-1] and isinstance(job := step.get("arguments", {}).get("job-id"), str):
                begun[job] = before
        if "silent" in said[-1]:
            break
    end = daemon.end()
    said += [{"silent": "before"}] * (len(steps) - len(said))
    return [*said, {**end, "events": by_subject(daemon.events)}]


def by_subject(events):
    """Events of different jobs and nodes have no order between them."""
    subjects = {}
    for event in events:
        data = event.get("data", {})
        subject = data.get("id") or data.get("device") or data.get("node-name") or event["event"]
        subjects.setdefault(str(subject), []).append(event)
    return {subject: steady(events) for subject, events in subjects.items()}


def steady(events):
    """Without pauses that end at once, as changes of the graph around a job may cause."""
    found = []
    for event in events:
        last = found[-1] if found else {"event": ""}
        if last["event"] == event["event"] == "JOB_STATUS_CHANGE" and (
                last["data"]["status"], event["data"]["status"]) in (("paused", "running"), ("standby", "ready")):
            found.pop()
        else:
            found.append(event)
    return found


def masked(said, folder):
    """Without what differs from run to run."""
    text = json.dumps(said).replace(str(folder), "$FOLDER")
    return [MASKS.json(named(answer)) for answer in json.loads(text)]


def named(answer):
    """Block graphs with names in place of numbers."""
    value = answer.get("return")
    if isinstance(value, dict) and {"nodes", "edges"} <= value.keys():
        return {"return": golden.plain_graph(value)}
    return answer


def kind_of(step, mine, other, text):
    """What findings of one cause have in common."""
    command = step.get("execute", "wait") if isinstance(step, dict) else "end"
    descriptions = [str(a["error"]["desc"] if "error" in a else sorted(a)) for a in (mine, other)]
    if "error" not in mine and "error" not in other:
        return f"{command}: {re.sub('[0-9]+', 'N', text)}"[:160]
    descriptions = [re.sub(r"'[^']*'|\b[0-9]+\b", "…", d) for d in descriptions]
    return f"{command}: ours '{descriptions[0]}' peer '{descriptions[1]}'"[:300]


def differences(steps, ours, theirs):
    """The first: (its kind, the number of the step, texts), or None. A peer that ends badly has gone wrong
    somewhere before."""
    if theirs[-1]["exit"] != 0 and ours[-1]["exit"] == 0:
        return None
    for number, (mine, other) in enumerate(zip(ours, theirs)):
        step = steps[number] if number < len(steps) else "end"
        mine, other = (newer_qmp.settled(step, answer) for answer in (mine, other))
        text = golden.differ(other, mine, False)
        if not text:
            continue
        if newer_qmp.excuse(step, mine, other):
            return None
        texts = [text.replace("recorded", "peer").replace("observed", "ours"),
                 f"ours: {golden.short(mine)}", f"peer: {golden.short(other)}"]
        return kind_of(step, mine, other, text), min(number, len(steps) - 1), texts
    return None
