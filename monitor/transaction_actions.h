// The actions of a transaction: what each does, and how it is undone.
//
// All of it happens inside one drain: no request is in flight meanwhile, and no command that works
// like one.
#pragma once

#include <memory>
#include <vector>

#include "base/result.h"
#include "io/task.h"
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

// The action that `wanted` asks for. The services and `wanted` outlive it. Names are looked up when
// it is applied: an earlier action may have made what they name.
[[nodiscard]] std::unique_ptr<Action> make_action(Services& services,
                                                  const schema::TransactionAction& wanted);

// Carries them out, in their order, while nothing else happens to the graph: all of them, or none.
[[nodiscard]] io::Task<Result<void>> run_actions(Services& services,
                                                 std::vector<std::unique_ptr<Action>> actions);

// Whether actions of this kind start jobs, or may stand beside some whose ends are tied together.
[[nodiscard]] bool may_be_grouped(schema::TransactionActionKind kind);

}  // namespace cairn::monitor
