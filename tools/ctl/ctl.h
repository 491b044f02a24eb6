// cairnctl: what its parts share. Each part is one command of its own; any other word is a command
// of the daemon.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "tools/ctl/connection.h"
#include "tools/ctl/schema.h"
#include "tools/ctl/text.h"

namespace cairn::ctl {

// How the program ends; scripts rely on the numbers.
enum class Exit : uint8_t {
  kOk = 0,
  kRefused = 1,       // the daemon refused, or a backup is damaged or could not be made
  kUsage = 2,         // the command line is wrong, by itself or by the daemon's schema
  kNoConnection = 3,  // there is no daemon, or none any more
  kTimeout = 4,       // what was waited for has not come
};

enum class Output : uint8_t {
  kText,    // for people
  kJson,    // one line
  kPretty,  // JSON over several lines
};

struct Options {
  std::string socket;
  TlsWish tls;  // how to talk to it
  Output output = Output::kText;
  Style style;
  bool all = false;   // --long
  bool once = false;  // --once
  std::chrono::duration<double> interval{1.0};
  std::optional<std::chrono::duration<double>> timeout;
  std::string format;     // of graph and of what is restored; empty: what is usual
  bool full = false;      // --full
  bool compress = false;  // --compress
  std::optional<uint64_t> point;
  std::optional<uint64_t> keep;
  std::string command;
  std::vector<std::string> words;  // what follows the command
  std::vector<std::string> then;   // wait-event: what follows "--"
};

// "cairnctl: MESSAGE" on standard error. Returns `exit`.
Exit complain(Exit exit, std::string_view message);

// Prints a value in the form that was asked for.
void print_value(const schema::JsonValue& value, std::string_view command, const Options& options);

[[nodiscard]] Result<Connection> connect(const Options& options);
// What the daemon understands; what fails here is the connection, or a daemon without a schema.
[[nodiscard]] Result<DaemonSchema> fetch_schema(Connection& connection);

// command.cc: any command of the daemon.
[[nodiscard]] Exit run_command(const Options& options);
// Types the words and sends the command; prints nothing but errors. Null when it did not succeed,
// and `exit` says why.
[[nodiscard]] std::optional<schema::JsonValue> execute_words(Connection& connection,
                                                             const std::string& command,
                                                             std::vector<std::string> words,
                                                             Exit& exit);

// help.cc
[[nodiscard]] Exit run_commands(const Options& options);
[[nodiscard]] Exit run_help(const Options& options);

// events.cc
[[nodiscard]] Exit run_events(const Options& options);
[[nodiscard]] Exit run_wait_event(const Options& options);

// watch.cc
[[nodiscard]] Exit run_watch(const Options& options);

// backup.cc
[[nodiscard]] Exit run_backup(const Options& options);

// graph.cc
[[nodiscard]] Exit run_graph(const Options& options);

}  // namespace cairn::ctl
