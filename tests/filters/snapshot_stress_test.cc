// Guests write, readers of the snapshot and of an overlay read, and requests overtake each other:
// whoever looks at the old state sees the old state.
#include <algorithm>

#include "io/task_group.h"
#include "tests/filters/snapshot_test.h"
#include "tests/support/random.h"

namespace cairn::filters {
namespace {

using testing::Random;

class SnapshotStressTest : public SnapshotTest, public ::testing::WithParamInterface<uint64_t> {
 protected:
  static constexpr unsigned kGuests = 4;
  static constexpr unsigned kReaders = 4;
  static constexpr unsigned kRequests = 60;

  io::Task<void> guest(block::Edge& edge, Random random) {
    for (unsigned i = 0; i < kRequests; ++i) {
      const uint64_t length = random.between(1, 3 * kGranule);
      const uint64_t offset = random.below(kSize - length);
      Result<void> done;
      if (random.chance(70)) {
        const std::vector<std::byte> data = pattern(2 + random.below(1000), offset, length);
        done = co_await edge.write(offset, data.data(), length);
      } else if (random.chance(50)) {
        done = co_await edge.write_zeroes(offset, length, {.may_unmap = random.chance(50)});
      } else {
        done = co_await edge.discard(offset, length);
      }
      EXPECT_TRUE(done.has_value()) << done.error().message();
    }
  }

  // Reads what must be as it was.
  io::Task<void> reader(block::Edge& edge, Random random) {
    std::vector<std::byte> data(3 * kGranule);
    for (unsigned i = 0; i < kRequests; ++i) {
      const uint64_t length = random.between(1, data.size());
      const uint64_t offset = random.below(kSize - length);
      const Result<void> done = co_await edge.read(offset, data.data(), length);
      EXPECT_TRUE(done.has_value()) << done.error().message();
      const uint64_t old = offset >= kHole ? 0 : std::min(length, kHole - offset);
      EXPECT_EQ(testing::matching_prefix(1, offset, std::span(data).first(old)), old)
          << "at " << offset << ": " << testing::describe_data(offset, std::span(data).first(old));
      EXPECT_TRUE(std::all_of(data.begin() + static_cast<std::ptrdiff_t>(old),
                              data.begin() + static_cast<std::ptrdiff_t>(length),
                              [](std::byte byte) { return byte == std::byte{0}; }));
    }
  }

  // Copies everything in the background, as a backup does.
  io::Task<void> copier(block::BlockCopy& copy) {
    while (const auto run = copy.next_pending(0)) {
      const block::BlockCopy::Step step = co_await copy.next_step(run->first, run->second);
      const block::BlockCopy::Outcome outcome = co_await copy.copy(run->first, step.length);
      EXPECT_TRUE(outcome.result.has_value());
    }
  }

  void stress(block::Edge& guest_edge, block::Edge& reader_edge, bool with_copier) {
    Random random(GetParam());
    world_.set_delays(std::chrono::milliseconds(2));
    io::TaskGroup tasks;
    for (unsigned i = 0; i < kGuests; ++i) {
      tasks.spawn(guest(guest_edge, random.fork()));
    }
    for (unsigned i = 0; i < kReaders; ++i) {
      tasks.spawn(reader(reader_edge, random.fork()));
    }
    if (with_copier) {
      tasks.spawn(copier(filter().copy()));
    }
    run(tasks.join());
    world_.set_delays(io::Duration(0));
  }
};

TEST_P(SnapshotStressTest, SnapshotsStayAsTheyWere) {
  add_files();
  block::Edge& guest = insert();
  block::Edge& snapshot = attach_snapshot();
  stress(guest, snapshot, GetParam() % 2 == 0);
  EXPECT_TRUE(holds_old(snapshot));
}

// The target is an overlay whose holes show the source: readers of it need no snapshot-access.
TEST_P(SnapshotStressTest, OverlaysOfTheSourceStayAsTheyWere) {
  add_files();
  schema::BlockdevOptions source = file_options("source");
  source.node_name = "source";
  source.discard = schema::BlockdevDiscardOptions::kUnmap;
  auto node = run(graph_.open(source));
  ASSERT_TRUE(node);
  schema::BlockdevOptions overlay = format_options("target", "source");
  overlay.node_name = "target";
  block::Edge& reader = attach(overlay, kReader, {.discard_unmap = true});
  schema::BlockdevOptionsCbw own;
  own.file = named("source");
  own.target = named("target");
  block::Edge& guest = attach_filter(std::move(own));
  stress(guest, reader, GetParam() % 2 == 0);
  EXPECT_TRUE(holds_old(reader));
}

INSTANTIATE_TEST_SUITE_P(Seeds, SnapshotStressTest, ::testing::Range<uint64_t>(1, 13));

}  // namespace
}  // namespace cairn::filters
