// The engine above a translating driver: mapping, copy-on-write, zeroes, discards, and what may go
// wrong on the way.
#include <cerrno>

#include "io/task_group.h"
#include "tests/block/block_test.h"

namespace cairn::block {
namespace {

using ::testing::ElementsAre;
using testing::IoKind;
using ::testing::IsEmpty;
using testing::kZeroes;
using testing::Random;

class EngineTest : public BlockTest {
 protected:
  void TearDown() override {
    for (const auto& edge : edges_) {
      if (auto* format = dynamic_cast<ClusterFormat*>(&edge->node().driver())) {
        EXPECT_THAT(format->breaches(), IsEmpty());
        EXPECT_EQ(format->open_plans(), 0U);
      }
    }
    BlockTest::TearDown();
  }

  // A ClusterFormat over another one, which holds write 1 everywhere and is `units` long.
  Edge& attach_chain(uint64_t units) {
    ClusterFormat::settings().length = units * kUnit;
    world_.add("base");
    auto base = format_options("base");
    base.node_name = "below";
    Edge& below = attach(base);
    EXPECT_TRUE(write(below, 1, 0, units * kUnit));
    ClusterFormat::settings().length = 64 * kUnit;
    world_.add("top");
    return attach(format_options("top", "below"), kWriter, {.discard_unmap = true});
  }
};

TEST_F(EngineTest, HolesReadAsZeroesWithoutIo) {
  Edge& edge = attach_format();
  EXPECT_TRUE(holds(edge, kZeroes, 100, 3 * kUnit));
  EXPECT_EQ(world_.submitted(), 0U);
}

TEST_F(EngineTest, APartialWriteFillsItsUnitWithZeroes) {
  Edge& edge = attach_format();
  ASSERT_TRUE(write(edge, 1, 5000, 100));
  EXPECT_TRUE(holds(edge, kZeroes, kUnit, 5000 - kUnit));
  EXPECT_TRUE(holds(edge, 1, 5000, 100));
  EXPECT_TRUE(holds(edge, kZeroes, 5100, 2 * kUnit));
  EXPECT_THAT(format_of(edge).calls(), ElementsAre("begin 1", "end 1 ok"));
  EXPECT_EQ(world_.submitted(IoKind::kWrite), 1U) << "head, data and tail go in one piece";
}

TEST_F(EngineTest, ASecondWriteToAUnitGoesStraightToItsPlace) {
  Edge& edge = attach_format();
  ASSERT_TRUE(write(edge, 1, 0, kUnit));
  format_of(edge).clear_calls();
  ASSERT_TRUE(write(edge, 2, 512, 512));
  EXPECT_THAT(format_of(edge).calls(), IsEmpty());
  EXPECT_TRUE(holds(edge, 1, 0, 512));
  EXPECT_TRUE(holds(edge, 2, 512, 512));
}

TEST_F(EngineTest, AnswersAreTheSameWhenMetadataHasToBeRead) {
  ClusterFormat::settings().cached = false;
  ClusterFormat::settings().longest_extent = 700;
  Edge& edge = attach_format();
  ASSERT_TRUE(write(edge, 1, 1000, 3 * kUnit));
  EXPECT_TRUE(holds(edge, kZeroes, 0, 1000));
  EXPECT_TRUE(holds(edge, 1, 1000, 3 * kUnit));
}

TEST_F(EngineTest, FreshSpaceThatReadsZeroNeedsNoFilling) {
  ClusterFormat::settings().host_reads_zero = true;
  Edge& edge = attach_format();
  ASSERT_TRUE(write(edge, 1, 1024, 512));
  EXPECT_EQ(file("image").disk.size(), 2 * kUnit - kUnit + 1536) << "nothing after the data";
  EXPECT_TRUE(holds(edge, kZeroes, 0, 1024));
  EXPECT_TRUE(holds(edge, 1, 1024, 512));
}

TEST_F(EngineTest, CopyOnWriteTakesTheRestFromTheBackingNode) {
  Edge& edge = attach_chain(8);
  ASSERT_TRUE(write(edge, 2, 1000, 100));
  EXPECT_TRUE(holds(edge, 1, 0, 1000));
  EXPECT_TRUE(holds(edge, 2, 1000, 100));
  EXPECT_TRUE(holds(edge, 1, 1100, 7 * kUnit));
}

TEST_F(EngineTest, BeyondAShorterBackingNodeThereAreZeroes) {
  Edge& edge = attach_chain(2);
  EXPECT_TRUE(holds(edge, 1, 0, 2 * kUnit));
  EXPECT_TRUE(holds(edge, kZeroes, 2 * kUnit, 4 * kUnit));
  auto both = pattern(1, kUnit, kUnit);
  both.resize(2 * kUnit);
  EXPECT_EQ(read(edge, kUnit, 2 * kUnit), both);
}

TEST_F(EngineTest, AFailedDataWriteGivesTheSpaceBackAndKeepsTheOldData) {
  Edge& edge = attach_chain(8);
  world_.add_fault({.kind = IoKind::kWrite, .file = "top", .error = ENOSPC});
  const Result<void> result = write(edge, 2, 100, 200);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ENOSPC);
  EXPECT_THAT(format_of(edge).calls(), ElementsAre("begin 0", "end 0 failed"));
  EXPECT_TRUE(holds(edge, 1, 0, kUnit));
}

TEST_F(EngineTest, AFailedCopyGivesTheSpaceBack) {
  Edge& edge = attach_chain(8);
  for (const uint64_t after : {0, 1}) {
    format_of(edge).clear_calls();
    world_.clear_faults();
    world_.add_fault({.kind = IoKind::kRead, .file = "base", .after = after, .error = EIO});
    EXPECT_FALSE(write(edge, 2, 100, 200));
    EXPECT_THAT(format_of(edge).calls(), ElementsAre("begin 0", "end 0 failed"));
  }
  world_.clear_faults();
  EXPECT_TRUE(write(edge, 2, 100, 200));
  EXPECT_TRUE(holds(edge, 2, 100, 200));
}

TEST_F(EngineTest, ErrorsOfTheDriverFailTheWrite) {
  Edge& edge = attach_format();
  format_of(edge).own_settings().fail_begin = EDQUOT;
  EXPECT_EQ(write(edge, 1, 0, 512).error().code(), EDQUOT);
  format_of(edge).own_settings().fail_begin = 0;
  format_of(edge).own_settings().fail_end = EIO;
  EXPECT_EQ(write(edge, 1, 0, 512).error().code(), EIO);
  EXPECT_TRUE(holds(edge, kZeroes, 0, kUnit));
}

TEST_F(EngineTest, WholeUnitsAreZeroedByMetadataAndRaggedEndsAsData) {
  Edge& edge = attach_format();
  ASSERT_TRUE(write(edge, 1, 0, 6 * kUnit));
  format_of(edge).clear_calls();
  ASSERT_TRUE(run(edge.write_zeroes(1000, 4 * kUnit)));
  EXPECT_THAT(format_of(edge).calls(), ElementsAre("zero 1..4"));
  EXPECT_TRUE(holds(edge, 1, 0, 1000));
  EXPECT_TRUE(holds(edge, kZeroes, 1000, 4 * kUnit));
  EXPECT_TRUE(holds(edge, 1, 1000 + 4 * kUnit, kUnit));
}

TEST_F(EngineTest, ZeroingPartOfAUnitThatIsZeroAnywayIsMetadataOnly) {
  Edge& edge = attach_format();
  ASSERT_TRUE(run(edge.write_zeroes(100, 200)));
  EXPECT_THAT(format_of(edge).calls(), ElementsAre("zero 0..1"));
  EXPECT_EQ(world_.submitted(), 0U);
}

TEST_F(EngineTest, ZeroesAreWrittenWhereTheFormatHasNone) {
  ClusterFormat::settings().can_zero = false;
  Edge& edge = attach_chain(8);
  ASSERT_TRUE(run(edge.write_zeroes(1000, 3 * kUnit)));
  EXPECT_TRUE(holds(edge, 1, 0, 1000));
  EXPECT_TRUE(holds(edge, kZeroes, 1000, 3 * kUnit));
  EXPECT_TRUE(holds(edge, 1, 1000 + 3 * kUnit, kUnit));
  const Result<void> strict = run(edge.write_zeroes(0, kUnit, {.no_fallback = true}));
  ASSERT_FALSE(strict);
  EXPECT_EQ(strict.error().code(), ENOTSUP);
}

TEST_F(EngineTest, TheShortLastUnitCountsAsWhole) {
  ClusterFormat::settings().length = 3 * kUnit + 1024;
  Edge& edge = attach_format();
  ASSERT_TRUE(write(edge, 1, 0, 3 * kUnit + 1024));
  format_of(edge).clear_calls();
  ASSERT_TRUE(run(edge.write_zeroes(3 * kUnit, 1024)));
  ASSERT_TRUE(run(edge.discard(3 * kUnit, 1024)));
  EXPECT_THAT(format_of(edge).calls(), ElementsAre("zero 3..4", "discard 3..4"));
}

TEST_F(EngineTest, UnmapIsAllowedOnlyWhereTheNodeUnmaps) {
  world_.add("image");
  Edge& edge = attach(format_options("image"));
  ASSERT_TRUE(run(edge.write_zeroes(0, kUnit, {.may_unmap = true})));
  ASSERT_TRUE(run(edge.discard(0, kUnit)));
  Edge& unmapping = attach_format();
  ASSERT_TRUE(run(unmapping.write_zeroes(0, kUnit, {.may_unmap = true})));
  EXPECT_THAT(format_of(edge).calls(), ElementsAre("zero 0..1"));
  EXPECT_THAT(format_of(unmapping).calls(), ElementsAre("zero 0..1 unmap"));
}

TEST_F(EngineTest, DiscardsLeaveRaggedEndsAlone) {
  Edge& edge = attach_format();
  ASSERT_TRUE(write(edge, 1, 0, 4 * kUnit));
  format_of(edge).clear_calls();
  ASSERT_TRUE(run(edge.discard(1, kUnit)));
  EXPECT_THAT(format_of(edge).calls(), IsEmpty());
  ASSERT_TRUE(run(edge.discard(100, 3 * kUnit)));
  EXPECT_THAT(format_of(edge).calls(), ElementsAre("discard 1..3"));
  EXPECT_TRUE(holds(edge, 1, 0, kUnit));
  EXPECT_TRUE(holds(edge, kZeroes, kUnit, 2 * kUnit));
  EXPECT_TRUE(holds(edge, 1, 3 * kUnit, kUnit));
}

TEST_F(EngineTest, FuaWritesAreDurableWhenAcknowledged) {
  for (const bool durable_metadata : {false, true}) {
    ClusterFormat::settings().durable_metadata = durable_metadata;
    const std::string name = durable_metadata ? "durable" : "lazy";
    world_.add(name);
    Edge& edge = attach(format_options(name));
    ASSERT_TRUE(write(edge, 1, 0, kUnit));
    ASSERT_TRUE(run(edge.flush()));
    ASSERT_TRUE(write(edge, 2, 512, 512, {.fua = true}));  // in place
    EXPECT_EQ(file(name).disk.durable().read(kUnit + 512, 512), pattern(2, 512, 512));
    format_of(edge).clear_calls();
    ASSERT_TRUE(write(edge, 3, kUnit, kUnit, {.fua = true}));  // allocates
    EXPECT_EQ(file(name).disk.unflushed(), 0U);
    EXPECT_THAT(format_of(edge).calls(), ElementsAre("begin 1", "end 1 ok", "flush"));
    format_of(edge).clear_calls();
    ASSERT_TRUE(run(edge.write_zeroes(0, kUnit, {.fua = true})));
    EXPECT_THAT(format_of(edge).calls(), ElementsAre("zero 0..1", "flush"));
  }
}

TEST_F(EngineTest, ALaterFlushWaitsForNoEarlierOne) {
  Edge& edge = attach_format();
  ASSERT_TRUE(write(edge, 1, 0, kUnit));
  ASSERT_TRUE(run(edge.flush()));
  format_of(edge).clear_calls();
  ASSERT_TRUE(run(edge.flush()));
  EXPECT_THAT(format_of(edge).calls(), IsEmpty()) << "nothing was written since";
}

TEST_F(EngineTest, WritesBeyondTheEndOfATranslatingNodeFail) {
  Permissions resizer = kWriter;
  resizer.used |= PermissionSet::kResize;
  Edge& edge = attach_format(resizer);
  EXPECT_EQ(write(edge, 1, 64 * kUnit - 100, 200).error().code(), EIO);
  EXPECT_EQ(write(edge, 1, 64 * kUnit, 512).error().code(), EIO);
  EXPECT_EQ(run(edge.write_zeroes(64 * kUnit, kUnit)).error().code(), EIO);
}

TEST_F(EngineTest, StatusAgreesWithReads) {
  Edge& edge = attach_chain(8);
  ASSERT_TRUE(write(edge, 2, 2 * kUnit, kUnit));
  ASSERT_TRUE(run(edge.write_zeroes(3 * kUnit, kUnit)));
  struct Expected {
    uint64_t unit;
    int depth;
    bool data;
    bool zero;
  };
  for (const Expected& expected : {Expected{0, 1, true, false}, Expected{2, 0, true, false},
                                   Expected{3, 0, false, true}, Expected{9, 0, false, true}}) {
    const auto status = run(edge.chain_status(expected.unit * kUnit, kUnit));
    ASSERT_TRUE(status.has_value());
    EXPECT_EQ(status->status.data, expected.data) << expected.unit;
    EXPECT_EQ(status->status.zero, expected.zero) << expected.unit;
    EXPECT_EQ(status->depth, expected.depth) << expected.unit;
    EXPECT_GT(status->status.length, 0U);
  }
}

io::Task<void> spawn_resize(Edge& edge, uint64_t length, int& failures) {
  const Result<void> result = co_await edge.resize(length);
  failures += result ? 0 : 1;
}

TEST_F(EngineTest, ResizesRunOneAfterTheOther) {
  Permissions resizer = kWriter;
  resizer.used |= PermissionSet::kResize;
  Edge& edge = attach_format(resizer);
  int failures = 0;
  io::TaskGroup group;
  group.spawn(spawn_resize(edge, 70 * kUnit, failures));
  group.spawn(spawn_resize(edge, 80 * kUnit, failures));
  run(group.join());
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(edge.length(), 80 * kUnit);
}

TEST_F(EngineTest, GrowingShowsNothingOfWhatAShrinkCutOff) {
  Permissions resizer = kWriter;
  resizer.used |= PermissionSet::kResize;
  Edge& edge = attach_format(resizer);
  ASSERT_TRUE(write(edge, 1, 0, 64 * kUnit));
  // Within the last unit, and in whole units that the driver has left mapped.
  ASSERT_TRUE(run(edge.resize(10 * kUnit + 1024)));
  ASSERT_TRUE(run(edge.resize(20 * kUnit)));
  EXPECT_TRUE(holds(edge, 1, 0, 10 * kUnit + 1024));
  EXPECT_TRUE(holds(edge, kZeroes, 10 * kUnit + 1024, 10 * kUnit - 1024));
}

TEST_F(EngineTest, SpaceThatCanNotBeClearedIsNotShown) {
  ClusterFormat::settings().can_zero = false;
  Permissions resizer = kWriter;
  resizer.used |= PermissionSet::kResize;
  Edge& edge = attach_format(resizer);
  ASSERT_TRUE(write(edge, 1, 0, 64 * kUnit));
  ASSERT_TRUE(run(edge.resize(10 * kUnit)));
  world_.add_fault({.kind = IoKind::kWrite, .error = ENOSPC});
  const Result<void> result = run(edge.resize(20 * kUnit));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ENOSPC);
  EXPECT_EQ(edge.length(), 10 * kUnit);
}

