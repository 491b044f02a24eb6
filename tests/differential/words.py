"""Draws the words of command lines: plausible ones most of the time, wrong ones now and then."""

from images import HUGE, IMAGES, OTHER_SECRET, SECRET

FORMATS = ["raw", "qcow2", "luks", "vmdk", "file", "null-co", "nosuch", "", "QCOW2", "qcow2 ",
           "raw,qcow2", "nbd", "blkdebug", "host_device", "copy-on-read"]
WRONG_SIZES = ["", "x", "1x", "1e3", "-1", "-512", "--", "0x", "0x10", "1.5M", "1.5", ".5k",
               "1k ", " 1k", "1kB", "1MiB", "1m", "1B", "1b", "+1k", "1,5k", "8E", "16E", "7E",
               "9223372036854775807", "9223372036854775808", "18446744073709551615",
               "18446744073709551616", "9223372036854774784", "99999999999999999999999", "1e1000",
               "inf", "nan", "1P", "1k1", "0.1", "0.0001k", "1.k", "١", "0b1", "0x1k", "0x1.8", "1.5k", "1.25M",
               "0.5M", "1E", "1T", "2.5K", "1.0", "-0", "00", "010", "0x7fffffffffffffff",
               "0xffffffffffffffff", "9223372035781033984", "9223372035781033985", "9223372036854775296",
               "1024b", "1 k", "1,k", "k", "1kk", "1e", "0e0", "1e-3", "infinity", "-1k", "-0x10", "+", "1:2"]
NAMES = ["one", "two", "three", "1", "2", "", "b0", "b1", "b9", "x" * 300, "a b", "0", "%s", "é"]
CACHES = ["none", "writeback", "unsafe", "directsync", "writethrough", "off", "bogus", "", "WriteBack"]
MALFORMED_LISTS = ["size=1M,,x", "backing_file=a,,b,backing_fmt=raw", "size=,", "=,=", "size=1M,=", "size=1M,help=1",
                   "size=1M,?", ",,", ",help", "help,", "backing_file=", "size=1M,bogus=1,worse=2", "size=x,cluster_size=y",
                   "cluster_size=3,refcount_bits=3", "compat=0.9,cluster_size=3", "preallocation=x,size=y",
                   "encrypt.bogus=1", "encrypt=1", "encrypt.=1", "size=1M,size=2M", "Size=1M", "cluster-size=4k", "", ",", "size", "=", "=1", "size=", ",size=1M", "size=1M,", "size=1M,,", "help,,x",
                   "help", "?", "size=1M,help", "bogus", "bogus=1", "size==1M", "size=1M=2"]

