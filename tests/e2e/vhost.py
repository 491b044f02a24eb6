"""A virtio-blk driver that talks vhost-user: a guest and its virtual machine in one, on memory shared
with the daemon. Written apart from the daemon's own code, by the same specifications, so that the
two check each other. Split rings, one request at a time or many, several queues."""

import array
import contextlib
import mmap
import os
import select
import socket
import struct
import time

TIMEOUT = 20

GET_FEATURES, SET_FEATURES, SET_OWNER, RESET_OWNER, SET_MEM_TABLE, SET_LOG_BASE = 1, 2, 3, 4, 5, 6
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE = 8, 9, 10, 11
SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR = 12, 13, 14
GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, GET_QUEUE_NUM, SET_VRING_ENABLE = 15, 16, 17, 18
SET_BACKEND_REQ_FD, GET_CONFIG, SET_CONFIG, GET_INFLIGHT_FD, SET_INFLIGHT_FD = 21, 24, 25, 31, 32
RESET_DEVICE, GET_MAX_MEM_SLOTS, ADD_MEM_REG, REM_MEM_REG, SET_STATUS, GET_STATUS = \
    34, 36, 37, 38, 39, 40
NEED_REPLY = 8

F_RO, F_BLK_SIZE, F_FLUSH, F_CONFIG_WCE, F_MQ, F_DISCARD, F_WRITE_ZEROES = 5, 6, 9, 11, 12, 13, 14
F_LOG_ALL, F_INDIRECT, F_EVENT_IDX, F_PROTOCOL, F_VERSION_1, F_PACKED = 26, 28, 29, 30, 32, 34
P_MQ, P_LOG, P_REPLY_ACK, P_BACKEND_REQ, P_CONFIG, P_INFLIGHT, P_MEM_SLOTS = 0, 1, 3, 5, 9, 12, 15

T_IN, T_OUT, T_FLUSH, T_GET_ID, T_DISCARD, T_WRITE_ZEROES = 0, 1, 4, 8, 11, 13
OK, IOERR, UNSUPP = 0, 1, 2

NEXT, WRITE, INDIRECT = 1, 2, 4

GUEST_BASE = 0x40000000  # where the guest sees its memory, and the front-end
USER_BASE = 0x7F0000000000


def bits(*numbers):
    return sum(1 << number for number in numbers)


class Gone(Exception):
    """The daemon has closed the connection."""


