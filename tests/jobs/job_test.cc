// The states of jobs, and which command each of them takes.
#include "jobs/job.h"

#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "io/reactor.h"
#include "io/timer.h"
#include "jobs/job_list.h"

namespace cairn::jobs {
namespace {

// What happens to a job, for the test to look at after the job is gone.
struct Trail {
  std::vector<std::string> steps;
  io::Event go_on;
};

class StepJob final : public Job {
 public:
  StepJob(JobSettings settings, Trail& trail) : Job(std::move(settings)), trail_(trail) {}

  Result<void> outcome;
  Result<void> prepare_outcome;
  bool waits = false;
  bool gets_ready = false;
  bool ends_softly = false;

 private:
  io::Task<Result<void>> run() override {
    set_total(2);
    add_done(1);
    if (waits) {
      static_cast<void>(co_await trail_.go_on.wait(cancel_token()));
    }
    co_await pause_point();
    add_done(1);
    if (gets_ready) {
      become_ready();
      while (!completed_.is_set() && !cancelled()) {
        co_await pause_point();
        static_cast<void>(co_await completed_.wait(cancel_token()));
        co_await pause_point();
      }
    }
    trail_.steps.emplace_back("run");
    co_return outcome;
  }
  io::Task<Result<void>> prepare() override {
    trail_.steps.emplace_back("prepare");
    co_return prepare_outcome;
  }
  io::Task<void> commit() override {
    trail_.steps.emplace_back("commit");
    co_return;
  }
  io::Task<void> abort() override {
    trail_.steps.emplace_back("abort");
    co_return;
  }
  io::Task<void> clean() override {
    trail_.steps.emplace_back("clean");
    co_return;
  }
  Result<void> complete() override {
    completed_.set();
    return {};
  }
  bool end_softly() override {
    if (ends_softly) {
      completed_.set();
    }
    return ends_softly;
  }

  Trail& trail_;
  io::Event completed_;
};

class JobTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto reactor = io::Reactor::create(io::BackendKind::kEpoll);
    ASSERT_TRUE(reactor);
    reactor_ = std::move(*reactor);
    JobEvents events;
    events.status = [this](const Job& job) {
      states_.push_back(job.id() + " " + std::string(schema::to_string(job.status())));
    };
    events.ready = [this](const Job& job) { states_.push_back(job.id() + " READY"); };
    events.pending = [this](const Job& job) { states_.push_back(job.id() + " PENDING"); };
    events.ended = [this](const Job& job) { states_.push_back(job.id() + " ENDED"); };
    list_.set_events(std::move(events));
  }
  void TearDown() override { reactor_->block_on(list_.close()); }

  std::unique_ptr<StepJob> make(const std::string& id, bool auto_finalize = true,
                                bool auto_dismiss = false) {
    return std::make_unique<StepJob>(
        JobSettings{.id = id, .auto_finalize = auto_finalize, .auto_dismiss = auto_dismiss},
        trail_);
  }
  // Lets everything happen that can.
  void settle() { reactor_->block_on(settled()); }
  static io::Task<void> settled() {
    for (int i = 0; i < 10; ++i) {
      co_await io::yield_now();
    }
  }
  static std::string message(const Result<void>& result) {
    return result ? "" : result.error().message();
  }
  [[nodiscard]] std::vector<std::string> take_states() { return std::exchange(states_, {}); }

  std::unique_ptr<io::Reactor> reactor_;
  Trail trail_;
  std::vector<std::string> states_;
  JobList list_;
};

using States = std::vector<std::string>;

