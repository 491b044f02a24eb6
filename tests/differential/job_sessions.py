"""Sessions about jobs on nodes, dirty bitmaps and transactions: what starts, steers and ends them."""

import copy

MIB = 1 << 20
ERRORS = ["report", "ignore", "enospc", "stop"]
# A disk with errors would have a job that ignores them try for ever.
QUICK_ERRORS = ["report", "enospc", "stop"]
NODES = ["s", "t", "u", "small", "ro", "top", "mid", "base", "top-file", "bits", "busy", "busy-t", "filter", "other",
         "failing"]
BITMAPS = ["a", "b", "off", "coarse", "kept", "nosuch", ""]
ODD_IDS = ["", "1", "a b", "j/x", "held", "x" * 200]
ENDING = [{"rest": True}, {"execute": "query-jobs"}, {"execute": "query-block-jobs"},
          {"execute": "query-block-exports"}]


def null(name, size=MIB, **more):
    return add({"driver": "null-co", "node-name": name, "size": size, "read-zeroes": True, **more})


def add(description):
    return {"execute": "blockdev-add", "arguments": description}


def over_file(name, filename, backing=None):
    return add({"driver": "qcow2", "node-name": name, "backing": backing,
                "file": {"driver": "file", "node-name": f"{name}-file", "filename": filename}})


def bitmap(node, name, **more):
    return {"execute": "block-dirty-bitmap-add", "arguments": {"node": node, "name": name, **more}}


