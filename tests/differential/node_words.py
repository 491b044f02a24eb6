"""Draws descriptions of nodes and of new images: what blockdev-add, -reopen and -create are told."""

from images import HUGE, IMAGES

ODD_FILES = ["nosuch", "nosuch/x", "folder", ".", "", "dangling", "password", "/dev/null", "file:t.raw", "x" * 300,
             "t.raw/x", "json:{}", "nbd://localhost:1/x", "host_device:t.raw", "noise.img", "empty.raw"]
COMMON = {
    "read-only": [True, True, False], "auto-read-only": [True, True, False], "force-share": [True, False],
    "discard": ["unmap", "ignore"], "detect-zeroes": ["on", "off", "unmap"],
    "cache": [{"direct": False}, {"no-flush": True}, {"direct": False, "no-flush": True}, {"direct": True}],
}
FILE = {"locking": ["on", "off", "auto"], "aio": ["threads", "threads", "native", "io_uring"],
        "aio-max-batch": [0, 1, 16, -1], "drop-cache": [True, False]}
NULL = {"size": [65536, 1 << 20, 0, 1000, -1, 1 << 62], "latency-ns": [0, 1000], "read-zeroes": [True, False]}
RAW = {"offset": [0, 512, 65536, 1, 1000, 1 << 20, -1, 1 << 40], "size": [512, 65536, 1 << 20, 0, 1000, -512, 1 << 62]}
CHECKS = ["none", "constant", "cached", "all", {"template": "all", "main-header": False}, {"active-l1": True}, {},
          {"inactive-l2": True, "bitmap-directory": False, "template": "none"}]
QCOW2 = {
    "lazy-refcounts": [True, False], "pass-discard-request": [True, False], "pass-discard-snapshot": [True, False],
    "pass-discard-other": [True, False], "discard-no-unref": [True, False], "overlap-check": CHECKS,
    "cache-size": [0, 1 << 20, 1024, 1 << 62, -1], "l2-cache-size": [0, 1 << 16, 1, 1 << 62, -1, 1 << 20],
    "l2-cache-entry-size": [512, 4096, 65536, 1000, 256, 1 << 20], "refcount-cache-size": [0, 1 << 16, 1 << 62, -1],
    "cache-clean-interval": [0, 1, 600, 1 << 32, -1],
}
del QCOW2["discard-no-unref"]  # newer than the installed peer
SERVERS = [{"type": "unix", "path": "nosuch"}, {"type": "inet", "host": "127.0.0.1", "port": "1"},
           {"type": "inet", "host": "localhost", "port": "x"}, {"type": "fd", "str": "nosuch"},
           {"type": "unix", "path": "t.raw"}, {"type": "unix", "path": "x" * 120}, {"type": "unix", "path": ""},
           {"type": "inet", "host": "127.0.0.1", "port": "99999"}, {"type": "vsock", "cid": "x", "port": "1"}]
NBD = {"export": ["", "x", "y" * 5000], "tls-creds": ["nosuch", "s0"], "reconnect-delay": [0, 1], "open-timeout": [0],
       "x-dirty-bitmap": ["qemu:dirty-bitmap:b0"], "tls-hostname": ["x"]}
NAMES = ["n0", "n1", "n2", "n3"]
ODD_NAMES = ["", "nosuch", "#block1", "-x", "9x", "a b", "x" * 32, "x" * 31, "é", "t.raw", "n.0", "n_0-"]


