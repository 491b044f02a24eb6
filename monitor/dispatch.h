// The dispatch table: from the name of a command to the function that decodes its arguments, runs
// its handler and encodes what that returns.
//
// The table is made from the schema's list of commands, so that a command without a handler in
// monitor/handlers.h does not compile.
#pragma once

#include <string_view>

#include "base/result.h"
#include "io/task.h"
#include "monitor/services.h"
#include "schema/json.h"

namespace cairn::monitor {

struct CommandEntry {
  std::string_view name;
  bool allow_oob;
  // The services outlive the task.
  io::Task<Result<schema::JsonValue>> (*run)(Services& services, schema::JsonValue arguments);
  // Whether run() would understand the arguments; changes nothing.
  Result<void> (*check)(const schema::JsonValue& arguments);
};

// Null when there is no such command.
[[nodiscard]] const CommandEntry* find_command(std::string_view name);

}  // namespace cairn::monitor
