// The command line of cairnd.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/reactor.h"
#include "schema/json.h"
#include "tools/daemon/config.h"

namespace cairn::tools {

// One option that sets something up. Options take effect in the order they are given.
struct SetupOption {
  enum class Kind { kBlockdev, kChardev, kExport, kMonitor, kNbdServer, kObject };
  Kind kind;
  std::string text;

  // "--blockdev TEXT", for messages.
  [[nodiscard]] std::string spelled() const;
};

struct DaemonOptions {
  std::vector<Config> configs;  // checked; they come before all of `setup`
  std::vector<SetupOption> setup;
  std::vector<std::string> trace;
  std::optional<std::string> pidfile;
  bool daemonize = false;
  io::BackendKind io = io::BackendKind::kAuto;
  io::PollSettings polling = io::serving_poll_settings();  // of the main loop
};

// Reads the command line. Nothing when there is nothing left to do: help or a version was printed,
// or an error; `exit_code` says which.
[[nodiscard]] std::optional<DaemonOptions> parse_command_line(int argc, char** argv,
                                                              int& exit_code);

// Reads the value of an option whose type the schema defines: JSON when it begins with '{', else
// dotted names with `implied_key` for a first part without '='.
struct SchemaText {
  schema::JsonValue value;
  bool keyval = false;
};
[[nodiscard]] Result<SchemaText> parse_schema_text(std::string_view text,
                                                   std::string_view implied_key);

}  // namespace cairn::tools
