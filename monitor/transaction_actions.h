// The actions of a transaction: what each does, and how it is undone.
//
// All of it happens inside one drain: no request is in flight meanwhile, and no command that works
// like one.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "base/result.h"
#include "io/task.h"
#include "jobs/job_group.h"
#include "jobs/job_list.h"
#include "monitor/services.h"
#include "schema/types_transaction.h"

namespace cairn::monitor {

class Action {
 public:
  Action() = default;
  Action(const Action&) = delete;
  Action& operator=(const Action&) = delete;
  virtual ~Action() = default;

  // A failure leaves nothing behind. The actions before this one have been applied.
  [[nodiscard]] virtual io::Task<Result<void>> apply() = 0;
  // Takes back what apply() did; those after this one have been undone.
  [[nodiscard]] virtual io::Task<void> undo() = 0;
  // All have been applied, and none will be undone: the rest that can not be taken back.
  [[nodiscard]] virtual io::Task<Result<void>> commit();
};

// An action that starts a job. The job exists from apply() on, and begins its work when nothing can
// fail any more.
class StartJob : public Action {
 public:
  // Jobs of a group end together; null: on their own.
  StartJob(jobs::JobList& jobs, std::shared_ptr<jobs::JobGroup> group)
      : jobs_(jobs), group_(std::move(group)) {}

  [[nodiscard]] io::Task<Result<void>> apply() final;
  [[nodiscard]] io::Task<void> undo() final;
  [[nodiscard]] io::Task<Result<void>> commit() final;

 protected:
  // The job, which was announced. Whoever asks holds the drain.
  [[nodiscard]] virtual io::Task<Result<std::unique_ptr<jobs::Job>>> make() = 0;
  [[nodiscard]] jobs::JobList& jobs() const { return jobs_; }

 private:
  jobs::JobList& jobs_;
  std::shared_ptr<jobs::JobGroup> group_;
  jobs::Job* job_ = nullptr;
};

// The action that `wanted` asks for. The services and `wanted` outlive it. Names are looked up when
// it is applied: an earlier action may have made what they name. A job that it starts joins the
// group, unless that is null.
[[nodiscard]] std::unique_ptr<Action> make_action(Services& services,
                                                  const schema::TransactionAction& wanted,
                                                  const std::shared_ptr<jobs::JobGroup>& group);

// Carries them out, in their order, while nothing else happens to the graph: all of them, or none.
[[nodiscard]] io::Task<Result<void>> run_actions(Services& services,
                                                 std::vector<std::unique_ptr<Action>> actions);

// Whether actions of this kind start jobs, or may stand beside some whose ends are tied together.
[[nodiscard]] bool may_be_grouped(schema::TransactionActionKind kind);

}  // namespace cairn::monitor