TEST_F(EngineTest, NewSpaceHidesALongerBackingNodeUnlessItMayBeSeen) {
  ClusterFormat::settings().length = 8 * kUnit;
  world_.add("base");
  auto base = format_options("base");
  base.node_name = "below";
  Edge& below = attach(base);
  ASSERT_TRUE(write(below, 1, 0, 8 * kUnit));
  Permissions resizer = kWriter;
  resizer.used |= PermissionSet::kResize;
  for (const bool hide : {false, true}) {
    ClusterFormat::settings().length = 2 * kUnit + 512;
    const std::string name = hide ? "hiding" : "showing";
    world_.add(name);
    Edge& edge = attach(format_options(name, "below"), resizer);
    const ResizeOptions showing{.zero_new_space = false};
    ASSERT_TRUE(run(edge.resize(10 * kUnit, hide ? ResizeOptions() : showing)));
    EXPECT_TRUE(holds(edge, 1, 0, 2 * kUnit + 512));
    EXPECT_TRUE(holds(edge, hide ? kZeroes : 1, 2 * kUnit + 512, 4 * kUnit));
    EXPECT_TRUE(holds(edge, kZeroes, 8 * kUnit, 2 * kUnit));
  }
}

struct Piece {
  uint64_t offset;
  uint64_t length;
  testing::WriteNumber number;
};

