"""A disk that is written to all the time, and which of its states something is.

One writer makes one request after the other, so that every moment of the disk is the content at the
start and the first K of its requests."""

import contextlib
import random
import threading

import nbd

from support import wait_until

BLOCK = 4096


class History:
    """Writes to the NBD export `uri` of `size` bytes, until stop() or until the server is gone."""

    def __init__(self, uri, size, seed):
        self.size, self.random = size, random.Random(seed)
        self.client = nbd.NBD()
        self.client.connect_uri(uri)
        self.start = bytearray(size)
        for at in range(0, size, 1 << 20):
            self.start[at:at + (1 << 20)] = self.client.pread(min(1 << 20, size - at), at)
        self.requests = []  # (offset, data), those that may have begun
        self.done = 0       # how many of them were acknowledged
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._load)
        self.thread.start()

    def _load(self):
        with contextlib.suppress(nbd.Error):
            while not self.stopping.is_set():
                # Zeroes over whole clusters are another case than those inside of one.
                zero = self.random.random() < 0.15
                length = self.random.randrange(1, 65 if zero else 9) * BLOCK
                at = self.random.randrange((self.size - length) // BLOCK + 1) * BLOCK
                data = bytes(length) if zero else self.random.randbytes(length)
                self.requests.append((at, data))
                if zero:
                    self.client.zero(length, at)
                else:
                    self.client.pwrite(data, at)
                self.done += 1
                self.stopping.wait(0.002)

    def wait_for_writes(self, number):
        goal = self.done + number
        wait_until(lambda: self.done >= goal or not self.thread.is_alive(), "writes")

    def stop(self):
        self.stopping.set()
        self.thread.join()
        with contextlib.suppress(nbd.Error):
            self.client.shutdown()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def holds(self, content, first, last):
        """Whether `content` is the disk after `first` to `last` requests, or some number between."""
        if len(content) != self.size:
            return False
        state = bytearray(self.start)
        for at, data in self.requests[:first]:
            state[at:at + len(data)] = data
        for at, data in self.requests[first:last]:
            if state == content:
                return True
            state[at:at + len(data)] = data
        return state == content
