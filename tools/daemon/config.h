// Configuration files of cairnd: a JSON list of commands as a monitor takes them.
//
// A file is checked as a whole (syntax, names of commands, types of arguments) before the first
// command runs. Messages begin with "FILE:LINE: entry N, 'COMMAND': ".
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/task.h"
#include "monitor/dispatch.h"
#include "monitor/services.h"
#include "schema/json.h"

namespace cairn::tools {

struct ConfigEntry {
  const monitor::CommandEntry* command;
  schema::JsonValue arguments;
  std::string where;  // "FILE:LINE: entry N, 'COMMAND': "
};

struct Config {
  std::vector<ConfigEntry> entries;
  // What is wrong with the file; nothing may run when there is anything.
  std::vector<Error> problems;
};

// `name` is the name of the file, for messages.
[[nodiscard]] Config parse_config(std::string_view text, std::string_view name);
// A file that can not be read is a problem of its own.
[[nodiscard]] Config load_config(const std::string& path);

// Runs the commands one after the other, up to the first that fails, and up to the end that a
// command or a signal has asked for. Both outlive the task.
[[nodiscard]] io::Task<Result<void>> run_config(const Config& config, monitor::Services& services);

}  // namespace cairn::tools