class NodeWords:
    def __init__(self, words):
        self.words = words
        self.nodes = []  # names that are probably taken
        self.fresh = 0

    def new_name(self):
        if self.words.is_wrong(0.7):
            return self.words.pick([*ODD_NAMES, *self.nodes])
        self.fresh += 1
        self.nodes.append(f"n{self.fresh}")
        return self.nodes[-1]

    def node(self):
        if self.words.is_wrong(0.5) or not self.nodes:
            return self.words.pick(ODD_NAMES + NAMES)
        return self.words.pick(self.nodes)

    def image(self, form=None):
        if self.words.is_wrong():
            return self.words.pick([*ODD_FILES, *(name for name in IMAGES if name not in HUGE)])
        return self.words.pick([name for name, its in IMAGES.items() if form in (None, its) and name not in HUGE])

    def common(self, most=2):
        return self.words.some(COMMON, most)

    def protocol(self, filename=None):
        """A node that stands on no other."""
        driver = self.words.pick(["file", "file", "file", "file", "null-co", "null-aio", "host_device", "nbd"])
        if filename:
            driver = "file"
        if driver == "file":
            return {"driver": driver, "filename": filename or self.image(), **self.words.some(FILE, 1)}
        if driver == "host_device":
            return {"driver": driver, "filename": self.words.pick(["/dev/null", "t.raw", "nosuch", "folder", "/dev/zero"]),
                    **self.words.some(FILE, 1)}
        if driver == "nbd":
            return {"driver": driver, "server": self.words.pick(SERVERS), **self.words.some(NBD, 1)}
        return {"driver": driver, **self.words.some(NULL)}

    def child(self, form=None, depth=0):
        """A name, or a description."""
        if self.nodes and self.words.chance(0.3):
            return self.node()
        filename = self.image(form) if form else None
        below = self.protocol(filename) if depth > 2 or self.words.chance(0.8) else self.description(depth + 1)
        if self.words.chance(0.3):
            below["node-name"] = self.new_name()
        return {**below, **self.common(1)}

    def backing(self, depth):
        kind = self.words.pick(["none", "named", "inline", "inline", "empty"])
        if kind == "none":
            return None
        if kind == "empty":
            return ""
        return self.node() if kind == "named" else self.description(depth + 1)

    def description(self, depth=0, driver=None):
        driver = driver or self.words.pick(
            ["protocol", "protocol", "raw", "raw", "qcow2", "qcow2", "qcow2", "luks", "vmdk"])
        if driver == "protocol" or depth > 3:
            return {**self.protocol(), **self.common()}
        found = {"driver": driver, **self.common()}
        if driver == "raw":
            return {**found, **self.words.some(RAW, 2), "file": self.child(None, depth)}
        found["file"] = self.child(driver, depth)
        if driver == "luks":
            return {**found, "key-secret": self.words.pick(["s0", "s0", "s0", "s1", "nosuch"])}
        if driver == "qcow2":
            found.update(self.words.some(QCOW2, 2))
            if self.words.chance(0.1):
                found["encrypt"] = {"format": self.words.pick(["luks", "luks", "aes"]),
                                    "key-secret": self.words.pick(["s0", "s0", "s1", "nosuch"])}
            if self.words.chance(0.1):
                found["data-file"] = self.child("raw", depth)
        if self.words.chance(0.25):
            found["backing"] = self.backing(depth)
        return found

    # New images.

    def size(self):
        if self.words.is_wrong():
            return self.words.pick([-1, 1 << 63, 1 << 62, (1 << 63) - 512, "1M", 1000, 1, 0, 1 << 50])
        return self.words.pick([0, 512, 65536, 1 << 20, 1000, 3 << 20])

    def new_file(self):
        return {"driver": "file", "filename": self.words.pick(["new", "new", "new.img", "t.raw", "nosuch/x", "folder",
                                                               "readonly.raw", "", "a.qcow2"]),
                "size": self.size(),
                **self.words.some({"preallocation": ["off", "falloc", "full", "metadata"], "nocow": [True, False],
                                   "extent-size-hint": [0, 1 << 20, 1 << 33, 1000]}, 2)}

    def new_image(self):
        driver = self.words.pick(["file", "qcow2", "qcow2", "qcow2", "qcow2", "vmdk", "vmdk", "other"])
        if self.words.chance(0.02):
            driver = "luks"  # the peer takes seconds for its key
        if driver == "file":
            return self.new_file()
        if driver == "other":
            return {"driver": self.words.pick(["raw", "null-co", "nbd", "host_device", "throttle"]),
                    "file": self.child("raw"), "size": self.size()}
        found = {"driver": driver, "file": self.child("raw", 3), "size": self.size()}
        if driver == "luks":
            return {**found, "key-secret": self.words.pick(["s0", "s0", "s1", "nosuch"]), "iter-time": 10,
                    **self.words.some(self._luks_table(), 2)}
        if driver == "vmdk":
            return {**found, **self.words.some({
                "subformat": ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat",
                              "streamOptimized"], "adapter-type": ["ide", "lsilogic", "buslogic", "legacyESX"],
                "extents": [[], lambda: [self.child("raw", 3)], lambda: [self.node(), self.node()]],
                "backing-file": ["sparse.vmdk", "t.raw", "nosuch", "", "over.vmdk", "a.qcow2"],
                "hwversion": ["4", "6", "x", ""], "toolsversion": ["1", "x"], "zeroed-grain": [True, False]})}
        return {**found, **self.words.some({
            "version": ["v2", "v3", "v3"], "cluster-size": [512, 4096, 65536, 2 << 20, 1000, 256, 4 << 20, 0],
            "backing-file": ["base.qcow2", "t.raw", "nosuch", ""], "backing-fmt": ["qcow2", "raw", "vmdk", "file"],
            "preallocation": ["off", "metadata", "falloc", "full"], "lazy-refcounts": [True, False],
            "refcount-bits": [1, 8, 16, 64, 3, 0, 128, -1], "compression-type": ["zlib", "zstd"],
            "extended-l2": [True, True, False], "data-file-raw": [True, False],
            "data-file": [lambda: self.child("raw", 3)],
            **({"encrypt": [self._encryption]} if self.words.chance(0.05) else {})}, 4)}

    @staticmethod
    def _luks_table():
        return {"cipher-alg": ["aes-256", "aes-128", "serpent-256", "twofish-128", "des", "3des", "sm4"],
                "cipher-mode": ["xts", "cbc", "ecb", "ctr"], "ivgen-alg": ["plain64", "plain", "essiv"],
                "ivgen-hash-alg": ["sha256", "md5", "sha1"], "hash-alg": ["sha256", "sha512", "sha1", "md5"],
                "preallocation": ["off", "metadata", "falloc"]}

    def _encryption(self):
        table = self._luks_table()
        del table["preallocation"]
        if self.words.chance(0.3):
            return {"format": "qcow", "key-secret": self.words.pick(["s0", "nosuch"])}
        return {"format": "luks", "key-secret": self.words.pick(["s0", "s0", "nosuch"]), "iter-time": 10,
                **self.words.some(table, 1)}

    def amendment(self):
        driver = self.words.pick(["luks", "luks", "qcow2", "raw", "vmdk"])
        keys = {"state": self.words.pick(["active", "active", "inactive"]), **self.words.some({
            "new-secret": ["s1", "s0", "nosuch"], "old-secret": ["s0", "s1", "nosuch"], "keyslot": [0, 1, 7, 8, -1],
            "iter-time": [10], "secret": ["s0", "nosuch"]})}
        if keys["state"] == "active":
            keys["iter-time"] = 10
        if driver == "luks":
            return {"driver": driver, **keys}
        if driver == "qcow2" and self.words.chance(0.8):
            return {"driver": driver, "encrypt": {"format": self.words.pick(["luks", "luks", "qcow"]), **keys}}
        return {"driver": driver}
