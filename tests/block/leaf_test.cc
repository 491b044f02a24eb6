// The choke point above drivers that carry requests out: alignment, splitting, emulation.
#include <cerrno>

#include "io/task_group.h"
#include "tests/block/block_test.h"

namespace cairn::block {
namespace {

using testing::FaultRule;
using testing::FileTraits;
using testing::IoKind;
using testing::kZeroes;

class LeafTest : public BlockTest {};

TEST_F(LeafTest, WritesAndReadsBytes) {
  Edge& edge = attach_file("disk", 64 << 10);
  ASSERT_TRUE(write(edge, 1, 1000, 5000));
  EXPECT_TRUE(holds(edge, 1, 1000, 5000));
  EXPECT_TRUE(holds(edge, kZeroes, 0, 1000));
  EXPECT_EQ(world_.submitted(IoKind::kWrite), 1U);
}

TEST_F(LeafTest, UnalignedWritesKeepWhatIsAroundThem) {
  Edge& edge = attach_file("disk", 64 << 10, {.limits = {.request_alignment = 4096}});
  ASSERT_TRUE(write(edge, 1, 0, 64 << 10));
  ASSERT_TRUE(write(edge, 2, 5000, 100));
  ASSERT_TRUE(write(edge, 3, 12000, 20000));
  EXPECT_TRUE(holds(edge, 1, 0, 5000));
  EXPECT_TRUE(holds(edge, 2, 5000, 100));
  EXPECT_TRUE(holds(edge, 1, 5100, 6900));
  EXPECT_TRUE(holds(edge, 3, 12000, 20000));
  EXPECT_TRUE(holds(edge, 1, 32000, 33536));
}

TEST_F(LeafTest, MemoryIsBouncedWhereTheDriverWantsItAligned) {
  Edge& edge = attach_file("disk", 64 << 10,
                           {.limits = {.request_alignment = 512, .memory_alignment = 512}});
  std::vector<std::byte> memory(8192 + 1);
  testing::fill_pattern(1, 0, std::span(memory).subspan(1));
  ASSERT_TRUE(run(edge.write(0, memory.data() + 1, 8192)));
  std::vector<std::byte> back(8192 + 3);
  ASSERT_TRUE(run(edge.read(0, back.data() + 3, 8192)));
  EXPECT_TRUE(std::equal(back.begin() + 3, back.end(), memory.begin() + 1));
}

TEST_F(LeafTest, LongRequestsAreSplitByMaxTransfer) {
  Edge& edge = attach_file("disk", 64 << 10, {.limits = {.max_transfer = 4096}});
  ASSERT_TRUE(write(edge, 1, 100, 20000));
  EXPECT_TRUE(holds(edge, 1, 100, 20000));
  EXPECT_GE(world_.submitted(IoKind::kWrite), 5U);
}

TEST_F(LeafTest, SplitZeroesAndDiscardsObeyTheirLimits) {
  Edge& edge = attach_file("disk", 64 << 10,
                           {.limits = {.zero_alignment = 1024,
                                       .discard_alignment = 2048,
                                       .max_zeroes = 4096,
                                       .max_discard = 8192}});
  ASSERT_TRUE(write(edge, 1, 0, 64 << 10));
  ASSERT_TRUE(run(edge.write_zeroes(500, 20000)));
  EXPECT_TRUE(holds(edge, 1, 0, 500));
  EXPECT_TRUE(holds(edge, kZeroes, 500, 20000));
  EXPECT_TRUE(holds(edge, 1, 20500, 1000));
  EXPECT_GE(world_.submitted(IoKind::kZero), 4U);
  ASSERT_TRUE(run(edge.discard(30000, 30000)));
  EXPECT_EQ(world_.submitted(IoKind::kDiscard), 4U) << "28 KiB of whole 2 KiB blocks";
  EXPECT_TRUE(holds(edge, 1, 30000, 720)) << "a discard leaves ragged ends alone";
}

TEST_F(LeafTest, ZeroesAreWrittenWhereTheDriverCanNot) {
  Edge& edge = attach_file("disk", 4 << 20, {.can_zero = false});
  ASSERT_TRUE(write(edge, 1, 0, 4 << 20));
  ASSERT_TRUE(run(edge.write_zeroes(100, 3 << 20)));
  EXPECT_TRUE(holds(edge, 1, 0, 100));
  EXPECT_TRUE(holds(edge, kZeroes, 100, 3 << 20));
  const Result<void> strict = run(edge.write_zeroes(0, 4096, {.no_fallback = true}));
  ASSERT_FALSE(strict);
  EXPECT_EQ(strict.error().code(), ENOTSUP);
  EXPECT_TRUE(holds(edge, 1, 0, 100));
}

TEST_F(LeafTest, FuaIsPassedOnWhereTheDriverHasIt) {
  Edge& edge = attach_file("disk", 4096, {.limits = {.native_fua = true}});
  ASSERT_TRUE(write(edge, 1, 0, 512, {.fua = true}));
  EXPECT_EQ(world_.submitted(IoKind::kFlush), 0U);
  EXPECT_EQ(file("disk").disk.durable().read(0, 512), pattern(1, 0, 512));
}

TEST_F(LeafTest, FuaIsAFlushElsewhere) {
  Edge& edge = attach_file("disk", 4096, {.limits = {.native_fua = false}});
  ASSERT_TRUE(write(edge, 1, 0, 512, {.fua = true}));
  EXPECT_EQ(world_.submitted(IoKind::kFlush), 1U);
  EXPECT_EQ(file("disk").disk.durable().read(0, 512), pattern(1, 0, 512));
}

TEST_F(LeafTest, FuaHoldsForZeroesAndUnalignedWrites) {
  for (const bool native : {false, true}) {
    const std::string name = native ? "native" : "emulated";
    Edge& edge =
        attach_file(name, 8192, {.limits = {.request_alignment = 512, .native_fua = native}});
    ASSERT_TRUE(write(edge, 1, 0, 8192));
    ASSERT_TRUE(run(edge.flush()));
    ASSERT_TRUE(run(edge.write_zeroes(0, 1024, {.fua = true})));
    ASSERT_TRUE(write(edge, 2, 1100, 100, {.fua = true}));
    EXPECT_EQ(file(name).disk.durable().read(0, 1024), std::vector<std::byte>(1024));
    EXPECT_EQ(file(name).disk.durable().read(1100, 100), pattern(2, 1100, 100));
  }
}

TEST_F(LeafTest, ADriverThatFlushesForNothingIsNotAsked) {
  Edge& edge = attach_file("disk", 4096);
  ASSERT_TRUE(run(edge.flush()));
  EXPECT_EQ(world_.submitted(IoKind::kFlush), 0U);
  ASSERT_TRUE(write(edge, 1, 0, 512));
  ASSERT_TRUE(run(edge.flush()));
  ASSERT_TRUE(run(edge.flush()));
  EXPECT_EQ(world_.submitted(IoKind::kFlush), 1U);
}

TEST_F(LeafTest, AFailedFlushIsTriedAgain) {
  Edge& edge = attach_file("disk", 4096);
  ASSERT_TRUE(write(edge, 1, 0, 512));
  world_.add_fault({.kind = IoKind::kFlush});
  EXPECT_FALSE(run(edge.flush()));
  EXPECT_TRUE(run(edge.flush()));
  EXPECT_EQ(world_.submitted(IoKind::kFlush), 2U);
}

TEST_F(LeafTest, DiscardsAreIgnoredUnlessTheNodeUnmaps) {
  world_.add("disk", testing::SparseBytes(8192));
  Edge& edge = attach(file_options("disk"));
  ASSERT_TRUE(write(edge, 1, 0, 8192));
  EXPECT_TRUE(run(edge.discard(0, 8192)));
  EXPECT_EQ(world_.submitted(IoKind::kDiscard), 0U);
  EXPECT_TRUE(holds(edge, 1, 0, 8192));
}

TEST_F(LeafTest, ADiscardThatTheDriverCanNotDoSucceeds) {
  Edge& edge = attach_file("disk", 8192, {.can_discard = false});
  EXPECT_TRUE(run(edge.discard(0, 8192)));
}

TEST_F(LeafTest, DetectZeroesTurnsZeroDataIntoZeroRequests) {
  world_.add("disk", testing::SparseBytes(8192));
  auto options = file_options("disk");
  options.detect_zeroes = schema::BlockdevDetectZeroesOptions::kOn;
  Edge& edge = attach(options);
  ASSERT_TRUE(write(edge, kZeroes, 0, 4096));
  ASSERT_TRUE(write(edge, 1, 4096, 4096));
  EXPECT_EQ(world_.submitted(IoKind::kZero), 1U);
  EXPECT_EQ(world_.submitted(IoKind::kWrite), 1U);
}

TEST_F(LeafTest, RequestsBeyondTheEndFailAndReachNoDriver) {
  Edge& edge = attach_file("disk", 8192);
  const std::vector<std::pair<uint64_t, uint64_t>> ranges = {
      {8192, 1}, {8191, 2}, {0, 8193}, {UINT64_MAX, 1}, {UINT64_MAX - 511, 512}, {1 << 30, 512}};
  for (const auto& [offset, length] : ranges) {
    std::vector<std::byte> memory(length);
    for (const Result<void>& result :
         {run(edge.read(offset, memory.data(), length)),
          run(edge.write(offset, memory.data(), length)), run(edge.write_zeroes(offset, length)),
          run(edge.discard(offset, length))}) {
      ASSERT_FALSE(result) << offset;
      EXPECT_EQ(result.error().code(), EIO);
    }
  }
  EXPECT_FALSE(run(edge.write_zeroes(1, UINT64_MAX)));
  EXPECT_FALSE(run(edge.discard(4096, UINT64_MAX - 100)));
  EXPECT_EQ(world_.submitted(), 0U);
}

TEST_F(LeafTest, RequestsOfNoLengthSucceed) {
  Edge& edge = attach_file("disk", 8192);
  EXPECT_TRUE(run(edge.read(8192, io::IoVector())));
  EXPECT_TRUE(run(edge.write(100, io::IoVector())));
  EXPECT_TRUE(run(edge.write_zeroes(0, 0)));
  EXPECT_TRUE(run(edge.discard(8192, 0)));
  EXPECT_EQ(world_.submitted(), 0U);
}

TEST_F(LeafTest, WritingNeedsThePermissionAndAWritableNode) {
  Edge& reader = attach_file("disk", 8192, {}, kReader);
  EXPECT_EQ(write(reader, 1, 0, 512).error().code(), EPERM);
  EXPECT_EQ(run(reader.write_zeroes(0, 512)).error().code(), EPERM);
  EXPECT_EQ(run(reader.resize(100)).error().code(), EPERM);
  world_.add("constant", testing::SparseBytes(8192));
  auto options = file_options("constant");
  options.read_only = true;
  Edge& edge = attach(options, kReader);
  EXPECT_EQ(write(edge, 1, 0, 512).error().code(), EACCES);
  EXPECT_EQ(run(edge.discard(0, 512)).error().code(), EACCES);
  EXPECT_EQ(world_.submitted(), 0U);
}

TEST_F(LeafTest, ErrorsKeepTheirErrno) {
  Edge& edge = attach_file("disk", 8192);
  world_.add_fault({.kind = IoKind::kWrite, .error = ENOSPC});
  world_.add_fault({.kind = IoKind::kRead, .error = EBADMSG});
  EXPECT_EQ(write(edge, 1, 0, 512).error().code(), ENOSPC);
  std::vector<std::byte> memory(512);
  EXPECT_EQ(run(edge.read(0, memory.data(), 512)).error().code(), EBADMSG);
}

TEST_F(LeafTest, AFileThatEndsInsideASectorReadsAsFilledUp) {
  testing::SparseBytes content;
  content.write(0, pattern(1, 0, 700));
  world_.add("odd", content);
  Edge& edge = attach(file_options("odd"));
  EXPECT_EQ(edge.length(), 1024U);
  auto expected = pattern(1, 0, 700);
  expected.resize(1024);
  EXPECT_EQ(read(edge, 0, 1024), expected);
}

io::Task<void> spawn_write(Edge& edge, uint64_t offset, std::vector<std::byte> data,
                           int& failures) {
  const Result<void> result = co_await edge.write(offset, data.data(), data.size());
  failures += result ? 0 : 1;
}

io::Task<void> spawn_zero(Edge& edge, uint64_t offset, uint64_t length, int& failures) {
  const Result<void> result = co_await edge.write_zeroes(offset, length);
  failures += result ? 0 : 1;
}

io::Task<void> spawn_discard(Edge& edge, uint64_t offset, uint64_t length, int& failures) {
  const Result<void> result = co_await edge.discard(offset, length);
  failures += result ? 0 : 1;
}

// Neighbours in one block must not undo each other, however their requests overtake.
TEST_F(LeafTest, ConcurrentRequestsToOneBlockDoNotUndoEachOther) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    testing::Random random(seed);
    const std::string name = "disk" + std::to_string(seed);
    Edge& edge = attach_file(
        name, 16384,
        {.limits = {.request_alignment = 4096,
                    .zero_alignment = static_cast<uint32_t>(random.pick({1, 512, 4096}))}});
    world_.set_delays(std::chrono::microseconds(10));
    ASSERT_TRUE(write(edge, 99, 0, 16384));
    int failures = 0;
    io::TaskGroup group;
    std::vector<testing::WriteNumber> expected;
    for (uint64_t piece = 0; piece < 16; ++piece) {
      const uint64_t offset = piece * 1024;
      if (random.chance(30)) {
        group.spawn(spawn_zero(edge, offset, 1024, failures));
        expected.push_back(kZeroes);
      } else {
        group.spawn(spawn_write(edge, offset, pattern(piece + 1, offset, 1024), failures));
        expected.push_back(piece + 1);
      }
    }
    run(group.join());
    world_.set_delays({});
    ASSERT_EQ(failures, 0);
    for (uint64_t piece = 0; piece < 16; ++piece) {
      ASSERT_TRUE(holds(edge, expected[piece], piece * 1024, 1024))
          << "seed " << seed << ", piece " << piece << ": "
          << testing::describe_data(piece * 1024, read(edge, piece * 1024, 1024));
    }
  }
}

TEST_F(LeafTest, AResizeRunsAlone) {
  Permissions resizer = kWriter;
  resizer.used |= PermissionSet::kResize;
  Edge& edge = attach_file("disk", 64 << 10, {}, resizer);
  world_.set_delays(std::chrono::microseconds(10));
  int failures = 0;
  io::TaskGroup group;
  for (int i = 0; i < 8; ++i) {
    group.spawn(spawn_write(edge, 0, pattern(1, 0, 4096), failures));
    group.spawn(spawn_discard(edge, 8192, 4096, failures));
  }
  ASSERT_TRUE(run(edge.resize(128 << 10)));
  EXPECT_EQ(edge.node().requests_in_flight(), 0U);
  run(group.join());
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(edge.length(), 128U << 10);
}

}  // namespace
}  // namespace cairn::block
