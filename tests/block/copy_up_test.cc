// Engine::copy_up(): what an image gets of its own, and what it leaves alone.
#include <cerrno>

#include "block/engine.h"
#include "io/task_group.h"
#include "tests/block/block_test.h"

namespace cairn::block {
namespace {

using testing::IoKind;
using testing::kZeroes;

constexpr Permissions kCopier{
    .used = PermissionSet::kConsistentRead | PermissionSet::kWriteUnchanged,
    .shared = PermissionSet::all()};

class CopyUpTest : public BlockTest {
 protected:
  // "top" over "base", which holds write 1 in its first `units`.
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
  Result<void> copy_up(Edge& edge, uint64_t offset, uint64_t length) {
    return run(Engine::copy_up(edge, offset, length));
  }
  bool is_own(Edge& edge, uint64_t offset) {
    const auto status = run(edge.status(offset, kUnit));
    return status && status->allocated;
  }
};

TEST_F(CopyUpTest, FillsHolesAndNothingElse) {
  Edge& top = attach_chain(8);
  ASSERT_TRUE(write(top, 2, 3 * kUnit, kUnit));
  ASSERT_TRUE(copy_up(top, 0, 6 * kUnit));
  for (uint64_t unit = 0; unit < 8; ++unit) {
    EXPECT_EQ(is_own(top, unit * kUnit), unit < 6) << unit;
    EXPECT_TRUE(holds(top, unit == 3 ? 2 : 1, unit * kUnit, kUnit)) << unit;
  }
}

TEST_F(CopyUpTest, DoesNothingWhereThereIsNothingToDo) {
  Edge& top = attach_chain(2);
  ASSERT_TRUE(copy_up(top, 0, 2 * kUnit));
  const uint64_t written = world_.submitted(IoKind::kWrite);
  ASSERT_TRUE(copy_up(top, 0, 2 * kUnit));
  EXPECT_EQ(world_.submitted(IoKind::kWrite), written);
}

TEST_F(CopyUpTest, AWriteAtTheSameTimeIsNeverOverwritten) {
  Edge& top = attach_chain(8);
  world_.set_delays(std::chrono::milliseconds(1));
  for (uint64_t unit = 0; unit < 8; ++unit) {
    const auto data = pattern(5, unit * kUnit, kUnit);
    const auto both = [](Edge& edge, const std::vector<std::byte>& bytes,
                         uint64_t offset) -> io::Task<void> {
      io::TaskGroup group;
      group.spawn([](Edge& to, uint64_t at) -> io::Task<void> {
        EXPECT_TRUE(co_await Engine::copy_up(to, at, kUnit));
      }(edge, offset));
      group.spawn([](Edge& to, const std::vector<std::byte>& what, uint64_t at) -> io::Task<void> {
        EXPECT_TRUE(co_await to.write(at, what.data(), what.size()));
      }(edge, bytes, offset));
      co_await group.join();
    };
    run(both(top, data, unit * kUnit));
    EXPECT_TRUE(holds(top, 5, unit * kUnit, kUnit)) << unit;
  }
}

TEST_F(CopyUpTest, AFailureLeavesAHole) {
  Edge& top = attach_chain(4);
  world_.add_fault({.kind = IoKind::kRead, .file = "base", .error = EIO});
  EXPECT_EQ(copy_up(top, 0, kUnit).error().code(), EIO);
  world_.add_fault({.kind = IoKind::kWrite, .file = "top", .error = ENOSPC});
  EXPECT_EQ(copy_up(top, 0, kUnit).error().code(), ENOSPC);
  EXPECT_FALSE(is_own(top, 0));
  EXPECT_TRUE(holds(top, 1, 0, 4 * kUnit));
}

TEST_F(CopyUpTest, NeedsThePermissionToWriteWhatIsThere) {
  Edge& top = attach_chain(4);
  auto reader = graph_.attach(top.shared_node(), "a reader", kReader);
  ASSERT_TRUE(reader);
  EXPECT_EQ(copy_up(**reader, 0, kUnit).error().code(), EPERM);
  EXPECT_TRUE(run(graph_.detach(std::move(*reader))));
  auto copier = graph_.attach(top.shared_node(), "a copier", kCopier);
  ASSERT_TRUE(copier);
  EXPECT_TRUE(copy_up(**copier, 0, kUnit));
  EXPECT_TRUE(run(graph_.detach(std::move(*copier))));
}

}  // namespace
}  // namespace cairn::block