CREATE_OPTIONS = {
    "raw": [("size", None), ("preallocation", ["off", "falloc", "full", "metadata", "bogus", ""]),
            ("nocow", ["on", "off", "yes", "1", ""]),
            ("extent_size_hint", ["0", "x", "-1", "5G"])],
    "qcow2": [
        ("size", None), ("compat", ["0.10", "1.1", "v2", "v3", "0.9", "", "2"]),
        ("backing_file", ["base.qcow2", "t.raw", "nosuch", "", "new", "json:{}"]),
        ("backing_fmt", ["qcow2", "raw", "nosuch"]),
        ("cluster_size", ["512", "4k", "64k", "2M", "1", "1000", "4M", "0", "-1", "256", "x", ""]),
        ("preallocation", ["off", "metadata", "falloc", "full", "bogus", ""]),
        ("lazy_refcounts", ["on", "off", "true", "maybe", ""]),
        ("refcount_bits", ["1", "2", "16", "64", "0", "3", "128", "-1", "x", "", "16k"]),
        ("compression_type", ["zlib", "zstd", "lz4", ""]),
        ("extended_l2", ["on", "off", "no"]), ("data_file", ["new.bin", "zero.raw", "", "nosuch/x"]),
        ("data_file_raw", ["on", "off"]), ("encryption", ["on", "off"]),
        ("encrypt.format", ["aes", "bogus", "luks", ""]),
        ("encrypt.key-secret", ["s0", "s1", "nosuch", ""]),
        ("encrypt.cipher-alg", ["aes-256", "aes-128", "serpent-256", "bogus"]),
        ("encrypt.cipher-mode", ["xts", "cbc", "bogus"]),
        ("encrypt.ivgen-alg", ["plain64", "essiv", "bogus"]),
        ("encrypt.hash-alg", ["sha256", "sha1", "bogus"])],
    "luks": [("size", None), ("key-secret", ["s0", "s1", "nosuch", ""]),
             ("cipher-alg", ["aes-256", "aes-128", "aes-192", "bogus", ""]),
             ("cipher-mode", ["xts", "cbc", "ecb", "bogus"]),
             ("ivgen-alg", ["plain64", "plain", "essiv", "bogus"]),
             ("ivgen-hash-alg", ["sha256", "bogus"]), ("hash-alg", ["sha256", "sha512", "sha1", "bogus"]),
             ("preallocation", ["off", "falloc", "full", "metadata", "bogus"])],
    "vmdk": [("size", None), ("adapter_type", ["ide", "lsilogic", "buslogic", "legacyESX", "bogus"]),
             ("subformat", ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse",
                            "twoGbMaxExtentFlat", "streamOptimized", "bogus", ""]),
             ("backing_file", ["sparse.vmdk", "a.qcow2", "nosuch"]), ("backing_fmt", ["vmdk", "raw"]),
             ("compat6", ["on", "off"]), ("hwversion", ["4", "6", "x", "undefined", ""]),
             ("toolsversion", ["1", "2147483647", "x"]), ("zeroed_grain", ["on", "off"])],
}
AMEND_OPTIONS = {
    "qcow2": [("compat", ["0.10", "1.1", "v2", "v3", "0.9"]), ("lazy_refcounts", ["on", "off", "x"]),
              ("refcount_bits", ["1", "8", "16", "64", "3", "0"]), ("size", None),
              ("backing_file", ["base.qcow2", "t.raw", "", "nosuch"]), ("data_file", ["data.bin", "x"]),
              ("backing_fmt", ["qcow2", "raw"]), ("data_file_raw", ["on", "off"]),
              ("cluster_size", ["64k", "4k"]), ("preallocation", ["off"]), ("encryption", ["off"]),
              ("encrypt.state", ["active", "inactive", "x"]), ("encrypt.keyslot", ["0", "1", "9", "x"]),
              ("encrypt.new-secret", ["s1", "nosuch"]), ("encrypt.old-secret", ["s0"])],
    "luks": [("state", ["active", "inactive", "x", ""]), ("keyslot", ["0", "1", "7", "8", "-1", "x"]),
             ("new-secret", ["s1", "nosuch", ""]), ("old-secret", ["s0", "s1", "nosuch"]),
             ("size", ["1M"]), ("iter-time", ["10"])],
}
JSON_NAMES = [
    'json:{"driver":"raw","file":{"driver":"file","filename":"t.raw"}}',
    'json:{"driver":"qcow2","file":{"driver":"file","filename":"a.qcow2"}}',
    'json:{"driver":"qcow2","file.filename":"a.qcow2"}', 'json:{"file.filename":"a.qcow2"}',
    'json:{"driver":"raw","file.filename":"nosuch"}', "json:", "json:{}", "json:[]", "json:x", "json:{x",
    'json:{"driver":"raw"}', 'json:{"driver":"nosuch"}', 'json:{"driver":"null-co","size":65536}',
    'json:{"driver":"raw","offset":512,"file.filename":"t.raw"}',
    'json:{"driver":"raw","size":1000,"file.filename":"t.raw"}',
    'json:{"driver":"raw","bogus":1,"file.filename":"t.raw"}', 'json:"a"', "json:null",
    'json:{"driver":"blkdebug","image":{"driver":"file","filename":"t.raw"}}',
    'json:{"driver":"raw","file":"nosuch"}', 'json:{"driver":"raw","file":{"filename":"t.raw"}}',
    'json:{"driver":"qcow2","file.filename":"a.qcow2"} x', 'json:{"driver":"raw","driver":"qcow2"}',
    'json:{"driver":"throttle","throttle-group":"g","file.filename":"t.raw"}',
    'json:{"driver":"raw","file":{"driver":"file","filename":"t.raw"},"file.filename":"a.qcow2"}',
    'json:{"driver":"raw","file":{"driver":"file","filename":"t.raw","filename":"other.raw"}}',
    'json:{"driver":"raw","file":{"driver":"file","filename":"t.raw","bogus":1}}',
    'json:{"driver":"qcow2","file":{"driver":"file","filename":"top.qcow2"},"backing":null}',
    'json:{"driver":"qcow2","file":{"driver":"file","filename":"top.qcow2"},"backing":{"driver":"bogus"}}',
    'json:{"driver":"raw","size":"64k","file.filename":"t.raw"}', 'json:{"driver":"raw","size":-1,"file.filename":"t.raw"}',
    'json:{"driver":"raw","size":1.5,"file.filename":"t.raw"}', 'json:{"driver":1}', 'json:{"driver":null}', 'json:{"":1}',
    'json:{"driver":"raw","read-only":"on","file.filename":"t.raw"}', 'json:{"driver":"raw","read-only":true,"file.filename":"t.raw"}',
    'json:{"driver":"raw","file.driver":"nbd","file.path":"nosuch"}', 'json:{"driver":"raw","file.driver":"file"}',
    'json:{"driver":"raw","file":{}}', 'json:{"driver":"raw","file":[]}', 'json:{"driver":"raw","file":null}', 'json:{"driver":"raw","file":1}',
    "json:{'driver':'raw','file.filename':'t.raw'}", 'json: {"driver":"raw","file.filename":"t.raw"} ', 'json:{"driver":"raw",}',
    'json:{"driver":"quorum","vote-threshold":1,"children":[{"driver":"raw","file.filename":"t.raw"}]}',
    'json:{"driver":"compress","file":{"driver":"qcow2","file.filename":"a.qcow2"}}',
    'json:{"driver":"vmdk","file.filename":"sparse.vmdk"}', 'json:{"driver":"luks","key-secret":"s0","file.filename":"l.luks"}',
    'json:{"file":{"driver":"qcow2","file.filename":"a.qcow2"}}', 'json:{"driver":"raw","node-name":"x y","file.filename":"t.raw"}',
]
ODD_NAMES = [
    "nosuch", "nosuch/x", "folder", "", ".", "dangling", "file:t.raw", "file:nosuch", "file:",
    "nbd:localhost:1", "nbd://localhost:1/x", "nbd+unix:///x?socket=nosuch", "nbd:unix:nosuch", "nbd:",
    "nbd://", "nbd+unix:///x", "bogus:x", "a:b", "./a:b", "password", "null-co://",
    "null-aio://", "blkdebug::t.raw", "blkdebug:", "x" * 300, 
    "t.raw/x", "/nosuch/x", "raw:t.raw", "data.bin", ":", ":x", "-x",
]
IMAGE_OPTIONS = [
    "driver=raw,file.filename={}", "driver={f},file.filename={}", "driver={f},file.filename={}",
    "file.filename={}", "driver={f},file.driver=file,file.filename={}", "driver=file,filename={}",
    "filename={}", "driver=qcow2", "driver=nosuch,file.filename={}", "{}", "", ",", "driver={f}",
    "driver={f},file.filename={},bogus=1", "driver={f},file.filename={},read-only=on",
    "driver={f},file.filename={},read-only=maybe", "driver={f},driver=raw,file.filename={}",
    "driver={f},file.filename={},cache.direct=on", "driver={f},file.filename={},discard=unmap",
    "driver={f},file.filename={},discard=bogus", "driver={f},file.filename={},detect-zeroes=on",
    "driver={f},file.filename={},node-name=n0", 
    "driver=raw,offset=512,file.filename={}", "driver=raw,offset=1,size=512,file.filename={}",
    "driver=raw,size=x,file.filename={}", "driver=null-co,size=64k,read-zeroes=on", "driver=null-co,read-zeroes=on",
    "driver=qcow2,file.filename={},encrypt.key-secret=s0", "driver=luks,file.filename={},key-secret=s0",
    "driver=luks,file.filename={},key-secret=s1", "driver={f},file.filename={},backing=",
    "driver={f},file.filename={},backing.driver=null-co", "driver={f},file.filename={},backing.filename=x",
    "driver={f},file.filename={},l2-cache-size=1",
    "driver=qcow2,file.filename={},data-file.driver=file,data-file.filename=data.bin",
    "driver=qcow2,file.driver=raw,file.file.filename={}", "driver=nbd,host=localhost,port=1",
    "driver=nbd,path=nosuch", "driver=nbd", "driver=blkdebug,image.filename={}", "file={}", "help",
    "driver=copy-on-read,file.filename={}", "driver=compress,file.driver={f},file.file.filename={}",
    "driver={f},file.filename={},force-share=on", "driver={f},file.filename={},auto-read-only=on",
    "driver={f},file.locking=off,file.filename={}", "driver={f},file.aio=bogus,file.filename={}",
    "driver={f},file.filename={},", "driver={f},,file.filename={}", "driver", "=", "=x", "a.b.c=1",
    "driver={f},file.driver=raw,file.file.driver=file,file.file.filename={}", "driver={f},file.file.file.filename={}",
    "driver={f},file.driver={f},file.file.filename={}", "driver={f},file.0=x,file.filename={}", "driver={f},file..filename={}",
    "driver={f},file.filename={},file.filename=t.raw", "driver={f},file={},file.filename={}", "driver={f},file.filename=",
    "driver=qcow2,file.filename={},backing.driver=qcow2,backing.file.filename=base.qcow2",
    "driver=qcow2,file.filename={},backing.driver=raw,backing.file.driver=file,backing.file.filename=t.raw",
    "driver=qcow2,file.filename={},backing=x", "driver=qcow2,file.filename={},backing.file.filename=base.qcow2",
    "driver=raw,size=512,offset=512,file.filename={}", "driver=raw,size=0,file.filename={}", "driver=raw,offset=8E,file.filename={}",
    "driver=raw,size=1.5k,file.filename={}", "driver=raw,size=-1,file.filename={}", "driver=raw,size=,file.filename={}",
    "driver=quorum,vote-threshold=1,children.0.driver={f},children.0.file.filename={}", "driver=quorum,vote-threshold=2,children.0.driver=raw",
    "driver=quorum,vote-threshold=1,children.1.driver={f},children.1.file.filename={}", "driver=quorum", "driver=blkverify",
    "driver=qcow2,file.filename={},lazy-refcounts=on", "driver=qcow2,file.filename={},overlap-check=bogus", "driver=qcow2,file.filename={},cache-size=1",
    "driver=qcow2,file.filename={},l2-cache-entry-size=1", "driver=qcow2,file.filename={},refcount-cache-size=x",
    "driver=qcow2,file.filename={},cache-clean-interval=-1", "driver=qcow2,file.filename={},pass-discard-request=maybe",
    "driver=qcow2,file.filename={},encrypt.format=luks", "driver=qcow2,file.filename={},encrypt.format=aes,encrypt.key-secret=s0",
    "driver=qcow2,file.filename={},encrypt.bogus=x", "driver=vmdk,file.filename={}", "driver=luks,file.filename={},bogus=1,key-secret=s0",
    "driver=throttle,throttle-group=g,file.driver={f},file.file.filename={}", "driver={f},file.driver=blkdebug,file.image.filename={}",
    "driver={f},file.driver=blkdebug,file.image.driver=file,file.image.filename={},file.inject-error.0.event=read_aio",
    "driver={f},file.driver=blkdebug,file.image.filename={},file.inject-error.0.event=bogus", "driver=file,filename={},locking=maybe",
    "driver=host_device,filename={}", "driver=file,filename={},drop-cache=maybe",
    "driver=nbd,server.type=unix,server.path=nosuch", "driver=nbd,server.type=inet,server.host=localhost", "driver=nbd,server.type=bogus",
    "driver=nbd,server.type=unix,server.path=nosuch,export=x,bogus=1", "driver=nbd,path=nosuch,host=localhost", "driver=nbd,host=localhost,port=x",
    "driver=preallocate,file.driver=file,file.filename={}", "driver={f},node-name=,file.filename={}", "driver={f},node-name=0x,file.filename={}",
    "driver={f},file.filename={},cache.no-flush=on,cache.direct=off", "driver={f},file.filename={},cache.bogus=on", "driver={f},file.filename={},cache=none",
    "driver={f},file.filename={},read-only=on,read-only=off", "driver={f},file.filename={},copy-on-read=on", "driver={f},file.filename={},werror=stop",
    "driver={f},snapshot=on,file.filename={}", "driver={f},file.filename={},format=raw", "driver={f},file.filename={},file.read-only=on",
]
OBJECTS = [SECRET, SECRET, SECRET, OTHER_SECRET, "secret,id=s0,file=password", "secret,id=s0",
           "secret,id=s0,file=nosuch", "secret,data=x", "secret,id=0x,data=x", "nosuch,id=x", "", "secret",
           "secret,id=s0,data=aHVudGVyMg==,format=base64", "secret,id=s0,data=!,format=base64",
           "secret,id=s0,data=x,bogus=1", "secret,id=s0,data=x,format=bogus", "qom-type=secret,id=s0,data=x",
           '{"qom-type":"secret","id":"s0","data":"hunter2"}', "{", "{}", "id=s0", "help", "secret,help",
           "secret,id=s0,data=x,keyid=nosuch", "throttle-group,id=g", "secret,id=,data=x"]


