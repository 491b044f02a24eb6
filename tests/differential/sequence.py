"""Random images and random sequences of operations on them, and what they make of the content.

Everything comes from the random generator that is handed in, so that a sequence can be had again.
"""

import dataclasses

from content import Content, UNKNOWN

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SECTOR = 512
LARGEST_L1_ENTRIES = 8192  # more would cost time and show nothing


def draw_cluster_size(chooser):
    return chooser.choice([512, KIB, 4 * KIB, 4 * KIB, 16 * KIB, 32 * KIB, 64 * KIB, 64 * KIB,
                           64 * KIB, 256 * KIB, 2 * MIB])


@dataclasses.dataclass
class Shape:
    """How an image is created."""
    cluster: int
    size: int
    version: int
    options: list
    refcount_bits: int = 16
    backing_size: int = 0  # 0: none
    backing_format: str = "raw"
    preallocated: bool = False

    @property
    def has_backing(self):
        return self.backing_size != 0


def draw_size(chooser, cluster):
    clusters = chooser.choice([1, 3, chooser.randrange(1, 40), chooser.randrange(30, 100)])
    size = clusters * cluster + chooser.choice([0, 0, SECTOR, -SECTOR])
    kind = chooser.random()
    if kind < 0.1:  # more than an L2 table tells of
        size += cluster * cluster // 8
    elif kind < 0.2:
        size = min(chooser.choice([8 * GIB, 5000 * GIB]), LARGEST_L1_ENTRIES * cluster * cluster // 16)
    return max(SECTOR, size)


def draw_backing_size(chooser, size, cluster):
    other = chooser.choice([size, size // 2, size // 3, size + 3 * cluster, 2 * size])
    return max(SECTOR, min(other, size + 100 * cluster) // SECTOR * SECTOR)


def draw_shape(chooser):
    cluster = draw_cluster_size(chooser)
    shape = Shape(cluster, draw_size(chooser, cluster), chooser.choice([2, 3, 3, 3, 3]),
                  [f"cluster_size={cluster}"])
    if chooser.random() < 0.45:
        shape.backing_size = draw_backing_size(chooser, shape.size, cluster)
        shape.backing_format = chooser.choice(["raw", "qcow2"])
    elif shape.size <= 8 * MIB and chooser.random() < 0.3:
        shape.options.append(f"preallocation={chooser.choice(['metadata', 'falloc', 'full'])}")
        shape.preallocated = True
    if shape.version == 2:
        shape.options.append("compat=0.10")
        return shape
    shape.refcount_bits = chooser.choice([1, 2, 4, 8, 16, 16, 16, 32, 64])
    shape.options.append(f"refcount_bits={shape.refcount_bits}")
    if cluster >= 16 * KIB and chooser.random() < 0.4:
        shape.options.append("extended_l2=on")
    if chooser.random() < 0.3:
        shape.options.append("compression_type=zstd")
    if chooser.random() < 0.2:
        shape.options.append("lazy_refcounts=on")
    return shape


def draw_backing_content(chooser, shape):
    """What the backing file holds: a few runs of data near where the image will be used."""
    below = Content(shape.backing_size)
    for _ in range(chooser.randrange(6)):
        start = chooser.randrange(min(shape.backing_size, 64 * shape.cluster)) // SECTOR * SECTOR
        end = min(shape.backing_size, start + chooser.choice([SECTOR, 4 * KIB, 3 * shape.cluster]))
        below.put(start, end, chooser.randrange(1, 256))
    return below


def verification(file, content, longest=4 * MIB):
    """Commands that read everything and say something only when it is not as it should be."""
    return [f"open -r -o driver=qcow2 {file}",
            *(f"read -q -P {value} {start} {length}"
              for start, length, value in content.known(longest)), "close"]


class Sequence:
    """An image on its way: what it holds, and the commands that have brought it there."""

    def __init__(self, chooser, shape, content, file):
        self.chooser = chooser
        self.file = file
        self.careful = False    # keeps away from known faults of the peer
        self.shape = shape
        self.content = content.copy()
        self.snapshots = {}     # name to content
        self.had_snapshots = False
        self.touched = set()    # clusters that can not be written compressed any more
        self.next_snapshot = 0
        self.unmap = False
        first = shape.cluster * chooser.randrange(max(1, shape.size // shape.cluster))
        self.hot = [0, first, max(0, shape.size - 20 * shape.cluster)]

    # Options of the next open.
    def open_words(self):
        chooser, cluster = self.chooser, self.shape.cluster
        self.unmap = chooser.random() < 0.8
        options = "driver=qcow2"
        if chooser.random() < 0.3:
            options += f",l2-cache-size={chooser.choice([2, 4, 16]) * cluster}"
        if chooser.random() < 0.2:
            options += f",refcount-cache-size={4 * cluster}"
        if self.shape.version == 3 and chooser.random() < 0.2:
            options += f",lazy-refcounts={chooser.choice(['on', 'off'])}"
        return f"open -o {options} -d {'unmap' if self.unmap else 'ignore'} {self.file}"

    def draw_range(self):
        chooser, size, cluster = self.chooser, self.content.size, self.shape.cluster
        unit = chooser.choice([1, SECTOR, SECTOR, 4 * KIB, cluster, cluster])
        hot = chooser.choice([0, *self.hot])
        start = hot + chooser.randrange(40) * chooser.choice([unit, cluster, max(1, cluster // 32)])
        start = min(start, size - 1) // unit * unit
        length = chooser.choice([1, 1, 2, 3, 9]) * chooser.choice([unit, unit, cluster])
        return start, max(1, min(length, size - start, 4 * MIB))

    def touch(self, start, end):
        self.touched.update(range(start // self.shape.cluster, -(-end // self.shape.cluster)))

    def write(self, command="write -q", flags=""):
        start, length = self.draw_range()
        value = self.chooser.randrange(1, 256)
        self.content.put(start, start + length, value)
        self.touch(start, start + length)
        return [f"{command}{flags} -P {value} {start} {length}"]

    def write_at_once(self):
        """Several writes in flight, none of which touches another."""
        words, taken = [], []
        for _ in range(self.chooser.randrange(2, 6)):
            start, length = self.draw_range()
            if all(start >= e or start + length <= s for s, e in taken):
                taken.append((start, start + length))
                value = self.chooser.randrange(1, 256)
                self.content.put(start, start + length, value)
                self.touch(start, start + length)
                words.append(f"aio_write -q -P {value} {start} {length}")
        return [*words, "aio_flush"]

    def write_zeroes(self):
        start, length = self.draw_range()
        self.content.put(start, start + length, 0)
        self.touch(start, start + length)
        return [f"write -q -z {self.chooser.choice(['', '-u ', '-f '])}{start} {length}"]

    def write_compressed(self):
        cluster, size = self.shape.cluster, self.content.size
        first = self.draw_range()[0] // cluster
        count = self.chooser.choice([1, 1, 2, 4])
        clusters = range(first, min(first + count, -(-size // cluster)))
        if self.shape.preallocated or any(c in self.touched for c in clusters):
            return self.write()
        start, end = clusters[0] * cluster, min(size, (clusters[-1] + 1) * cluster)
        value = self.chooser.randrange(1, 256)
        self.content.put(start, end, value)
        self.touch(start, end)
        words = [f"write -q -c -P {value} {start} {end - start}"]
        # The peer goes on packing compressed clusters into a host cluster that it has freed and
        # used for something else meanwhile.
        return [*words, "close", self.open_words()] if self.careful else words

    def discard(self):
        """Whole clusters are dropped and read as zeroes, others keep their data. In version 2 there
        is no telling what is seen of a backing file; nor at the end of a disk of odd length."""
        start, length = self.draw_range()
        cluster, end = self.shape.cluster, start + length
        self.touch(start, end)
        if self.unmap:
            first, last = -(-start // cluster) * cluster, end // cluster * cluster
            if first < last:
                loose = self.shape.version == 2 and self.shape.has_backing
                self.content.put(first, last, UNKNOWN if loose else 0)
            if end == self.content.size and end % cluster and end > max(first, last) >= first:
                self.content.put(max(first, last), end, UNKNOWN)
        return [f"discard -q {start} {length}"]

    def read(self):
        known = [run for run in self.content.known(MIB) if run[1] > 0]
        if not known:
            return []
        start, length, value = self.chooser.choice(known)
        return [f"read -q -P {value} {start} {length}"]

    def resize(self):
        cluster, size = self.shape.cluster, self.content.size
        if self.had_snapshots:
            return ["flush"]
        if self.careful and self.shape.version == 2 and self.shape.has_backing:
            return ["flush"]  # the peer can not hide the backing file there
        if self.careful and "extended_l2=on" in self.shape.options and size % cluster:
            return ["flush"]  # nor the rest of a compressed cluster at the end
        grown = size + self.chooser.choice([SECTOR, cluster, 10 * cluster + SECTOR])
        shrunk = self.chooser.choice([size // 2, size - cluster, size - SECTOR])
        wanted = grown if self.chooser.random() < 0.6 or shrunk < SECTOR else shrunk
        wanted = wanted // SECTOR * SECTOR
        self.touch(min(size, wanted), max(size, wanted))
        self.content.resize(wanted)
        cluster_end = -(-size // cluster) * cluster
        if self.careful and wanted > size and cluster_end > size:
            # The peer may show what the cluster held behind the end before.
            self.content.put(size, min(wanted, cluster_end), UNKNOWN)
        return [f"truncate {wanted}"]

    def commands(self, count, careful):
        """Opening, `count` operations and closing as commands of qemu-io; the content is then what
        they leave."""
        self.careful = careful
        kinds = [self.write, self.write, self.write, self.write_at_once, self.write_zeroes,
                 self.write_zeroes, self.write_compressed, self.write_compressed, self.discard,
                 self.discard, self.read, self.resize, lambda: self.write(flags=" -f"),
                 lambda: ["flush"]]
        words = [self.open_words()]
        for _ in range(count):
            words += self.chooser.choice(kinds)()
        return [*words, "close"]

    def snapshot_words(self):
        """Arguments of the snapshot command for the next thing to do with snapshots, whether it may
        fail, and what to call when it has succeeded. Narrow counts may have no room for it."""
        names = sorted(self.snapshots)
        action = self.chooser.choice(["create", "create", "apply", "delete"]) if names else "create"
        if action == "create":
            name = f"s{self.next_snapshot}"
            self.next_snapshot += 1
            return ["-c", name], self.shape.refcount_bits < 16, lambda: self.created(name)
        name = self.chooser.choice(names)
        if action == "apply":
            return ["-a", name], self.shape.refcount_bits < 16, lambda: self.applied(name)
        return ["-d", name], False, lambda: self.snapshots.pop(name)

    def created(self, name):
        self.had_snapshots = True
        self.snapshots[name] = self.content.copy()

    def applied(self, name):
        self.content = self.snapshots[name].copy()
