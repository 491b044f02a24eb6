// The list itself is taken apart here, its entries by the parser of the monitor: so each entry has
// its line, and one that is wrong does not hide the others.
#include "tools/daemon/config.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "io/fd.h"
#include "monitor/request.h"
#include "schema/commands.h"
#include "schema/json_stream.h"

namespace cairn::tools {

namespace {

// More than anybody writes; a device or a pipe without end is stopped here.
constexpr size_t kMostBytes = size_t{64} << 20;

class ConfigParser {
 public:
  ConfigParser(std::string_view text, std::string_view name)
      : text_(text), rest_(text), name_(name) {}

  [[nodiscard]] Config parse() {
    skip_space();
    if (!take('[')) {
      problem(line(), "a configuration is a JSON list of commands: '[' expected");
      return std::move(config_);
    }
    skip_space();
    if (take(']')) {
      check_end();
      return std::move(config_);
    }
    for (size_t number = 1; entry(number); ++number) {
      skip_space();
      if (take(']')) {
        check_end();
        break;
      }
      if (!take(',')) {
        problem(line(), fmt::format("',' or ']' expected after entry {}", number));
        break;
      }
      skip_space();
    }
    return std::move(config_);
  }

 private:
  [[nodiscard]] size_t line() const {
    const auto read = text_.substr(0, text_.size() - rest_.size());
    return 1 + static_cast<size_t>(std::ranges::count(read, '\n'));
  }

  void skip_space() {
    rest_.remove_prefix(std::min(rest_.find_first_not_of(" \t\r\n"), rest_.size()));
  }

  bool take(char c) {
    const bool there = rest_.starts_with(c);
    rest_.remove_prefix(there ? 1 : 0);
    return there;
  }

  void problem(size_t line, std::string_view message) {
    config_.problems.emplace_back(EINVAL, fmt::format("{}:{}: {}", name_, line, message));
  }

  void check_end() {
    skip_space();
    if (!rest_.empty()) {
      problem(line(), "nothing may follow the list");
    }
  }

  // False when it is unknown where the entry ends.
  bool entry(size_t number) {
    const size_t start = line();
    const std::string where = fmt::format("{}:{}: entry {}", name_, start, number);
    schema::JsonStream stream;
    auto item = stream.next(rest_);
    if (!item) {
      item = stream.finish();
    }
    if (!item) {
      problem(start, fmt::format("entry {} expected, where the file ends", number));
      return false;
    }
    if (!*item) {
      // The error may be anywhere in the entry, up to where the reading has stopped.
      problem(start, fmt::format("entry {}: {}{}", number, item->error().message(),
                                 line() > start ? fmt::format(" (up to line {})", line()) : ""));
      return false;
    }
    check(std::move(**item), where);
    return true;
  }

  void check(schema::JsonValue value, const std::string& where) {
    static_cast<void>(monitor::take_id(value));
    auto request = monitor::parse_request(std::move(value), false);
    if (!request) {
      config_.problems.push_back(std::move(request.error()).prefix(where + ": "));
      return;
    }
    const std::string named = fmt::format("{}, '{}': ", where, request->command);
    const auto* command = monitor::find_command(request->command);
    if (!command) {
      config_.problems.emplace_back(ENOENT, named + "there is no such command");
      return;
    }
    if (command->name == schema::commands::QmpCapabilities::kName) {
      config_.problems.emplace_back(EINVAL, named + "there is nothing to negotiate");
      return;
    }
    if (auto checked = command->check(request->arguments); !checked) {
      config_.problems.push_back(std::move(checked.error()).prefix(named));
      return;
    }
    config_.entries.push_back({command, std::move(request->arguments), named});
  }

  std::string_view text_;
  std::string_view rest_;
  std::string_view name_;
  Config config_;
};

Result<std::string> read_file(const std::string& path) {
  const io::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    return fail_errno(errno, "Could not open '{}'", path);
  }
  std::string text;
  std::array<char, 65536> buffer;
  while (true) {
    const ssize_t count = read(fd.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return fail_errno(errno, "Could not read '{}'", path);
    }
    if (count == 0) {
      return text;
    }
    text.append(buffer.data(), static_cast<size_t>(count));
    if (text.size() > kMostBytes) {
      return fail(E2BIG, "'{}' is too large for a configuration", path);
    }
  }
}

}  // namespace

Config parse_config(std::string_view text, std::string_view name) {
  return ConfigParser(text, name).parse();
}

Config load_config(const std::string& path) {
  auto text = read_file(path);
  if (!text) {
    Config config;
    config.problems.push_back(std::move(text.error()));
    return config;
  }
  return parse_config(*text, path);
}

io::Task<Result<void>> run_config(const Config& config, monitor::Services& services) {
  // Who writes the configuration starts the program, and may name what it was started with.
  services.may_name_descriptors = true;
  Result<void> result;
  for (const ConfigEntry& entry : config.entries) {
    if (services.stop.is_set()) {
      break;
    }
    auto running = entry.command->run(services, entry.arguments);
    auto returned = co_await std::move(running);
    if (!returned) {
      result = pass(returned, entry.where);
      break;
    }
  }
  services.may_name_descriptors = false;
  co_return result;
}

}  // namespace cairn::tools