class Connection:
    """The messages of the protocol."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(str(path))

    def send(self, kind, payload=b"", fds=(), flags=0):
        extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self.socket.sendmsg([struct.pack("<III", kind, 1 | flags, len(payload)) + payload], extra)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Gone from error

    def receive(self):
        """(kind, payload, descriptors)"""
        fds = array.array("i")
        data = b""
        size = 12
        while len(data) < size:
            try:
                piece, extra, _, _ = self.socket.recvmsg(size - len(data), 64)
            except ConnectionResetError as error:
                raise Gone from error
            if not piece:
                raise Gone
            for _, _, some in extra:
                fds.frombytes(some)
            data += piece
            if len(data) >= 12:
                size = 12 + struct.unpack_from("<I", data, 8)[0]
        kind, flags, _ = struct.unpack_from("<III", data)
        assert flags == 5, flags
        return kind, data[12:], list(fds)

    def ask(self, kind, payload=b""):
        self.send(kind, payload)
        answer, body, fds = self.receive()
        assert answer == kind
        return (body, fds) if fds else body

    def number(self, kind):
        return struct.unpack("<Q", self.ask(kind))[0]

    def acknowledged(self, kind, payload=b"", fds=()):
        """Sends what must be acknowledged; whether it was with success."""
        self.send(kind, payload, fds, NEED_REPLY)
        answer, body, _ = self.receive()
        assert answer == kind
        return struct.unpack("<Q", body)[0] == 0

    def is_gone(self):
        """The daemon closes the connection, after whatever it still says."""
        with contextlib.suppress(ConnectionResetError):
            while self.socket.recv(4096):
                pass
        return True

    def close(self):
        self.socket.close()


class Memory:
    """The guest's memory, a file that is shared, and a simple allocator."""

    def __init__(self, size=8 << 20):
        self.size, self.fd = size, os.memfd_create("guest")
        os.ftruncate(self.fd, size)
        self.map = mmap.mmap(self.fd, size)
        self.free = 0

    def take(self, length, align=16):
        at = -(-self.free // align) * align
        self.free = at + length
        assert self.free <= self.size
        return at

    def region(self):
        return struct.pack("<QQQQ", GUEST_BASE, self.size, USER_BASE, 0)

    def close(self):
        self.map.close()
        os.close(self.fd)


class Queue:
    """A split ring. Requests are added, then waited for."""

    def __init__(self, memory, size=64, indirect=False, event_index=False):
        self.memory, self.size = memory, size
        self.indirect, self.event_index = indirect, event_index
        self.descriptors = memory.take(16 * size)
        self.available = memory.take(6 + 2 * size, 2)
        self.used = memory.take(6 + 8 * size, 4)
        self.free = list(range(size))
        self.pending, self.done = {}, {}
        self.made, self.seen = 0, 0
        self.kick, self.call = os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)
        self.error = os.eventfd(0, os.EFD_NONBLOCK)

    def used_count(self):
        """How many the device has given back."""
        return self.u16(self.used + 2)

    def u16(self, at):
        return struct.unpack_from("<H", self.memory.map, at)[0]

    def set_u16(self, at, value):
        struct.pack_into("<H", self.memory.map, at, value & 0xFFFF)

    def describe(self, at, index, address, length, flags, following):
        struct.pack_into("<QIHH", self.memory.map, at + 16 * index, address, length, flags, following)

    def add(self, *pieces, kick=True):
        """Makes a request available, of pieces (offset in the memory, length, writable). Its head."""
        count = len(pieces)
        heads = [self.free.pop() for _ in range(1 if self.indirect else count)]
        table = self.memory.take(16 * count) if self.indirect else self.descriptors
        places = range(count) if self.indirect else heads
        for number, (place, (at, length, writable)) in enumerate(zip(places, pieces)):
            last = number == count - 1
            flags = (WRITE if writable else 0) | (0 if last else NEXT)
            self.describe(table, place, GUEST_BASE + at, length, flags,
                          0 if last else list(places)[number + 1])
        if self.indirect:
            self.describe(self.descriptors, heads[0], GUEST_BASE + table, 16 * count, INDIRECT, 0)
        self.pending[heads[0]] = heads
        self.done.pop(heads[0], None)
        self.publish(heads[0], kick)
        return heads[0]

    def publish(self, head, kick=True):
        self.set_u16(self.available + 4 + 2 * (self.made % self.size), head)
        self.made += 1
        self.set_u16(self.available + 2, self.made)
        if kick:
            self.notify()

    def notify(self):
        os.eventfd_write(self.kick, 1)

    def take_used(self):
        """What was given back since, as {head: bytes written}."""
        found = {}
        while self.seen != self.u16(self.used + 2):
            head, written = struct.unpack_from("<II", self.memory.map,
                                               self.used + 4 + 8 * (self.seen % self.size))
            self.seen = (self.seen + 1) & 0xFFFF
            self.free += self.pending.pop(head)
            found[head] = written
        if self.event_index:
            self.set_u16(self.available + 4 + 2 * self.size, self.seen)
        return found

    def wait(self, head, timeout=TIMEOUT):
        """Until this one is given back, which must be signalled; how much was written."""
        deadline = time.monotonic() + timeout
        while True:
            self.done.update(self.take_used())
            if head in self.done:
                return self.done.pop(head)
            ready, _, _ = select.select([self.call], [], [], max(0, deadline - time.monotonic()))
            assert ready, "the device does not answer"
            os.eventfd_read(self.call)