class Words:
    def __init__(self, chooser, wrong):
        self.chooser = chooser
        self.wrong = wrong  # how often a word is wrong on purpose
        self.main = self.draw_image()  # the image that the line is about

    def chance(self, part):
        return self.chooser.random() < part

    def is_wrong(self, times=1.0):
        return self.chooser.random() < self.wrong * times

    def pick(self, values):
        return self.chooser.choice(values)

    def draw_image(self, without=()):
        names = [name for name in IMAGES if name not in without]
        return self.chooser.choice(names)

    def image(self):
        """The image of this line; another, or none, when wrong."""
        if self.main not in HUGE and not self.main.endswith("vmdk") and self.chance(0.02):
            return "nbd+unix:///" + self.pick(["n", "n", "n", "", "other"]) + "?socket=nbd.sock"
        if self.is_wrong():
            return self.chooser.choice([*ODD_NAMES, *JSON_NAMES, *IMAGES])
        return self.main

    def other_image(self):
        if self.is_wrong():
            return self.chooser.choice([*ODD_NAMES, *JSON_NAMES])
        return self.draw_image(HUGE)

    def new_name(self):
        """A name for a file to be made."""
        if self.is_wrong(0.5):
            # Nothing is made on servers yet.
            names = [name for name in ODD_NAMES if not name.startswith(("/dev", "nbd", "host"))]
            return self.chooser.choice([*names, *JSON_NAMES, *IMAGES])
        return self.chooser.choice(["new", "new", "new.qcow2", "new,x", "a.qcow2", "t.raw", "blank.qcow2"])

    def image_options(self, name=None):
        name = name or (self.main if not self.is_wrong(0.3) else "nosuch")
        pattern = (self.chooser.choice(IMAGE_OPTIONS) if self.is_wrong(2) else IMAGE_OPTIONS[1])
        return pattern.replace("{f}", self.format_of(name)).replace("{}", name.replace(",", ",,"))

    def format_of(self, name):
        return IMAGES.get(name, "raw")

    def format(self):
        return self.chooser.choice(FORMATS) if self.is_wrong() else self.format_of(self.main)

    def any_format(self):
        """Of a file to be made. (Nothing is made on servers and devices yet.)"""
        if self.is_wrong():
            return self.chooser.choice([f for f in FORMATS if f not in ("nbd", "host_device")])
        if self.chance(0.03):
            return "luks"  # the peer takes seconds for its key
        return self.chooser.choice(["raw", "qcow2", "qcow2", "qcow2", "vmdk"])

    def size(self):
        if self.is_wrong():
            return self.chooser.choice(WRONG_SIZES)
        value = self.chooser.choice([0, 1, 511, 512, 513, 1000, 4096, 65536, 1 << 20, (1 << 20) + 512,
                                     3 << 20, 1536 * 1024, 2 << 20])
        forms = [str(value), hex(value)]
        for letter, bits in (("k", 10), ("K", 10), ("M", 20)):
            if value and value % (1 << bits) == 0:
                forms += 3 * [f"{value >> bits}{letter}"]
        return self.chooser.choice(forms)

    def number(self):
        """Without a unit: the newest peer takes them."""
        if self.is_wrong():
            return self.chooser.choice(["", "x", "-1", "17", "256", "65536", "1x", "99999999999999999999"])
        return str(self.chooser.choice([1, 2, 3, 4, 8, 16]))

    def change_of_size(self):
        sign = self.chooser.choice(["", "", "+", "+", "-"])
        if self.is_wrong(0.3):
            sign = self.chooser.choice(["++", "+-", "+ ", "+"])
        size = self.size()
        # (What else begins with a minus sign is an option.)
        return sign + size if sign != "-" or size[:1].isdigit() else size

    def name(self):
        return self.chooser.choice(NAMES)

    def cache(self):
        return self.chooser.choice(CACHES if self.is_wrong(2) else CACHES[:5])

    def object(self):
        return self.chooser.choice(OBJECTS if self.is_wrong(2) else OBJECTS[:4])

    def output(self):
        return self.chooser.choice(["json", "human", "JSON", "", "xml"] if self.is_wrong() else
                                   ["json", "json", "human"])

    def option_list(self, table):
        """The value of -o: drawn from a table of names and values."""
        if self.is_wrong(0.5):
            return self.chooser.choice(MALFORMED_LISTS)
        parts = []
        for _ in range(self.chooser.choice([1, 1, 1, 2, 2, 3])):
            name, values = self.chooser.choice(table)
            if values is None:
                value = self.size()
            elif self.is_wrong():
                value = self.chooser.choice(values)
            else:
                value = self.chooser.choice(values[:2])
            # (In the installed peer "no" in front of a name means off.)
            bare = self.is_wrong(0.2) and not name.startswith(("no", "compression"))
            value = value if not self.is_wrong(0.1) else self.chooser.choice(["a,,b", ",,", "x,,", value + " "])
            parts.append(name if bare else f"{name}={value}")
        if self.is_wrong(0.3):
            parts.append(self.chooser.choice(["bogus=1", "bogus", "help", "Size=1M", "size"]))
        return ",".join(parts)

    def create_options(self, form):
        if self.is_wrong(0.3) or form not in CREATE_OPTIONS:
            form = self.chooser.choice(["qcow2", "raw", "vmdk"])
        chosen = self.option_list(CREATE_OPTIONS[form])
        # Deriving a key takes long otherwise.
        if form == "luks":
            chosen += ",iter-time=10" if self.chance(0.5) else ",key-secret=s0,iter-time=10"
        elif "encrypt" in chosen:
            chosen += ",encrypt.iter-time=10"
            chosen += ",encrypt.key-secret=s0" if self.chance(0.5) else ""
        return chosen

    def amend_options(self):
        form = self.format_of(self.main)
        if self.is_wrong(0.3) or form not in AMEND_OPTIONS:
            form = self.chooser.choice(sorted(AMEND_OPTIONS))
        chosen = self.option_list(AMEND_OPTIONS[form])
        if form == "luks" and "iter-time" not in chosen:
            chosen += ",iter-time=10"
        elif "encrypt" in chosen:
            chosen += ",encrypt.iter-time=10"
        return chosen