# Disks to copy and to copy to, a chain, bitmaps, and a job that goes on until it is ended.
STAGE = [
    null("s"), null("t"), null("u"), null("small", MIB // 2), null("ro", **{"read-only": True}), null("busy"),
    null("busy-t"), over_file("base", "base.qcow2"), over_file("mid", "mid.qcow2", "base"),
    over_file("top", "top.qcow2", "mid"), over_file("bits", "bits.qcow2"),
    add({"driver": "raw", "node-name": "other", "file": {"driver": "file", "filename": "other.raw"}}),
    add({"driver": "copy-on-read", "node-name": "filter", "file": "u"}),
    add({"driver": "blkdebug", "node-name": "failing", "image": {"driver": "null-co", "size": MIB},
         "inject-error": [{"event": "none", "errno": 5, "once": False}]}),
    bitmap("s", "a"), bitmap("top", "a"), bitmap("top", "off", disabled=True), bitmap("top", "kept", persistent=True),
    bitmap("s", "coarse", granularity=MIB),
    {"execute": "blockdev-backup", "arguments": {"job-id": "held", "device": "busy", "target": "busy-t",
                                                 "sync": "none"}},
]
SYNC = ["full"] * 6 + ["top", "top", "none", "incremental", "bitmap"]
COMMON = {"speed": [0, 0, 1 << 40, -1], "filter-node-name": ["f", "f", "s", "", "9x", "x" * 32],
          "auto-finalize": [True, False], "auto-dismiss": [True, False, False]}
MIRROR = {"on-source-error": QUICK_ERRORS, "on-target-error": QUICK_ERRORS, "granularity": [512, 65536, 0, 1, 1000, 1 << 27],
          "buf-size": [0, 65536, MIB, -1], "replaces": ["s", "top", "mid", "nosuch", "u"],
          "copy-mode": ["background", "write-blocking"]}
BACKUP = {"on-source-error": QUICK_ERRORS, "on-target-error": QUICK_ERRORS, "compress": [True, False],
          "bitmap": BITMAPS, "bitmap-mode": ["always", "on-success", "never"],
          "x-perf": [{}, {"max-workers": 1}, {"max-workers": 0}, {"max-chunk": 1}, {"max-chunk": -1},
                     {"max-chunk": MIB}]}
STREAM = {"on-error": QUICK_ERRORS, "base": ["base.qcow2", "mid.qcow2", "nosuch"], "base-node": ["base", "mid", "s", "nosuch"],
          "bottom": ["base", "mid", "s", "nosuch"], "backing-file": ["x", ""]}
COMMIT = {"on-error": QUICK_ERRORS, "base": ["base.qcow2", "mid.qcow2", "nosuch"], "base-node": ["base", "mid", "top", "nosuch"],
          "top": ["mid.qcow2", "top.qcow2", "nosuch"], "top-node": ["mid", "mid", "top", "base", "nosuch"],
          "backing-file": ["x", "base.qcow2"]}
VERBS = ["pause", "resume", "cancel", "complete", "finalize", "dismiss"]


class JobSession:
    def __init__(self, words):
        self.words = words
        self.jobs, self.count = ["held"], 0

    def draw(self):
        steps = copy.deepcopy(STAGE)
        for _ in range(self.words.chooser.randrange(2, 9)):
            steps += self.words.pick(5 * [self.start] + 5 * [self.steer] + 2 * [self.bitmap] + [
                self.transaction, self.query])()
        return steps + copy.deepcopy(ENDING)

    def node(self, usual):
        return self.words.pick(NODES) if self.words.is_wrong() else self.words.pick(usual)

    def new_job(self):
        if self.words.is_wrong(0.3):
            return self.words.pick([*ODD_IDS, *self.jobs])
        self.count += 1
        self.jobs.append(f"j{self.count}")
        return self.jobs[-1]

    def job(self):
        return self.words.pick(ODD_IDS if self.words.is_wrong(0.2) else self.jobs)

    def options(self, table, most=2):
        found = {}
        for name, value in self.words.some({**COMMON, **table}, most).items():
            # Most drawn values of the tables are wrong for most nodes.
            if name in ("auto-finalize", "auto-dismiss") or self.words.chance(0.4):
                found[name] = value
        return found

    def start(self):
        command, members = self.words.pick([self.mirror, self.backup, self.stream, self.commit])()
        job = self.new_job()
        request = self.words.request_with(command, {"job-id": job, **members})
        return [request, {"rest": True}, {"execute": "query-jobs"}]

    def mirror(self):
        return "blockdev-mirror", {"device": self.node(["s", "top", "other"]), "target": self.node(["t", "t", "u"]),
                                   "sync": self.words.pick(SYNC), **self.options(MIRROR)}

    def backup(self):
        return "blockdev-backup", {"device": self.node(["s", "top", "other"]), "target": self.node(["t", "t", "u"]),
                                   "sync": self.words.pick(SYNC), **self.options(BACKUP)}

    def stream(self):
        return "block-stream", {"device": self.node(["top", "top", "mid"]), **self.options(STREAM)}

    def commit(self):
        return "block-commit", {"device": self.node(["top"]), **self.options(COMMIT, 3)}

    def steer(self):
        verb = self.words.pick([*VERBS, *VERBS, "set-speed"])
        if verb == "set-speed" or self.words.chance(0.4):
            name = "id" if verb in ("finalize", "dismiss") else "device"
            more = {"speed": self.words.pick([0, 1 << 30, -1])} if verb == "set-speed" else {}
            if verb == "cancel":
                more = self.words.some({"force": [True, False]}, 1)
            request = self.words.request_with(f"block-job-{verb}", {name: self.job(), **more})
        else:
            request = self.words.request_with(f"job-{verb}", {"id": self.job()})
        return [request, {"rest": True}, {"execute": "query-jobs"}]

    def query(self):
        return [{"execute": self.words.pick(["query-jobs", "query-block-jobs", "query-block-exports"])}]

    def bitmap_request(self):
        """(the name of a command or action, its members)"""
        node, name = self.node(["top", "top", "s", "bits"]), self.words.pick(BITMAPS)
        kind = self.words.pick(["add", "add", "remove", "clear", "enable", "disable", "merge"])
        members = {"node": node, "name": name}
        if kind == "add":
            members.update(self.words.some({
                "persistent": [True, False], "disabled": [True, False],
                "granularity": [512, 4096, 65536, 1 << 31, 256, 1000, 1 << 32, 0]}))
        if kind == "merge":
            members = {"node": node, "target": name, "bitmaps": [
                self.words.pick([*BITMAPS, {"node": "s", "name": "a"}, {"node": "nosuch", "name": "a"},
                                 {"node": "small", "name": "a"}])
                for _ in range(self.words.pick([1, 1, 2]))]}
        return f"block-dirty-bitmap-{kind}", members

    def bitmap(self):
        command, members = self.bitmap_request()
        request = self.words.request_with(command, members)
        return [request, {"execute": "x-debug-block-dirty-bitmap-sha256",
                          "arguments": {"node": self.node(["top", "s"]), "name": self.words.pick(BITMAPS)}}]

    def action(self):
        kind = self.words.pick(["bitmap", "bitmap", "backup", "abort"])
        if kind == "abort":
            return {"type": "abort", "data": {}}
        if kind == "bitmap":
            name, members = self.bitmap_request()
            return {"type": name, "data": members}
        command, members = self.backup()
        return {"type": command, "data": {"job-id": self.new_job(), **members}}

    def transaction(self):
        actions = [self.action() for _ in range(self.words.chooser.randrange(1, 4))]
        members = {"actions": actions}
        if self.words.chance(0.3):
            members["properties"] = self.words.pick([{"completion-mode": "individual"}, {}])
        return [self.words.request_with("transaction", members), {"rest": True}, {"execute": "query-jobs"}]


def draw(words):
    return JobSession(words).draw()