io::Task<void> change(Edge& edge, Piece piece, std::vector<std::byte> data, int& failures) {
  Result<void> result;
  if (piece.number == kZeroes) {
    result = co_await edge.write_zeroes(piece.offset, piece.length);
  } else {
    result = co_await edge.write(piece.offset, data.data(), data.size());
  }
  failures += result ? 0 : 1;
}

// Many writers at once, each to bytes of its own, on few units: nothing is lost, whatever
// overtakes.
TEST_F(EngineTest, ConcurrentWritesToPartsOfUnitsAllSurvive) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    ClusterFormat::settings() = {.can_zero = random.chance(70),
                                 .cached = random.chance(50),
                                 .host_reads_zero = random.chance(50)};
    world_.set_delays({});
    const std::string name = "image" + std::to_string(seed);
    world_.add(name);
    Edge& edge = attach(format_options(name));
    world_.set_delays(std::chrono::microseconds(10));
    int failures = 0;
    io::TaskGroup group;
    std::vector<Piece> pieces;
    for (uint64_t offset = 0; offset < 4 * kUnit;) {
      const uint64_t length = random.between(1, 3000);
      const testing::WriteNumber number = random.chance(30) ? kZeroes : pieces.size() + 1;
      pieces.push_back({offset, length, number});
      offset += length;
    }
    std::vector<Piece> order = pieces;
    for (std::size_t i = order.size(); i > 1; --i) {
      std::swap(order[i - 1], order[random.below(i)]);
    }
    for (const Piece& piece : order) {
      group.spawn(change(edge, piece, pattern(piece.number, piece.offset, piece.length), failures));
    }
    run(group.join());
    ASSERT_EQ(failures, 0);
    for (const Piece& piece : pieces) {
      ASSERT_TRUE(holds(edge, piece.number, piece.offset, piece.length))
          << "seed " << seed << ": " << piece.length << " bytes at " << piece.offset << " hold "
          << testing::describe_data(piece.offset, read(edge, piece.offset, piece.length));
    }
  }
}

