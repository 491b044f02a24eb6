"""The test of the test: the crash writer's model notices lost and foreign data."""

from writer import SLOT, Writer, contents


def image_of(folder, values):
    path = folder / "image.raw"
    path.write_bytes(b"".join(contents(i, v) for i, v in enumerate(values)))
    return path


def test_lost_flushed_data_is_noticed(folder):
    writer = Writer(4, seed=1)
    writer.durable[2] = 7
    assert not writer.check(image_of(folder, [0, 0, 7, 0]))
    assert [slot for slot, _, _ in writer.check(image_of(folder, [0, 0, 0, 0]))] == [2]


def test_an_unflushed_write_may_be_there_or_not(folder):
    writer = Writer(4, seed=1)
    writer.since[1] = [9]
    assert not writer.check(image_of(folder, [0, 9, 0, 0]))
    writer.since[1], writer.durable[1] = [9], 0
    assert not writer.check(image_of(folder, [0, 0, 0, 0]))


def test_another_slots_data_is_noticed(folder):
    writer = Writer(2, seed=1)
    writer.durable = [5, 5]
    path = folder / "image.raw"
    path.write_bytes(contents(1, 5) + contents(1, 5))
    assert [slot for slot, _, _ in writer.check(path)] == [0]


def test_a_torn_slot_is_noticed(folder):
    writer = Writer(1, seed=1)
    writer.durable[0], writer.since[0] = 3, [4]
    path = folder / "image.raw"
    path.write_bytes(contents(0, 4)[:SLOT // 2] + contents(0, 3)[SLOT // 2:])
    assert writer.check(path)


def test_a_flush_covers_what_was_acknowledged_before_it():
    writer = Writer(8, seed=1)
    writer.since[1], writer.since[2] = [100], [100, 101]
    writer.acknowledged = {1: 100, 2: 101}
    writer.made_durable({1: 100, 2: 100})  # 101 was acknowledged while the flush ran
    assert writer.durable[1] == 100 and writer.since[1] == []
    assert writer.durable[2] == 100 and writer.since[2] == [101]
    assert writer.acknowledged == {2: 101}
