// Job: a long operation that is watched and steered from outside while it runs.
//
// A job goes through the states of schema::JobStatus:
//
//   created ─► running ─► waiting ─► pending ─► concluded ─► null
//                │ ▲                    │            ▲
//                ▼ │                    ▼            │
//               paused    failed, or cancelled: aborting
//
// What a kind of job does is in run(), commit() and abort(); when they are called, and which
// command is allowed in which state, is the affair of JobList (jobs/job_list.h), which owns the
// jobs. All of it happens on the home reactor.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "base/result.h"
#include "io/cancel.h"
#include "io/event.h"
#include "io/task.h"
#include "schema/types_job.h"

namespace cairn::jobs {

class JobList;

// The commands that a state may forbid.
enum class Verb : uint8_t { kCancel, kPause, kResume, kComplete, kFinalize, kDismiss };

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
  [[nodiscard]] schema::JobStatus status() const { return status_; }
  // Of what there is to do, in units of the job's own; never goes back.
  [[nodiscard]] uint64_t done() const { return done_; }
  [[nodiscard]] uint64_t total() const { return total_; }
  // Why it failed; nothing as long as it has not.
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }

 protected:
  // The work. Ends early, with any error, when it is cancelled; comes by pause_point() now and
  // then.
  [[nodiscard]] virtual io::Task<Result<void>> run() = 0;
  // Makes the outcome final, when the job is finalized. A failure fails the job.
  [[nodiscard]] virtual io::Task<Result<void>> commit();
  // What the complete command asks for, in the states "ready" and "standby" alone.
  [[nodiscard]] virtual Result<void> complete();
  // Undoes, after a failure of the two above or a cancellation, what should not stay.
  [[nodiscard]] virtual io::Task<void> abort();

  void set_total(uint64_t total) { total_ = total; }
  void add_done(uint64_t units) { done_ += units; }

  [[nodiscard]] bool cancelled() const { return cancel_.cancelled(); }
  // For what the job waits for.
  [[nodiscard]] io::CancelToken cancel_token() { return cancel_.token(); }
  // Where the job can be paused: waits while it is to be.
  [[nodiscard]] io::Task<void> pause_point();

 private:
  friend class JobList;

  JobSettings settings_;
  schema::JobStatus status_ = schema::JobStatus::kUndefined;
  uint64_t done_ = 0;
  uint64_t total_ = 0;
  std::optional<Error> error_;
  io::CancelSource cancel_;
  io::Event resumed_{true};
  io::Event finalized_;
  JobList* list_ = nullptr;
};

}  // namespace cairn::jobs