class PackedQueue(Queue):
    """A packed ring with the same ways."""

    FIRST = 0x80008000  # where it begins
    AVAILABLE, USED = 1 << 7, 1 << 15

    def __init__(self, memory, size=64, **options):
        super().__init__(memory, size, **options)
        self.available = memory.take(4, 4)  # what the driver wants to be told of: all
        self.used = memory.take(4, 4)
        self.ids = list(range(size))
        self.room, self.place, self.lap = size, 0, True
        self.used_place, self.used_lap = 0, True

    def _advance(self, place, lap, slots):
        place += slots
        return (place - self.size, not lap) if place >= self.size else (place, lap)

    def _write(self, place, lap, address, length, name, flags):
        flags |= self.AVAILABLE if lap else self.USED
        struct.pack_into("<QIH", self.memory.map, self.descriptors + 16 * place, address, length, name)
        self.set_u16(self.descriptors + 16 * place + 14, flags)

    def add(self, *pieces, kick=True):
        name, count = self.ids.pop(), len(pieces)
        slots = 1 if self.indirect else count
        assert self.room >= slots
        self.room -= slots
        first = self.place, self.lap
        if self.indirect:
            table = self.memory.take(16 * count)
            for number, (at, length, writable) in enumerate(pieces):
                # The name and the flags are the other way round than in a split ring.
                self.describe(table, number, GUEST_BASE + at, length, 0, WRITE if writable else 0)
            self._write(*first, GUEST_BASE + table, 16 * count, name, INDIRECT)
        else:
            places = [first]
            for _ in pieces[1:]:
                places.append(self._advance(*places[-1], 1))
            # The first one last: it makes all of them available.
            for number, (at, length, writable) in reversed(list(enumerate(pieces))):
                flags = (WRITE if writable else 0) | (NEXT if number < count - 1 else 0)
                self._write(*places[number], GUEST_BASE + at, length, name, flags)
        self.place, self.lap = self._advance(*first, slots)
        self.pending[name] = slots
        self.done.pop(name, None)
        if kick:
            self.notify()
        return name

    def used_count(self):
        return self.seen + len(self._ahead())

    def _ahead(self):
        found, place, lap = [], self.used_place, self.used_lap
        while True:
            _, length, name, flags = struct.unpack_from("<QIHH", self.memory.map,
                                                        self.descriptors + 16 * place)
            if bool(flags & self.USED) != lap or bool(flags & self.AVAILABLE) != lap \
                    or name not in self.pending or name in [one for one, _ in found]:
                return found
            found.append((name, length))
            place, lap = self._advance(place, lap, self.pending[name])

    def take_used(self):
        found = dict(self._ahead())
        for name in found:
            slots = self.pending.pop(name)
            self.used_place, self.used_lap = self._advance(self.used_place, self.used_lap, slots)
            self.room += slots
            self.ids.append(name)
            self.seen += 1
        return found