TEST_F(JobTest, SuccessGoesThroughAllStatesAndStaysUntilDismissed) {
  list_.start(make("j"));
  settle();
  EXPECT_EQ(take_states(),
            (States{"j created", "j running", "j waiting", "j pending", "j ENDED", "j concluded"}));
  EXPECT_EQ(trail_.steps, (States{"run", "prepare", "commit", "clean"}));
  ASSERT_EQ(list_.jobs().size(), 1u);
  EXPECT_EQ(list_.jobs()[0]->done(), 2u);
  EXPECT_EQ(list_.jobs()[0]->total(), 2u);
  EXPECT_FALSE(list_.jobs()[0]->error());
  EXPECT_TRUE(list_.dismiss("j"));
  EXPECT_EQ(take_states(), States{"j null"});
  EXPECT_TRUE(list_.jobs().empty());
  EXPECT_EQ(message(list_.dismiss("j")), "Job not found");
}

TEST_F(JobTest, AJobThatDismissesItselfIsGone) {
  list_.start(make("j", true, true));
  settle();
  EXPECT_EQ(states_.back(), "j null");
  EXPECT_TRUE(list_.jobs().empty());
}

TEST_F(JobTest, FailureAborts) {
  auto job = make("j");
  job->outcome = fail(ENOSPC, "No room");
  list_.start(std::move(job));
  settle();
  EXPECT_EQ(take_states(),
            (States{"j created", "j running", "j aborting", "j ENDED", "j concluded"}));
  EXPECT_EQ(trail_.steps, (States{"run", "abort", "clean"}));
  EXPECT_EQ(list_.jobs()[0]->error()->message(), "No room");
}

TEST_F(JobTest, FailureOfTheLastStepAborts) {
  auto job = make("j");
  job->prepare_outcome = fail(EIO, "Too late");
  list_.start(std::move(job));
  settle();
  EXPECT_EQ(take_states(), (States{"j created", "j running", "j waiting", "j pending", "j aborting",
                                   "j ENDED", "j concluded"}));
  EXPECT_EQ(trail_.steps, (States{"run", "prepare", "abort", "clean"}));
  EXPECT_EQ(list_.jobs()[0]->error()->message(), "Too late");
}

TEST_F(JobTest, WaitsToBeFinalized) {
  list_.start(make("j", false));
  settle();
  EXPECT_EQ(states_.back(), "j PENDING");
  EXPECT_EQ(trail_.steps, States{"run"});
  EXPECT_EQ(message(list_.pause("j")),
            "Job 'j' in state 'pending' cannot accept command verb 'pause'");
  EXPECT_EQ(message(list_.dismiss("j")),
            "Job 'j' in state 'pending' cannot accept command verb 'dismiss'");
  EXPECT_TRUE(list_.finalize("j"));
  settle();
  EXPECT_EQ(states_.back(), "j concluded");
  EXPECT_EQ(trail_.steps, (States{"run", "prepare", "commit", "clean"}));
}

TEST_F(JobTest, CanBeCancelledWhileItWaitsToBeFinalized) {
  list_.start(make("j", false));
  settle();
  EXPECT_TRUE(list_.cancel("j"));
  settle();
  EXPECT_EQ(trail_.steps, (States{"run", "abort", "clean"}));
  EXPECT_EQ(list_.jobs()[0]->error()->code(), ECANCELED);
}

TEST_F(JobTest, CanBeCancelledWhileItRuns) {
  auto job = make("j");
  job->waits = true;
  list_.start(std::move(job));
  settle();
  EXPECT_EQ(states_.back(), "j running");
  EXPECT_TRUE(list_.cancel("j"));
  settle();
  EXPECT_EQ(take_states(),
            (States{"j created", "j running", "j aborting", "j ENDED", "j concluded"}));
  EXPECT_EQ(list_.jobs()[0]->error()->message(), "Operation canceled");
}

