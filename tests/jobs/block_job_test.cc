// What jobs on nodes have in common: the nodes they keep, speed, errors, and filters of their own.
#include "jobs/block_job.h"

#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "filters/filter_driver.h"
#include "io/timer.h"
#include "jobs/filter_node.h"
#include "jobs/job_list.h"
#include "tests/block/block_test.h"

namespace cairn::jobs {
namespace {

using block::PermissionSet;

constexpr uint64_t kPiece = 1000;

// Works through `pieces` at its speed; each of the errors befalls the next piece.
class PieceJob final : public BlockJob {
 public:
  PieceJob(block::Graph& graph, int64_t speed)
      : BlockJob({.id = "j", .type = schema::JobType::kStream, .auto_dismiss = false}, graph,
                 speed) {}

  int pieces = 1;
  std::vector<int> errors;
  schema::BlockdevOnError policy = schema::BlockdevOnError::kReport;

 private:
  io::Task<Result<void>> run() override {
    set_total(static_cast<uint64_t>(pieces) * kPiece);
    while (done() < total()) {
      co_await may_go_on();
      if (cancelled()) {
        co_return fail(ECANCELED, "cancelled");
      }
      if (!errors.empty()) {
        Error error = Error::from_errno(errors.back());
        errors.pop_back();
        const auto action = on_error(policy, schema::IoOperationType::kWrite, error);
        if (action == schema::BlockErrorAction::kReport) {
          co_return std::unexpected(std::move(error));
        }
        continue;
      }
      add_done(kPiece);
      charge(kPiece);
    }
    co_return Result<void>();
  }
};

constexpr block::DriverInfo kFilterInfo{.name = "test_filter",
                                        .kind = block::DriverInfo::Kind::kFilter};

class BlockJobTest : public block::BlockTest {
 protected:
  BlockJobTest() {
    JobEvents events;
    events.error = [this](const BlockJob&, schema::IoOperationType,
                          schema::BlockErrorAction action) {
      actions_.emplace_back(schema::to_string(action));
    };
    events.status = [this](const Job& job) {
      states_.emplace_back(schema::to_string(job.status()));
    };
    list_.set_events(std::move(events));
  }
  void TearDown() override {
    run(list_.close());
    BlockTest::TearDown();
  }

  std::unique_ptr<PieceJob> make(int64_t speed = 0) {
    return std::make_unique<PieceJob>(graph_, speed);
  }
  void settle() { run(settled()); }
  static io::Task<void> settled() {
    for (int i = 0; i < 10; ++i) {
      co_await io::yield_now();
    }
  }
  void pass_time(int seconds) { run(asleep(seconds)); }
  static io::Task<void> asleep(int seconds) {
    static_cast<void>(co_await io::sleep_for(std::chrono::seconds(seconds)));
  }
  [[nodiscard]] const BlockJob& job() const { return *list_.find_block_job("j"); }
  std::shared_ptr<block::Node> insert(const std::shared_ptr<block::Node>& below, std::string name) {
    block::NewFilter wanted;
    wanted.info = &kFilterInfo;
    wanted.name = std::move(name);
    wanted.make = [](block::Edge& child) { return std::make_unique<filters::FilterDriver>(child); };
    auto filter = run(insert_filter(graph_, below, std::move(wanted)));
    error_ = filter ? "" : filter.error().message();
    return filter ? *filter : nullptr;
  }

