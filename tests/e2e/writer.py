"""A client that writes at random and remembers what it may rely on.

The model, a slot (a sector, the unit that a crash may tear at) at a time: `durable` is the value
that a completed flush covers, `since` the values written after it (acknowledged or not). After a
crash a slot must hold its durable value or one of those since; anything else is lost or foreign
data. Writes in flight never overlap, so that the order of a slot's values is known.
"""

import random

import nbd

SLOT = 512


def contents(slot, value):
    """The bytes of a slot: its number and value all over it, so that a mix is noticed."""
    if value == 0:
        return bytes(SLOT)
    return (slot.to_bytes(8, "big") + value.to_bytes(8, "big")) * (SLOT // 16)


class Writer:
    def __init__(self, slots, seed):
        self.random = random.Random(seed)
        self.slots = slots
        self.durable = [0] * slots
        self.since = [[] for _ in range(slots)]
        self.acknowledged = {}  # the newest such value of a slot, since the last flush
        self.last_value = 0
        self.flushes = 0

    def run(self, uri, limit, kill, flush_every=20, depth=16):
        """Writes until `limit` writes are acknowledged and more are in flight, then calls kill(),
        which ends the server."""
        client = nbd.NBD()
        in_flight = {}
        finished = total = 0
        client.connect_uri(uri)
        while total < limit:
            while len(in_flight) < depth:
                self._start_write(client, in_flight)
            client.poll(-1)
            for cookie in [c for c in in_flight if client.aio_command_completed(c)]:
                slots, value, _ = in_flight.pop(cookie)
                self.acknowledged.update((slot, value) for slot in slots)
                finished += 1
                total += 1
            if finished >= flush_every:
                finished = 0
                covered = dict(self.acknowledged)
                client.flush()
                self.made_durable(covered)
        while len(in_flight) < depth:
            self._start_write(client, in_flight)
        kill()

    def _start_write(self, client, in_flight):
        busy = {slot for slots, _, _ in in_flight.values() for slot in slots}
        while True:
            length = self.random.choice([1, 8, 8, 16, 40, 128])
            first = self.random.randrange(self.slots - length)
            slots = range(first, first + length)
            if busy.isdisjoint(slots):
                break
        self.last_value += 1
        for slot in slots:
            self.since[slot].append(self.last_value)
        data = b"".join(contents(slot, self.last_value) for slot in slots)
        buffer = nbd.Buffer.from_bytearray(bytearray(data))
        cookie = client.aio_pwrite(buffer, first * SLOT)
        in_flight[cookie] = (slots, self.last_value, buffer)

    def made_durable(self, covered):
        """A flush that began after these slots' values were acknowledged has completed."""
        self.flushes += 1
        for slot, value in covered.items():
            self.durable[slot] = value
            self.since[slot] = [v for v in self.since[slot] if v > value]
        self.acknowledged = {s: v for s, v in self.acknowledged.items() if covered.get(s) != v}

    def check(self, image):
        """Compares a raw image with the model and adopts what it finds. Returns the bad slots."""
        bad = []
        with open(image, "rb") as file:
            for slot in range(self.slots):
                data = file.read(SLOT)
                allowed = [self.durable[slot], *self.since[slot]]
                value = int.from_bytes(data[8:16], "big")
                if value in allowed and data == contents(slot, value):
                    self.durable[slot], self.since[slot] = value, []
                else:
                    bad.append((slot, allowed, data[:16].hex()))
        self.acknowledged = {}
        return bad
