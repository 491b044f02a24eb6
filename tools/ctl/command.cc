// Any command of the daemon: its arguments by the daemon's schema, its answer for people or
// scripts.
#include <cerrno>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "tools/ctl/arguments.h"
#include "tools/ctl/ctl.h"
#include "tools/ctl/show.h"

namespace cairn::ctl {

namespace {

constexpr std::chrono::seconds kPatience(10);

Exit complain_unknown(const DaemonSchema& schema, const std::string& command) {
  std::vector<std::string> names{"backup", "commands",   "events", "graph",
                                 "help",   "wait-event", "watch"};
  for (const SchemaCommand& known : schema.commands()) {
    names.push_back(known.name);
  }
  const std::string guess = nearest(command, names);
  return complain(
      Exit::kUsage,
      guess.empty()
          ? fmt::format("There is no command '{}'; 'cairnctl commands' lists them", command)
          : fmt::format("There is no command '{}'; did you mean '{}'?", command, guess));
}

// "-" stands for what standard input says.
void read_standard_input(std::vector<std::string>& words) {
  for (std::string& word : words) {
    if (word == "-") {
      word.assign(std::istreambuf_iterator<char>(std::cin), {});
      const size_t start = word.find_first_not_of(" \t\r\n");
      word.erase(0, start);
    }
  }
}

}  // namespace

Exit complain(Exit exit, std::string_view message) {
  std::fflush(stdout);
  fmt::print(stderr, "cairnctl: {}\n", message);
  return exit;
}

void print_value(const schema::JsonValue& value, std::string_view command, const Options& options) {
  if (options.output != Output::kText) {
    const auto layout =
        options.output == Output::kJson ? schema::JsonLayout::kLine : schema::JsonLayout::kPretty;
    fmt::print("{}\n", schema::to_text(value, layout));
    return;
  }
  const auto* object = value.as_object();
  if (object && object->empty()) {
    // The command is done and has nothing to tell.
    return;
  }
  fmt::print("{}", show(value, command, options.style, options.all));
}

Result<Connection> connect(const Options& options) {
  return Connection::open(options.socket, kPatience, options.tls);
}

Result<DaemonSchema> fetch_schema(Connection& connection) {
  auto reply = connection.execute("query-qmp-schema");
  if (!reply) {
    return pass(reply);
  }
  if (reply->refused) {
    return fail(ENOTSUP, "'{}' does not tell its commands: {}", connection.where(),
                reply->description);
  }
  return DaemonSchema::parse(reply->value);
}

std::optional<schema::JsonValue> execute_words(Connection& connection, const std::string& command,
                                               std::vector<std::string> words, Exit& exit) {
  schema::JsonValue arguments = schema::JsonObject();
  // A query without arguments needs no schema, and answers sooner.
  if (!words.empty() || !command.starts_with("query-")) {
    const auto schema = fetch_schema(connection);
    if (!schema) {
      exit = complain(Exit::kNoConnection, schema.error().message());
      return std::nullopt;
    }
    const SchemaCommand* known = schema->find_command(command);
    if (!known) {
      exit = complain_unknown(*schema, command);
      return std::nullopt;
    }
    read_standard_input(words);
    auto typed = typed_arguments(*known, words);
    if (!typed) {
      exit = complain(Exit::kUsage, fmt::format("{}: {}\nTry 'cairnctl help {}'.", command,
                                                typed.error().message(), command));
      return std::nullopt;
    }
    arguments = std::move(*typed);
  }
  auto reply = connection.execute(command, std::move(arguments));
  if (!reply) {
    // The daemon may be gone before its answer is out.
    const bool ended = command == "quit" && reply.error().code() == ECONNRESET;
    exit = ended ? Exit::kOk : complain(Exit::kNoConnection, reply.error().message());
    return std::nullopt;
  }
  if (!reply->refused) {
    exit = Exit::kOk;
    return std::move(reply->value);
  }
  if (reply->error_class == "CommandNotFound") {
    const auto schema = fetch_schema(connection);
    if (schema && !schema->find_command(command)) {
      exit = complain_unknown(*schema, command);
      return std::nullopt;
    }
  }
  exit = complain(Exit::kRefused, fmt::format("{}: {}", command, clean(reply->description)));
  return std::nullopt;
}

Exit run_command(const Options& options) {
  auto connection = connect(options);
  if (!connection) {
    return complain(Exit::kNoConnection, connection.error().message());
  }
  Exit exit = Exit::kOk;
  const auto value = execute_words(*connection, options.command, options.words, exit);
  if (value) {
    print_value(*value, options.command, options);
  }
  return exit;
}

}  // namespace cairn::ctl