  std::vector<std::string> actions_;
  std::vector<std::string> states_;
  std::string error_;
  JobList list_;
};

using Texts = std::vector<std::string>;

TEST_F(BlockJobTest, KeepsItsSpeed) {
  auto job_to_run = make(kPiece);
  job_to_run->pieces = 10;
  list_.start(std::move(job_to_run));
  settle();
  EXPECT_EQ(job().done(), kPiece) << "the first piece is free";
  EXPECT_FALSE(job().busy());
  pass_time(3);
  EXPECT_GE(job().done(), 3 * kPiece);
  EXPECT_LE(job().done(), 5 * kPiece);
  EXPECT_TRUE(list_.set_speed("j", 0));
  settle();
  EXPECT_EQ(job().done(), 10 * kPiece);
  EXPECT_EQ(job().status(), schema::JobStatus::kConcluded);
}

TEST_F(BlockJobTest, PausesAndEndsAtOnceHoweverSlowItIs) {
  auto job_to_run = make(1);
  job_to_run->pieces = 10;
  list_.start(std::move(job_to_run));
  settle();
  EXPECT_TRUE(list_.pause("j"));
  settle();
  EXPECT_EQ(job().status(), schema::JobStatus::kPaused);
  EXPECT_TRUE(list_.resume("j"));
  settle();
  EXPECT_EQ(job().status(), schema::JobStatus::kRunning);
  EXPECT_EQ(job().done(), kPiece) << "being paused pays for nothing";
  EXPECT_TRUE(list_.cancel("j"));
  settle();
  EXPECT_EQ(job().status(), schema::JobStatus::kConcluded);
}

TEST_F(BlockJobTest, WhoIsNotPausedIsNotResumedWhateverItsState) {
  list_.start(make());
  settle();
  const auto resumed = list_.resume("j");
  ASSERT_FALSE(resumed);
  EXPECT_EQ(resumed.error().message(), "Can't resume a job that was not paused");
  const auto faster = list_.set_speed("j", -1);
  ASSERT_FALSE(faster);
  EXPECT_EQ(faster.error().message(),
            "Job 'j' in state 'concluded' cannot accept command verb 'set-speed'");
}

TEST_F(BlockJobTest, AnAnnouncedJobHasItsName) {
  PieceJob job(graph_, 0);
  ASSERT_TRUE(list_.announce(job));
  EXPECT_EQ(job.status(), schema::JobStatus::kCreated);
  const auto taken = list_.check_id("j");
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().message(), "Job ID 'j' already in use");
  list_.withdraw(job);
  EXPECT_EQ(job.status(), schema::JobStatus::kNull);
  EXPECT_TRUE(list_.check_id("j"));
}

TEST_F(BlockJobTest, ReportingAnErrorEndsIt) {
  auto job_to_run = make();
  job_to_run->errors = {EIO};
  list_.start(std::move(job_to_run));
  settle();
  EXPECT_EQ(actions_, Texts{"report"});
  EXPECT_EQ(job().error()->code(), EIO);
  EXPECT_EQ(job().io_status(), schema::BlockDeviceIoStatus::kOk);
}

TEST_F(BlockJobTest, IgnoringAnErrorTriesAgain) {
  auto job_to_run = make();
  job_to_run->errors = {EIO, ENOSPC};
  job_to_run->policy = schema::BlockdevOnError::kIgnore;
  list_.start(std::move(job_to_run));
  settle();
  EXPECT_EQ(actions_, (Texts{"ignore", "ignore"}));
  EXPECT_FALSE(job().error());
}

TEST_F(BlockJobTest, StoppingWaitsToBeResumed) {
  auto job_to_run = make();
  job_to_run->errors = {EIO, ENOSPC};
  job_to_run->policy = schema::BlockdevOnError::kStop;
  list_.start(std::move(job_to_run));
  settle();
  EXPECT_EQ(job().io_status(), schema::BlockDeviceIoStatus::kNospace);
  EXPECT_EQ(states_, (Texts{"created", "running", "paused"}));
  EXPECT_TRUE(list_.resume("j"));
  EXPECT_EQ(job().io_status(), schema::BlockDeviceIoStatus::kOk);
  settle();
  EXPECT_EQ(job().io_status(), schema::BlockDeviceIoStatus::kFailed);
  EXPECT_TRUE(list_.resume("j"));
  settle();
  EXPECT_EQ(actions_, (Texts{"stop", "stop"}));
  EXPECT_FALSE(job().error());
  EXPECT_EQ(job().done(), kPiece);
}

TEST_F(BlockJobTest, OnlyLackOfRoomStopsItWithEnospc) {
  auto job_to_run = make();
  job_to_run->errors = {EIO, ENOSPC};
  job_to_run->policy = schema::BlockdevOnError::kEnospc;
  list_.start(std::move(job_to_run));
  settle();
  EXPECT_TRUE(list_.resume("j"));
  settle();
  EXPECT_EQ(actions_, (Texts{"stop", "report"}));
  EXPECT_EQ(job().error()->code(), EIO);
}

TEST_F(BlockJobTest, ItsNodesStayAndAreNotFree) {
  block::Edge& top = attach_format();
  const std::shared_ptr<block::Node> node = top.shared_node();
  auto job_to_run = make(1);
  job_to_run->pieces = 2;
  const block::Permissions nobody_resizes{.shared =
                                              PermissionSet::all().without(PermissionSet::kResize)};
  EXPECT_TRUE(job_to_run->keep("main node", node, nobody_resizes));
  EXPECT_TRUE(list_.check_free(*node));
  list_.start(std::move(job_to_run));
  const Result<void> busy = list_.check_free(*node);
  ASSERT_FALSE(busy);
  EXPECT_EQ(busy.error().message(),
            "Node '" + node->name() + "' is busy: block device is in use by block job: stream");
  const auto resizer = graph_.attach(node, "", {.used = PermissionSet::kResize});
  ASSERT_FALSE(resizer);
  EXPECT_EQ(
      resizer.error().message(),
      "Permission conflict on node '" + node->name() +
          "': permissions 'resize' are both required by an unnamed block device (uses node '" +
          node->name() + "' as 'root' child) and unshared by stream job 'j' (uses node '" +
          node->name() + "' as 'main node' child).");
  EXPECT_TRUE(list_.cancel("j"));
  settle();
  EXPECT_TRUE(list_.check_free(*node));
}

TEST_F(BlockJobTest, AFilterComesBetweenANodeAndItsUsersAndGoesAgain) {
  block::Edge& top = attach_format();
  const std::shared_ptr<block::Node> below = top.shared_node();
  const std::string text(block::BlockTest::kUnit, 'x');
  ASSERT_TRUE(run(top.write(0, text.data(), text.size())));
  std::shared_ptr<block::Node> filter = insert(below, "flt");
  ASSERT_NE(filter, nullptr) << error_;
  EXPECT_EQ(&top.node(), filter.get());
  EXPECT_EQ(graph_.find("flt"), filter);
  std::string read(text.size(), 0);
  ASSERT_TRUE(run(top.read(0, read.data(), read.size())));
  EXPECT_EQ(read, text);
  const auto status = run(top.chain_status(0, text.size()));
  ASSERT_TRUE(status);
  EXPECT_TRUE(status->status.allocated);
  EXPECT_EQ(status->depth, 0) << "a filter is no layer";
  EXPECT_TRUE(run(bypass_filter(graph_, std::move(filter))));
  EXPECT_EQ(&top.node(), below.get());
  EXPECT_EQ(graph_.find("flt"), nullptr);
}

TEST_F(BlockJobTest, AFilterThatCanNotBeNamedChangesNothing) {
  block::Edge& top = attach_format();
  const std::size_t nodes = graph_.nodes().size();
  EXPECT_EQ(insert(top.shared_node(), "a b"), nullptr);
  EXPECT_EQ(error_, "Could not create node: Invalid node-name: 'a b'");
  EXPECT_EQ(graph_.nodes().size(), nodes);
}

}  // namespace
}  // namespace cairn::jobs
