#include "tools/common/option_words.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <iterator>
#include <optional>
#include <span>
#include <system_error>

#include "block/create_options.h"

namespace cairn::tools {
namespace {

struct Words {
  std::string_view of_schema;
  std::string_view of_tools;
};

// Messages as a whole.
constexpr Words kWhole[] = {
    {"Parameter 'throttle-group' is missing", "Please specify a throttle group"},
    {"Parameter 'mode' is missing", "Missing the option mode"},
    {"Parameter 'vote-threshold' is missing", "Parameter 'vote-threshold' expects a value >= 1"},
    {"Parameter 'filename' is missing", "The 'file' block driver requires a file name"},
    {"Invalid parameter type for 'server', expected: object", "NBD server address missing"},
};

// What messages about values begin with; the value, in quotes, ends them. "{}" stands for it.
constexpr Words kValues[] = {
    {"Parameter 'driver' does not accept value ", "Unknown driver '{}'"},
    {"Parameter 'mode' does not accept value ",
     "The option mode's value should be primary or secondary"},
    {"Parameter 'read-pattern' does not accept value ",
     "Please set read-pattern as fifo or quorum"},
    {"Parameter 'event' does not accept value ", "invalid parameter value: {}"},
    {"Parameter 'iotype' does not accept value ", "invalid parameter value: {}"},
    {"Parameter 'locking' does not accept value ", "invalid parameter value: {}"},
    {"Parameter 'aio' does not accept value ", "invalid parameter value: {}"},
    {"Parameter 'discard' does not accept value ", "Invalid discard option"},
    {"Parameter 'detect-zeroes' does not accept value ", "invalid parameter value: {}"},
};

// The children that drivers need, beside the only "file" of formats, in the order in which they are
// missed.
struct Needs {
  std::string_view driver;
  std::span<const std::string_view> children;
};
constexpr std::string_view kImage[] = {"image"};
constexpr std::string_view kFileAndLog[] = {"file", "log"};
constexpr std::string_view kRawAndTest[] = {"raw", "test"};
constexpr Needs kNeeds[] = {{"blkdebug", kImage},
                            {"blklogwrites", kFileAndLog},
                            {"blkreplay", kImage},
                            {"blkverify", kRawAndTest}};

// Options that are read as sizes, and those that are read as plain numbers.
constexpr std::string_view kReadAsSizes[] = {"prealloc-align", "prealloc-size",  "align",
                                             "max-transfer",   "opt-write-zero", "max-write-zero",
                                             "opt-discard",    "max-discard",    "log-sector-size"};
constexpr std::string_view kReadAsNumbers[] = {
    "vote-threshold", "log-super-update-interval", "errno",           "new_state",   "state",
    "sector",         "cache-clean-interval",      "reconnect-delay", "open-timeout"};

// What is said of an option that is no number; empty when there are no words of its own.
std::string not_a_number(std::string_view message, std::string_view value) {
  constexpr std::string_view kBegin = "Parameter '";
  constexpr std::string_view kEnd = "' expects integer";
  if (!message.starts_with(kBegin) || !message.ends_with(kEnd)) {
    return "";
  }
  message.remove_prefix(kBegin.size());
  message.remove_suffix(kEnd.size());
  const std::string_view name = message.substr(message.rfind('.') + 1);
  if (std::ranges::find(kReadAsSizes, name) != std::end(kReadAsSizes)) {
    return fmt::format(
        "Parameter '{}' expects a non-negative number below 2^64\n"
        "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
        "and exabytes, respectively.",
        name);
  }
  if (std::ranges::find(kReadAsNumbers, name) == std::end(kReadAsNumbers)) {
    return "";
  }
  const Result<uint64_t> number = block::parse_number(name, value);
  if (!number) {
    return number.error().message();
  }
  // It is one, but beyond what the option takes.
  return name == "cache-clean-interval" ? "Cache clean interval too big" : "";
}

bool is_missing(std::string_view message, std::string_view path_end) {
  constexpr std::string_view kBegin = "Parameter ";
  constexpr std::string_view kEnd = "' is missing";
  if (!message.starts_with(kBegin) || !message.ends_with(kEnd)) {
    return false;
  }
  message.remove_prefix(kBegin.size());
  message.remove_suffix(kEnd.size());
  return message.ends_with(path_end);
}

// A whole number, given as one or in words; nothing when it is neither.
std::optional<int64_t> number_in(const schema::JsonValue& value) {
  if (const int64_t* number = value.as_int64()) {
    return *number;
  }
  int64_t number = 0;
  const std::string* text = value.as_string();
  const char* const end = text != nullptr ? text->data() + text->size() : nullptr;
  if (text == nullptr) {
    return std::nullopt;
  }
  const auto [rest, error] = std::from_chars(text->data(), end, number);
  return error == std::errc{} && rest == end ? std::optional(number) : std::nullopt;
}

// What quorum has of its own is looked at before its children are.
Result<void> check_quorum(const schema::JsonObject& options) {
  const schema::JsonValue* given = options.find("children");
  const schema::JsonArray* children = given != nullptr ? given->as_array() : nullptr;
  if (children == nullptr) {
    return fail(EINVAL, "Number of provided children must be 1 or more");
  }
  const schema::JsonValue* threshold = options.find("vote-threshold");
  const auto votes = threshold != nullptr ? number_in(*threshold) : std::optional<int64_t>(0);
  if (votes && *votes < 1) {
    return fail(ERANGE, "Parameter 'vote-threshold' expects a value >= 1");
  }
  if (votes && static_cast<uint64_t>(*votes) > children->size()) {
    return fail(ERANGE, "threshold may not exceed children count");
  }
  const schema::JsonValue* pattern = options.find("read-pattern");
  const std::string* name = pattern != nullptr ? pattern->as_string() : nullptr;
  if (name != nullptr && *name != "quorum" && *name != "fifo") {
    return fail(EINVAL, "Please set read-pattern as fifo or quorum");
  }
  return {};
}

}  // namespace

std::string in_words_of_tools(std::string_view message, std::string_view value) {
  // Parts of a server's address are named without it.
  if (constexpr std::string_view kPart = "Parameter 'server."; message.starts_with(kPart)) {
    return fmt::format("Parameter '{}", message.substr(kPart.size()));
  }
  for (const Words& words : kWhole) {
    if (message == words.of_schema) {
      return std::string(words.of_tools);
    }
  }
  for (const Words& words : kValues) {
    if (message.starts_with(words.of_schema) && message.size() > words.of_schema.size() + 1) {
      std::string_view given = message.substr(words.of_schema.size() + 1);
      given.remove_suffix(1);
      std::string text(words.of_tools);
      if (const std::size_t place = text.find("{}"); place != text.npos) {
        text.replace(place, 2, given);
      }
      return text;
    }
  }
  for (const std::string_view child : {"file", "image", "raw", "test", "log"}) {
    if (is_missing(message, fmt::format("'{}", child)) ||
        is_missing(message, fmt::format(".{}", child))) {
      return fmt::format("A block device must be specified for \"{}\"", child);
    }
  }
  if (is_missing(message, "file.filename") || is_missing(message, "image.filename")) {
    return "The 'file' block driver requires a file name";
  }
  if (std::string number = not_a_number(message, value); !number.empty()) {
    return number;
  }
  const bool in_rule = message.starts_with("Parameter 'inject-error.") ||
                       message.starts_with("Parameter 'set-state.");
  if (in_rule && is_missing(message, ".event")) {
    return "Missing event name for rule";
  }
  return std::string(message);
}

Result<void> require_children(const schema::JsonObject& options) {
  const schema::JsonValue* given = options.find("driver");
  const std::string* driver = given != nullptr ? given->as_string() : nullptr;
  if (driver == nullptr) {
    return {};
  }
  if (*driver == "quorum") {
    return check_quorum(options);
  }
  for (const Needs& needs : kNeeds) {
    if (needs.driver != *driver) {
      continue;
    }
    for (const std::string_view child : needs.children) {
      if (options.find(child) == nullptr) {
        return fail(EINVAL, "A block device must be specified for \"{}\"", child);
      }
    }
  }
  return {};
}

}  // namespace cairn::tools