TEST_F(JobTest, PausesWhereItCanAndGoesOn) {
  auto job = make("j");
  job->waits = true;
  list_.start(std::move(job));
  settle();
  EXPECT_TRUE(list_.pause("j"));
  EXPECT_EQ(message(list_.pause("j")), "Job is already paused");
  settle();
  EXPECT_EQ(states_.back(), "j running") << "it has not come to such a place yet";
  trail_.go_on.set();
  settle();
  EXPECT_EQ(states_.back(), "j paused");
  EXPECT_TRUE(list_.resume("j"));
  EXPECT_EQ(message(list_.resume("j")), "Can't resume a job that was not paused");
  settle();
  EXPECT_EQ(take_states(), (States{"j created", "j running", "j paused", "j running", "j waiting",
                                   "j pending", "j ENDED", "j concluded"}));
}

TEST_F(JobTest, CanBeCancelledWhileItIsPaused) {
  auto job = make("j");
  job->waits = true;
  list_.start(std::move(job));
  EXPECT_TRUE(list_.pause("j"));
  trail_.go_on.set();
  settle();
  EXPECT_EQ(states_.back(), "j paused");
  EXPECT_TRUE(list_.cancel("j"));
  settle();
  EXPECT_EQ(states_.back(), "j concluded");
  EXPECT_EQ(list_.jobs()[0]->error()->code(), ECANCELED);
}

TEST_F(JobTest, AnEndedJobTakesOneCommandAlone) {
  list_.start(make("j"));
  settle();
  const std::string refusal = "Job 'j' in state 'concluded' cannot accept command verb '";
  EXPECT_EQ(message(list_.cancel("j")), refusal + "cancel'");
  EXPECT_EQ(message(list_.pause("j")), refusal + "pause'");
  EXPECT_EQ(message(list_.resume("j")), "Can't resume a job that was not paused");
  EXPECT_EQ(message(list_.complete("j")), refusal + "complete'");
  EXPECT_EQ(message(list_.finalize("j")), refusal + "finalize'");
}

TEST_F(JobTest, NamesAreCheckedAndTakenOnce) {
  EXPECT_TRUE(list_.check_id("a.b-c_9"));
  for (const char* bad : {"", "1j", "#j", "a b"}) {
    EXPECT_EQ(message(list_.check_id(bad)), std::string("Invalid job ID '") + bad + "'");
  }
  list_.start(make("j"));
  settle();
  EXPECT_EQ(message(list_.check_id("j")), "Job ID 'j' already in use");
}

TEST_F(JobTest, ClosingCancelsWhatRuns) {
  auto job = make("j");
  job->waits = true;
  list_.start(std::move(job));
  list_.start(make("k", false));
  settle();
  reactor_->block_on(list_.close());
  EXPECT_TRUE(list_.jobs().empty());
  EXPECT_EQ(trail_.steps, (States{"run", "run", "abort", "clean", "abort", "clean"}));
}

TEST_F(JobTest, AReadyJobGoesOnUntilItIsTold) {
  auto job = make("j");
  job->gets_ready = true;
  list_.start(std::move(job));
  EXPECT_EQ(message(list_.complete("j")), "");
  settle();
  EXPECT_EQ(take_states(), (States{"j created", "j running", "j ready", "j READY", "j waiting",
                                   "j pending", "j ENDED", "j concluded"}));
}

TEST_F(JobTest, AReadyJobThatIsPausedStandsBy) {
  auto job = make("j");
  job->gets_ready = true;
  list_.start(std::move(job));
  EXPECT_TRUE(list_.pause("j"));
  EXPECT_EQ(message(list_.complete("j")), "");
  settle();
  EXPECT_EQ(states_.back(), "j standby");
  EXPECT_TRUE(list_.resume("j"));
  settle();
  EXPECT_EQ(states_.back(), "j concluded");
  EXPECT_FALSE(list_.jobs()[0]->error());
}

TEST_F(JobTest, ACancellationWithoutForceCanBeAGoodEnd) {
  for (const bool softly : {false, true}) {
    auto job = make("j");
    job->gets_ready = true;
    job->ends_softly = softly;
    list_.start(std::move(job));
    EXPECT_TRUE(list_.cancel("j", false));
    settle();
    EXPECT_EQ(list_.jobs()[0]->error().has_value(), !softly);
    EXPECT_TRUE(list_.dismiss("j"));
  }
}