class Disk:
    """A front-end that has set the device up, and makes requests."""

    def __init__(self, path, queues=1, size=64, memory=None, features=0, refused=0, inflight=None,
                 rings=None, bases=None, packed=False):
        self.connection = Connection(path)
        self.memory = memory or Memory()
        self.backend = None
        link = self.connection
        offered = link.number(GET_FEATURES)
        self.features = (offered & ~refused & ~bits(F_LOG_ALL, 24)) | features
        if not packed:
            self.features &= ~bits(F_PACKED)
        self.protocol = link.number(GET_PROTOCOL_FEATURES) & \
            bits(P_MQ, P_LOG, P_REPLY_ACK, P_BACKEND_REQ, P_CONFIG, P_INFLIGHT, P_MEM_SLOTS)
        link.send(SET_PROTOCOL_FEATURES, struct.pack("<Q", self.protocol))
        link.send(SET_OWNER)
        self.backend, theirs = socket.socketpair()
        self.backend.settimeout(TIMEOUT)
        link.acknowledged(SET_BACKEND_REQ_FD, b"", [theirs.fileno()])
        theirs.close()
        link.send(SET_FEATURES, struct.pack("<Q", self.features))
        if inflight:
            link.send(SET_INFLIGHT_FD, inflight[0], [inflight[1]])
        self.share(self.memory)
        kind = PackedQueue if packed else Queue
        self.queues = rings or [
            kind(self.memory, size, indirect=bool(self.features >> F_INDIRECT & 1),
                  event_index=bool(self.features >> F_EVENT_IDX & 1)) for _ in range(queues)]
        for index, queue in enumerate(self.queues):
            first = PackedQueue.FIRST if packed else 0
            self.start(index, queue, bases[index] if bases else first)

    def share(self, memory):
        self.connection.send(SET_MEM_TABLE, struct.pack("<II", 1, 0) + memory.region(), [memory.fd])

    def start(self, index, queue, base=0, log=None):
        link = self.connection
        link.send(SET_VRING_NUM, struct.pack("<II", index, queue.size))
        link.send(SET_VRING_BASE, struct.pack("<II", index, base))
        self.set_addresses(index, queue, log)
        link.send(SET_VRING_CALL, struct.pack("<Q", index), [queue.call])
        link.send(SET_VRING_ERR, struct.pack("<Q", index), [queue.error])
        link.send(SET_VRING_KICK, struct.pack("<Q", index), [queue.kick])
        link.send(SET_VRING_ENABLE, struct.pack("<II", index, 1))

    def set_addresses(self, index, queue, log=None):
        self.connection.send(SET_VRING_ADDR, struct.pack(
            "<IIQQQQ", index, 0 if log is None else 1, USER_BASE + queue.descriptors,
            USER_BASE + queue.used, USER_BASE + queue.available, log or 0))

    def stop(self, index):
        """Where the queue would go on."""
        return struct.unpack("<II", self.connection.ask(GET_VRING_BASE, struct.pack("<II", index, 0)))[1]

    def config(self, offset=0, size=60):
        body = self.connection.ask(GET_CONFIG, struct.pack("<III", offset, size, 0) + bytes(size))
        assert len(body) in (0, 12 + size)
        return body[12:]

    def capacity(self):
        return struct.unpack("<Q", self.config(0, 8))[0] * 512

    def begin(self, kind, sector=0, out=b"", room=0, queue=0, kick=True):
        """Begins a request; what finish() wants."""
        ring, mark = self.queues[queue], self.memory.free
        at = self.memory.take(16 + len(out) + room + 1)
        struct.pack_into("<IIQ", self.memory.map, at, kind, 0, sector)
        pieces = [(at, 16, False)]
        if out:
            self.memory.map[at + 16:at + 16 + len(out)] = out
            pieces.append((at + 16, len(out), False))
        data = at + 16 + len(out)
        if room:
            pieces.append((data, room, True))
        self.memory.map[data + room] = 0xFF
        pieces.append((data + room, 1, True))
        return ring, ring.add(*pieces, kick=kick), data, room, mark

    def finish(self, begun):
        """(status, data, written)"""
        ring, head, data, room, _ = begun
        written = ring.wait(head)
        return self.memory.map[data + room], bytes(self.memory.map[data:data + room]), written

    def request(self, kind, sector=0, out=b"", room=0, queue=0):
        begun = self.begin(kind, sector, out, room, queue)
        result = self.finish(begun)
        self.memory.free = begun[-1]
        return result

    def read(self, offset, length, queue=0):
        status, data, written = self.request(T_IN, offset // 512, room=length, queue=queue)
        assert (status, written) == (OK, length + 1)
        return data

    def write(self, offset, data, queue=0):
        return self.request(T_OUT, offset // 512, out=data, queue=queue)[0]

    def flush(self):
        return self.request(T_FLUSH)[0]

    def discard(self, offset, length, flags=0, kind=T_DISCARD):
        return self.request(kind, out=struct.pack("<QII", offset // 512, length // 512, flags))[0]

    def zero(self, offset, length, flags=0):
        return self.discard(offset, length, flags, T_WRITE_ZEROES)

    def identity(self):
        return self.request(T_GET_ID, room=20)[1]

    def close(self):
        self.connection.close()
        if self.backend:
            self.backend.close()