io::Task<void> read_slowly(Edge& edge, uint64_t offset, std::vector<std::byte>& data,
                           int& failures) {
  const Result<void> result = co_await edge.read(offset, data.data(), data.size());
  failures += result ? 0 : 1;
}

io::Task<void> discard_then_write(Edge& edge, uint64_t from, uint64_t to,
                                  std::vector<std::byte> data, int& failures) {
  Result<void> result = co_await edge.discard(from, ClusterFormat::kUnit);
  failures += result ? 0 : 1;
  result = co_await edge.write(to, data.data(), data.size());
  failures += result ? 0 : 1;
}

// I2: a read that has translated to a unit's place must not see what is written there after the
// unit was freed.
TEST_F(EngineTest, AFreedPlaceIsNotReusedUnderARead) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    world_.set_delays({});
    const std::string name = "image" + std::to_string(seed);
    world_.add(name);
    Edge& edge = attach(format_options(name), kWriter, {.discard_unmap = true});
    ASSERT_TRUE(write(edge, 1, 0, kUnit));
    world_.set_delays(std::chrono::microseconds(10));
    int failures = 0;
    std::vector<std::byte> seen(kUnit);
    io::TaskGroup group;
    group.spawn(read_slowly(edge, 0, seen, failures));
    group.spawn(discard_then_write(edge, 0, kUnit, pattern(2, kUnit, kUnit), failures));
    run(group.join());
    ASSERT_EQ(failures, 0);
    ASSERT_TRUE(seen == pattern(1, 0, kUnit) || seen == pattern(kZeroes, 0, kUnit))
        << "seed " << seed << ": " << testing::describe_data(0, seen);
  }
}

