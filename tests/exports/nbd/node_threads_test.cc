// Which thread nodes belong to, as exports of them come and go.
#include "exports/node_threads.h"

#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "io/reactor_thread.h"
#include "schema/types_block_export.h"
#include "tests/exports/nbd/harness.h"

namespace cairn::testing {
namespace {

using exports::RemoveMode;
using exports::Thread;

constexpr auto kStays = "Cannot change iothread of active block backend";

class NodeThreadsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (Thread& thread : threads_) {
      auto made = io::ReactorThread::start("cairn-test", io::BackendKind::kEpoll, {});
      ASSERT_TRUE(made.has_value());
      const std::shared_ptr<io::ReactorThread> shared = std::move(*made);
      thread = {shared, &shared->reactor()};
    }
    harness_.registry().set_find_thread([this](const std::string& name) -> Result<Thread> {
      return name == "a" ? threads_[0] : threads_[1];
    });
    harness_.start();
    disk_ = harness_.graph().find("disk");
  }
  // The error, if there is one.
  std::string add(const std::string& name, const std::string& thread, bool fixed = false) {
    schema::BlockExportOptions options;
    options.type = schema::BlockExportType::kNbd;
    options.id = name;
    options.node_name = "disk";
    if (!thread.empty()) {
      options.iothread = thread;
    }
    options.fixed_iothread = fixed;
    schema::BlockExportOptionsNbd own;
    own.name = name;
    options.branch = std::move(own);
    const auto added = harness_.reactor().block_on(harness_.registry().add(options));
    return added ? "" : added.error().message();
  }
  void remove(const std::string& name) {
    ASSERT_TRUE(harness_.registry().remove(name, RemoveMode::kHard));
    ASSERT_TRUE(harness_.until([&] { return !harness_.deleted().empty(); }));
  }
  [[nodiscard]] Thread thread() { return harness_.registry().threads().of(*disk_); }

  Thread threads_[2];
  NbdHarness harness_;
  std::shared_ptr<block::Node> disk_;
};

TEST_F(NodeThreadsTest, ANodeGoesWithItsExports) {
  EXPECT_EQ(thread(), nullptr);
  EXPECT_EQ(add("one", "a"), "");
  EXPECT_EQ(thread(), threads_[0]);
  EXPECT_EQ(add("two", "b"), "");
  EXPECT_EQ(thread(), threads_[1]);
  remove("one");
  EXPECT_EQ(thread(), nullptr);
}

TEST_F(NodeThreadsTest, AFixedExportKeepsItsNode) {
  EXPECT_EQ(add("one", "a", true), "");
  EXPECT_EQ(add("two", "b", true), kStays);
  EXPECT_EQ(add("three", "b"), "");  // is served there all the same
  EXPECT_EQ(add("four", "", true), "");
  EXPECT_EQ(thread(), threads_[0]);
  const auto moved = harness_.registry().threads().move(disk_, nullptr);
  ASSERT_FALSE(moved);
  EXPECT_EQ(moved.error().message(), kStays);
  EXPECT_TRUE(harness_.registry().threads().move(disk_, threads_[0]));
  remove("one");
  EXPECT_EQ(thread(), threads_[0]);  // "four" stays, and keeps it
}

TEST_F(NodeThreadsTest, AnExportThatCanNotBeMadeTakesItsNodeNowhere) {
  EXPECT_EQ(add("one", ""), "");
  schema::BlockExportOptions options;
  options.type = schema::BlockExportType::kNbd;
  options.id = "two";
  options.node_name = "disk";
  options.iothread = "a";
  schema::BlockExportOptionsNbd own;
  own.name = "one";  // there is one of that name
  options.branch = std::move(own);
  EXPECT_FALSE(harness_.reactor().block_on(harness_.registry().add(options)));
  EXPECT_EQ(thread(), nullptr);
}

TEST_F(NodeThreadsTest, ANodeWhoseThreadIsGoneIsAtHome) {
  EXPECT_TRUE(harness_.registry().threads().move(disk_, threads_[0]));
  EXPECT_EQ(thread(), threads_[0]);
  threads_[0] = nullptr;
  EXPECT_EQ(thread(), nullptr);
}

}  // namespace
}  // namespace cairn::testing