TEST_F(JobTest, ForceMakesItACancellation) {
  auto job = make("j");
  job->gets_ready = true;
  job->ends_softly = true;
  list_.start(std::move(job));
  EXPECT_TRUE(list_.cancel("j", true));
  settle();
  EXPECT_EQ(list_.jobs()[0]->error()->code(), ECANCELED);
}

TEST_F(JobTest, AJobThatWasNotStartedLeavesNoTrace) {
  Job& job = list_.add(make("j", true, false));
  EXPECT_TRUE(trail_.steps.empty());
  reactor_->block_on(list_.discard(job, InDrain::kNo));
  EXPECT_EQ(take_states(), (States{"j created", "j aborting", "j concluded", "j null"}));
  EXPECT_EQ(trail_.steps, (States{"abort", "clean"}));
  EXPECT_TRUE(list_.jobs().empty());
}

TEST_F(JobTest, JobsOfAGroupWaitForEachOther) {
  const auto group = std::make_shared<JobGroup>();
  auto slow = make("k");
  slow->waits = true;
  Job& first = list_.add(make("j"), group);
  Job& second = list_.add(std::move(slow), group);
  list_.start(first);
  settle();
  EXPECT_EQ(states_.back(), "j waiting") << "the other has not even begun";
  list_.start(second);
  settle();
  EXPECT_EQ(list_.find("j")->status(), schema::JobStatus::kWaiting);
  trail_.go_on.set();
  settle();
  EXPECT_EQ(trail_.steps,
            (States{"run", "run", "prepare", "prepare", "commit", "clean", "commit", "clean"}));
}

TEST_F(JobTest, OneFailureCancelsTheGroup) {
  const auto group = std::make_shared<JobGroup>();
  auto bad = make("k");
  bad->outcome = fail(EIO, "Broken");
  auto waiting = make("l");
  waiting->waits = true;
  for (auto* job : {&list_.add(make("j"), group), &list_.add(std::move(waiting), group),
                    &list_.add(std::move(bad), group)}) {
    list_.start(*job);
  }
  settle();
  for (const char* id : {"j", "l"}) {
    EXPECT_TRUE(list_.find(id)->cancelled()) << id;
    EXPECT_EQ(list_.find(id)->error()->code(), ECANCELED) << id;
  }
  EXPECT_FALSE(list_.find("k")->cancelled());
  EXPECT_EQ(list_.find("k")->error()->message(), "Broken");
}

TEST_F(JobTest, AFailureOfTheLastStepUndoesTheWholeGroup) {
  const auto group = std::make_shared<JobGroup>();
  auto bad = make("k");
  bad->prepare_outcome = fail(EIO, "Broken");
  Job& first = list_.add(make("j"), group);
  Job& second = list_.add(std::move(bad), group);
  list_.start(first);
  list_.start(second);
  settle();
  EXPECT_EQ(trail_.steps,
            (States{"run", "run", "prepare", "prepare", "abort", "clean", "abort", "clean"}));
  EXPECT_EQ(list_.find("j")->error()->code(), ECANCELED);
}

TEST_F(JobTest, FinalizingOneFinalizesTheGroup) {
  const auto group = std::make_shared<JobGroup>();
  Job& first = list_.add(make("j", false), group);
  Job& second = list_.add(make("k"), group);
  list_.start(first);
  list_.start(second);
  settle();
  EXPECT_EQ(list_.find("k")->status(), schema::JobStatus::kPending);
  EXPECT_TRUE(list_.finalize("k"));
  settle();
  EXPECT_EQ(list_.find("j")->status(), schema::JobStatus::kConcluded);
  EXPECT_EQ(list_.find("k")->status(), schema::JobStatus::kConcluded);
}

}  // namespace
}  // namespace cairn::jobs