io::Task<void> write_then_look(Edge& edge, std::vector<std::byte> data,
                               std::vector<std::byte>& seen, int& failures) {
  Result<void> result = co_await edge.write(0, data.data(), data.size());
  failures += result ? 0 : 1;
  result = co_await edge.read(0, seen.data(), seen.size());
  failures += result ? 0 : 1;
}

io::Task<void> zero_then_write(Edge& edge, uint64_t offset, std::vector<std::byte> data,
                               int& failures) {
  Result<void> result = co_await edge.write_zeroes(0, ClusterFormat::kUnit, {});
  failures += result ? 0 : 1;
  result = co_await edge.write(offset, data.data(), data.size());
  failures += result ? 0 : 1;
}

// A write that went to a unit's place before the unit was zeroed must not show in what is written
// to that place afterwards: a read in between may have seen the zeroes.
TEST_F(EngineTest, AZeroedUnitKeepsItsPlaceButNoWriteUnderWay) {
  constexpr uint64_t kHead = 512;
  ClusterFormat::settings().zeroes_keep_place = true;
  int zeroes_seen = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    world_.set_delays({});
    const std::string name = "image" + std::to_string(seed);
    world_.add(name);
    Edge& edge = attach(format_options(name), kWriter, {.discard_unmap = true});
    ASSERT_TRUE(write(edge, 1, 0, kUnit));
    world_.set_delays(std::chrono::microseconds(10));
    int failures = 0;
    std::vector<std::byte> seen(kHead);
    io::TaskGroup group;
    group.spawn(write_then_look(edge, pattern(2, 0, kUnit), seen, failures));
    group.spawn(zero_then_write(edge, kHead, pattern(3, kHead, kHead), failures));
    run(group.join());
    ASSERT_EQ(failures, 0);
    if (seen == pattern(kZeroes, 0, kHead)) {
      ++zeroes_seen;
      const auto later = read(edge, 0, kHead);
      ASSERT_TRUE(later == seen) << "seed " << seed << ": " << testing::describe_data(0, later);
    }
  }
  EXPECT_GT(zeroes_seen, 0);
}

}  // namespace
}  // namespace cairn::block
