"""Sessions about what stands around nodes: exports, the NBD server, character devices and objects."""

import copy

MIB = 1 << 20
ENDING = [{"rest": True}, {"execute": "query-block-exports"}, {"execute": "query-chardev"}]
STAGE = [
    {"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "n", "size": MIB}},
    {"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "ro", "size": MIB, "read-only": True}},
    {"execute": "blockdev-add", "arguments": {"driver": "qcow2", "node-name": "q", "file": {
        "driver": "file", "node-name": "qf", "filename": "a.qcow2"}}},
    {"execute": "block-dirty-bitmap-add", "arguments": {"node": "q", "name": "b"}},
]
NODES = ["n", "n", "q", "q", "ro", "qf", "nosuch", ""]
ODD_IDS = ["", "1", "a b", "x" * 200, "e.1", "nosuch"]
SERVERS = [{"type": "unix", "data": {"path": "nbd"}}] * 6 + [
    {"type": "unix", "data": {"path": "nosuch/x"}}, {"type": "unix", "data": {"path": "x" * 109}},
    {"type": "inet", "data": {"host": "127.0.0.1", "port": "x"}}, {"type": "inet", "data": {"host": "::1", "port": "0", "ipv6": False}},
    {"type": "inet", "data": {"host": "127.0.0.1"}}, {"type": "fd", "data": {"str": "99"}}, {"type": "unix", "path": "x"},
    {"type": "vsock", "data": {"cid": "x", "port": "1"}}]
PROPERTIES = ["type", "x-iops-total", "x-bps-read", "limits", "data", "format", "identity", "policy", "poll-max-ns",
              "nosuch", ""]
PATHS = ["/objects", "/objects/o1", "/objects/o2", "o1", "/chardevs/c1", "/", "nosuch", "", "/nosuch", "objects/o1/"]
LIMITS = ["iops-total", "iops-read", "iops-total-max", "iops-total-max-length", "bps-total", "bps-write", "bps-total-max",
          "iops-size"]


class ServiceSession:
    def __init__(self, words):
        self.words = words
        self.counts = {"e": 0, "c": 0, "o": 0}

    def draw(self):
        steps = copy.deepcopy(STAGE)
        kinds = {"e": [self.server, self.export, self.export, self.export, self.unexport],
                 "c": [self.device, self.device, self.change_device, self.ring, self.remove_device],
                 "o": [self.object, self.object, self.properties, self.properties, self.remove_object]}
        chosen = self.words.pick(["e", "e", "c", "o"])
        for _ in range(self.words.chooser.randrange(3, 10)):
            steps += self.words.pick(kinds[chosen])()
        return steps + copy.deepcopy(ENDING)

    def new(self, kind):
        if self.words.is_wrong(0.3):
            return self.words.pick([*ODD_IDS, f"{kind}1"])
        self.counts[kind] += 1
        return f"{kind}{self.counts[kind]}"

    def some_id(self, kind):
        return self.words.pick(ODD_IDS) if self.words.is_wrong(0.3) else f"{kind}{self.words.pick([1, 1, 2, 3])}"

    def server(self):
        if self.words.chance(0.25):
            return [self.words.request("nbd-server-stop"), {"rest": True}]
        return [self.words.request_with("nbd-server-start", {
            "addr": self.words.pick(SERVERS), **self.words.some({
                "max-connections": [0, 1, 100, -1], "tls-creds": ["nosuch", "s0"], "tls-authz": ["nosuch"]}, 1)})]

    def export(self):
        node, more = self.words.pick(NODES), self.words.some({
            "writable": [True, False], "name": ["x", "", "y" * 4097], "description": ["d", "y" * 4097]}, 2)
        if self.words.chance(0.25):
            return [self.words.request_with("nbd-server-add", {
                "device": node, **more, **self.words.some({"bitmap": ["b", "nosuch"]}, 1)})]
        kind = self.words.pick(["nbd", "nbd", "nbd", "vhost-user-blk", "fuse"])
        members = {"type": kind, "id": self.new("e"), "node-name": node, **more}
        if kind == "nbd":
            members.update(self.words.some({
                "bitmaps": [["b"], ["nosuch"], ["b", "b"], [{"node": "q", "name": "b"}], [{"node": "n", "name": "b"}], []],
                "allocation-depth": [True, False], "writethrough": [True, False]}, 1))
        else:
            members.pop("name", None)
            members.pop("description", None)
        if kind == "vhost-user-blk":
            members.update({"addr": self.words.pick([{"type": "unix", "path": "v"}, {"type": "unix", "path": "nosuch/v"}]),
                            **self.words.some({"num-queues": [1, 0, 2, 1025, 65536],
                                               "logical-block-size": [512, 4096]}, 1)})
        if kind == "fuse":  # that there is no such file is told before anything is mounted
            members["mountpoint"] = self.words.pick(["nosuch", "folder", ""])
        return [self.words.request_with("block-export-add", members)]

    def unexport(self):
        mode = self.words.some({"mode": ["safe", "hard"]}, 1)
        if self.words.chance(0.3):
            return [self.words.request_with("nbd-server-remove", {"name": self.words.pick(["x", "n", "q", "nosuch"]), **mode}),
                    {"rest": True}]
        return [self.words.request_with("block-export-del", {"id": self.some_id("e"), **mode}), {"rest": True},
                {"execute": "query-block-exports"}]

    def backend(self):
        kind = self.words.pick(["null", "ringbuf", "ringbuf", "memory", "file", "socket", "socket", "pipe"])
        data = self.words.some({"logfile": ["log", "nosuch/log"], "logappend": [True, False]}, 1)
        if kind in ("ringbuf", "memory"):
            data.update(self.words.some({"size": [16, 4096, 0, 3, 1000, -1]}, 1))
        if kind == "file":
            data.update({"out": self.words.pick(["out", "nosuch/out", "folder", ""]),
                         **self.words.some({"append": [True, False], "in": ["nosuch", "password"]}, 1)})
        if kind == "pipe":
            data["device"] = self.words.pick(["nosuch", "password"])
        if kind == "socket":
            data["addr"] = self.words.pick(SERVERS)
            server = self.words.chance(0.7)
            data["server"] = server
            if server:
                data["wait"] = False
            if not server and data["addr"] == SERVERS[0]:
                data["addr"] = {"type": "unix", "data": {"path": "nosuch"}}
            data.update(self.words.some({"tls-creds": ["nosuch", "s0"], "tls-authz": ["nosuch"], "nodelay": [True]}, 1))
        return {"type": kind, "data": data}

    def device(self):
        return [self.words.request_with("chardev-add", {"id": self.new("c"), "backend": self.backend()})]

    def change_device(self):
        return [self.words.request_with("chardev-change", {"id": self.some_id("c"), "backend": self.backend()}),
                {"execute": "query-chardev"}]

    def remove_device(self):
        command = self.words.pick(["chardev-remove", "chardev-remove", "chardev-send-break"])
        return [self.words.request_with(command, {"id": self.some_id("c")}), {"execute": "query-chardev"}]

    def ring(self):
        device, form = self.some_id("c"), self.words.some({"format": ["utf8", "base64"]}, 1)
        if self.words.chance(0.5):
            return [self.words.request_with("ringbuf-read", {"device": device, "size": self.words.pick([1, 4, 100, 0, -1]), **form})]
        return [self.words.request_with("ringbuf-write", {
            "device": device, "data": self.words.pick(["hello", "aGVsbG8=", "", "x" * 40, "!"]), **form})]

    def object(self):
        kind = self.words.pick(["throttle-group", "throttle-group", "secret", "iothread", "authz-simple", "authz-list"])
        table = {"throttle-group": {"limits": [self.limits, self.limits], f"x-{self.words.pick(LIMITS)}": [0, 1, 1000]},
                 "secret": {"data": ["x", "aGVsbG8=", ""], "file": ["password", "folder/x"], "format": ["raw", "base64"],
                            "keyid": ["s0", "nosuch"], "iv": ["x"]},
                 "iothread": {"poll-max-ns": [0, 1, 32768, -1], "poll-grow": [0, 2, -1], "aio-max-batch": [0, 1, -1]},
                 "authz-simple": {"identity": ["me", ""]},
                 "authz-list": {"policy": ["deny", "allow"], "rules": [[], [{"match": "a", "policy": "allow"}],
                                                                       [{"match": "a", "policy": "deny", "format": "glob"}]]}}
        return [self.words.request_with("object-add", {"qom-type": kind, "id": self.new("o"), **self.words.some(table[kind])})]

    def limits(self):
        return {name: self.words.pick([0, 1, 10, 1000, 1 << 40]) for name in self.words.chooser.sample(LIMITS, 2)}

    def properties(self):
        path, name = self.words.pick(PATHS), self.words.pick(PROPERTIES)
        return [self.words.pick([
            self.words.request("qom-get", path=path, property=name), self.words.request("qom-get", path=path, property=name),
            self.words.request("qom-set", path=path, property=name,
                               value=self.words.pick([1, "x", True, self.limits(), [], 0])),
            self.words.request("qom-list", path=self.words.pick(["/nosuch", "nosuch", "", "/objects/nosuch"]))])]

    def remove_object(self):
        return [self.words.request_with("object-del", {"id": self.some_id("o")})]


def draw(words):
    return ServiceSession(words).draw()
