// Job: a long operation that is watched and steered from outside while it runs.
//
// A job goes through the states of schema::JobStatus:
//
//   created ─► running ─► waiting ─► pending ─► concluded ─► null
//                │ ▲         │          │            ▲
//                ▼ │         ▼          ▼            │
//               paused    failed, or cancelled: aborting
//
// and, if it is of the kind that keeps a copy in step, from running to ready (paused: standby).
//
// What a kind of job does is in the virtual functions; when they are called, and which command is
// allowed in which state, is the affair of JobList (jobs/job_list.h), which owns the jobs. Jobs
// that end together are a JobGroup (jobs/job_group.h). All of it happens on the home reactor.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "io/backend.h"
#include "io/cancel.h"
#include "io/event.h"
#include "io/task.h"
#include "schema/types_job.h"

namespace cairn::jobs {

class JobGroup;
class JobList;

// Who holds the drain that a change of the graph needs: whoever asks (inside Graph::Alone), or
// nobody yet.
enum class InDrain : uint8_t { kNo, kYes };

struct JobSettings {
  std::string id;  // well-formed, and nobody else's
  schema::JobType type = schema::JobType::kCreate;
  bool auto_finalize = true;  // false: waits in "pending" for the finalize command
  bool auto_dismiss = true;   // false: waits in "concluded" for the dismiss command
};

class Job {
 public:
  explicit Job(JobSettings settings) : settings_(std::move(settings)) {}
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
  virtual ~Job() = default;

  [[nodiscard]] const std::string& id() const { return settings_.id; }
  [[nodiscard]] schema::JobType type() const { return settings_.type; }
  [[nodiscard]] const JobSettings& settings() const { return settings_; }
  [[nodiscard]] schema::JobStatus status() const { return status_; }
  // Of what there is to do, in units of the job's own; neither ever goes back.
  [[nodiscard]] uint64_t done() const { return done_; }
  [[nodiscard]] uint64_t total() const { return total_; }
  // Why it failed; nothing as long as it has not.
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }
  [[nodiscard]] bool cancelled() const { return cancel_.cancelled(); }
  // Somebody wants it to pause, whether it has come to do so or not.
  [[nodiscard]] bool pause_wanted() const { return !resumed_.is_set(); }
  // At its work: not paused, not waiting for its rate limit, and not done.
  [[nodiscard]] bool busy() const { return idle_ == 0 && !ran_; }
  [[nodiscard]] bool ready() const;

 protected:
  // The work. Ends early, with any error, when it is cancelled; comes by pause_point() now and
  // then.
  [[nodiscard]] virtual io::Task<Result<void>> run() = 0;
  // Makes the outcome final: called once all jobs of the group have done their work and have been
  // finalized. A failure fails them all. Not cancelled any more.
  [[nodiscard]] virtual io::Task<Result<void>> prepare();
  // Then, when it failed nowhere. There is no way back.
  [[nodiscard]] virtual io::Task<void> commit();
  // In its place after a failure, here or elsewhere in the group, or a cancellation: undoes what
  // should not stay. Also for a job that has never run.
  [[nodiscard]] virtual io::Task<void> abort();
  // After either: lets go of what the job holds.
  [[nodiscard]] virtual io::Task<void> clean();

  // What the complete command asks for, in the states "ready" and "standby" alone.
  [[nodiscard]] virtual Result<void> complete();
  // A cancellation without force of a job that is ready: true when the job comes to a good end by
  // it, with what it has done so far. False, the default, has it cancelled.
  [[nodiscard]] virtual bool end_softly() { return false; }
  // Somebody has resumed it.
  virtual void on_resume() {}

  // Progress.
  void set_total(uint64_t total) { total_ = total > total_ ? total : total_; }
  void add_done(uint64_t units);

  // From running to ready: it has caught up, and goes on until it is told to complete.
  void become_ready();

  // For what the job waits for.
  [[nodiscard]] io::CancelToken cancel_token() { return cancel_.token(); }
  // Where the job can be paused: waits while it is to be. Any number of its tasks may come here.
  [[nodiscard]] io::Task<void> pause_point();
  // Waits for a time, or less: wake_sleepers() ends it, as do pausing and cancelling.
  [[nodiscard]] io::Task<void> sleep_until(io::TimePoint when);
  void wake_sleepers();
  // Has the job pause as if somebody had asked for it, who has to resume it.
  void pause_itself() { resumed_.reset(); }

  [[nodiscard]] JobList& list() const { return *list_; }
  // For what abort() and clean() do to the graph.
  [[nodiscard]] InDrain drain() const { return drain_; }
  void set_drain(InDrain drain) { drain_ = drain; }

 private:
  friend class JobList;

  JobSettings settings_;
  schema::JobStatus status_ = schema::JobStatus::kUndefined;
  uint64_t done_ = 0;
  uint64_t total_ = 0;
  std::optional<Error> error_;
  io::CancelSource cancel_;
  io::Event resumed_{true};
  int idle_ = 0;    // tasks that are paused or asleep
  int paused_ = 0;  // tasks that are paused
  std::vector<io::CancelSource*> sleepers_;
  std::shared_ptr<JobGroup> group_;
  JobList* list_ = nullptr;
  InDrain drain_ = InDrain::kNo;
  bool ran_ = false;  // run() is over, or will never be called
};

}  // namespace cairn::jobs
