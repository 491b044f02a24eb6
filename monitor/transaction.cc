// The transaction command.
#include <cerrno>
#include <memory>
#include <ranges>
#include <utility>
#include <vector>

#include "block/graph.h"
#include "monitor/handlers.h"
#include "monitor/transaction_actions.h"

namespace cairn::monitor {

namespace {

using Actions = std::vector<std::unique_ptr<Action>>;

io::Task<Result<void>> apply_all(Actions& actions) {
  for (size_t done = 0; done < actions.size(); ++done) {
    Result<void> applied = co_await actions[done]->apply();
    if (!applied) {
      while (done > 0) {
        co_await actions[--done]->undo();
      }
      co_return applied;
    }
  }
  // From here on there is no way back; the first failure is told, and the rest is done all the
  // same.
  Result<void> result;
  for (const auto& action : actions) {
    Result<void> committed = co_await action->commit();
    if (result && !committed) {
      result = std::move(committed);
    }
  }
  co_return result;
}

bool is_grouped(const schema::TransactionArguments& arguments) {
  return arguments.properties &&
         arguments.properties->completion_mode == schema::ActionCompletionMode::kGrouped;
}

Result<void> check_grouping(const schema::TransactionArguments& arguments) {
  for (const schema::TransactionAction& action : arguments.actions) {
    if (is_grouped(arguments) && !may_be_grouped(action.type)) {
      return fail(EINVAL,
                  "Action '{}' does not support transaction property completion-mode = grouped",
                  to_string(action.type));
    }
  }
  return {};
}

}  // namespace

io::Task<Result<void>> run_actions(Services& services,
                                   std::vector<std::unique_ptr<Action>> actions) {
  const auto alone = co_await services.graph.alone();
  co_return co_await apply_all(actions);
}

HandlerResult<commands::Transaction> handle(Services& services, commands::Transaction,
                                            schema::TransactionArguments arguments) {
  auto grouping = check_grouping(arguments);
  if (!grouping) {
    co_return grouping;
  }
  const auto group = is_grouped(arguments) ? std::make_shared<jobs::JobGroup>() : nullptr;
  Actions actions;
  for (const schema::TransactionAction& wanted : arguments.actions) {
    actions.push_back(make_action(services, wanted, group));
  }
  co_return co_await run_actions(services, std::move(actions));
}

}  // namespace cairn::monitor
