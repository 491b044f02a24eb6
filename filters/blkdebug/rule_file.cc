#include "filters/blkdebug/rule_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/bool_text.h"
#include "schema/types_block_options.h"

namespace cairn::filters::blkdebug {

namespace {

constexpr std::string_view kSpace = " \t\r\n\v\f";
constexpr std::size_t kLargestFile = 1 << 20;

enum class MemberType : uint8_t { kText, kNumber, kBool };

struct Member {
  std::string_view name;
  MemberType type;
};

constexpr Member kErrorMembers[] = {
    {"event", MemberType::kText},       {"state", MemberType::kNumber},
    {"iotype", MemberType::kText},      {"errno", MemberType::kNumber},
    {"sector", MemberType::kNumber},    {"once", MemberType::kBool},
    {"immediately", MemberType::kBool},
};
constexpr Member kStateMembers[] = {
    {"event", MemberType::kText},
    {"state", MemberType::kNumber},
    {"new_state", MemberType::kNumber},
};

struct Group {
  bool sets_state = false;
  std::map<std::string, std::string, std::less<>> members;
};

std::optional<int64_t> to_number(const std::string& text) {
  if (text.empty()) {
    return std::nullopt;
  }
  char* end = nullptr;
  errno = 0;
  const unsigned long long value = std::strtoull(text.c_str(), &end, 0);
  if (errno != 0 || *end != '\0') {
    return std::nullopt;
  }
  return static_cast<int64_t>(value);
}

// Takes the next line, with its end.
std::string_view take_line(std::string_view& rest) {
  const std::size_t end = rest.find('\n');
  const std::string_view line = rest.substr(0, end == rest.npos ? rest.size() : end + 1);
  rest.remove_prefix(line.size());
  return line;
}

// "[NAME]", or "[NAME "ID"]" with an id that means nothing here.
std::string_view group_name(std::string_view line) {
  line.remove_prefix(1);
  std::string_view name = line.substr(0, line.find(']'));
  const std::size_t quote = name.find('"');
  if (quote != name.npos) {
    name = name.substr(0, name.find_first_of(kSpace));
  }
  return name;
}

// "NAME = "VALUE""; without quotes there is no value.
std::pair<std::string, std::string> parse_member(std::string_view line) {
  line.remove_prefix(line.find_first_not_of(kSpace));
  const std::size_t name_end = std::min(line.find_first_of(kSpace), line.size());
  std::string name(line.substr(0, name_end));
  line.remove_prefix(name_end);
  const auto take = [&line](char expected) {
    line.remove_prefix(std::min(line.find_first_not_of(kSpace), line.size()));
    if (!line.starts_with(expected)) {
      return false;
    }
    line.remove_prefix(1);
    return true;
  };
  std::string value;
  if (take('=') && take('"')) {
    value = line.substr(0, line.find('"'));
  }
  return {std::move(name), std::move(value)};
}

Result<void> check_member(const Group& group, const std::string& name, const std::string& value) {
  const std::span<const Member> members =
      group.sets_state ? std::span<const Member>(kStateMembers) : kErrorMembers;
  const auto member = std::ranges::find(members, name, &Member::name);
  if (member == members.end()) {
    return fail(EINVAL, "Invalid parameter '{}'", name);
  }
  if (member->type == MemberType::kNumber && !to_number(value)) {
    return fail(EINVAL, "Parameter '{}' expects a number", name);
  }
  if (member->type == MemberType::kBool && !parse_bool(value)) {
    return fail(EINVAL, "Parameter '{}' expects 'on' or 'off'", name);
  }
  return {};
}

Result<std::vector<Group>> parse_groups(std::string_view text) {
  std::vector<Group> groups;
  while (!text.empty()) {
    const std::string_view line = take_line(text);
    const std::size_t begin = line.find_first_not_of(kSpace);
    if (begin == line.npos || line[begin] == '#') {
      continue;
    }
    if (line.front() == '[') {
      const std::string_view name = group_name(line);
      if (name != "inject-error" && name != "set-state") {
        return fail(EINVAL, "There is no option group '{}'", name);
      }
      groups.push_back({.sets_state = name == "set-state", .members = {}});
      continue;
    }
    if (groups.empty()) {
      return fail(EINVAL, "no group defined");
    }
    auto [name, value] = parse_member(line);
    if (auto checked = check_member(groups.back(), name, value); !checked) {
      return pass(checked);
    }
    groups.back().members[name] = std::move(value);
  }
  return groups;
}

int64_t number_or(const Group& group, std::string_view name, int64_t otherwise) {
  const auto found = group.members.find(name);
  return found == group.members.end() ? otherwise : to_number(found->second).value_or(otherwise);
}

bool is_set(const Group& group, std::string_view name) {
  const auto found = group.members.find(name);
  return found != group.members.end() && parse_bool(found->second).value_or(false);
}

Result<void> add_rule(const Group& group, Rules& rules) {
  const auto event = group.members.find("event");
  if (event == group.members.end()) {
    return fail(EINVAL, "Missing event name for rule");
  }
  const auto point = schema::from_string<schema::BlkdebugEvent>(event->second);
  if (!point) {
    return fail(EINVAL, "invalid parameter value: {}", event->second);
  }
  if (group.sets_state) {
    rules.add(static_cast<block::FaultPoint>(*point),
              StateRule{.state = number_or(group, "state", 0),
                        .new_state = number_or(group, "new_state", 0)});
    return {};
  }
  ErrorRule rule{.state = number_or(group, "state", 0),
                 .error = static_cast<int>(number_or(group, "errno", EIO)),
                 .sector = number_or(group, "sector", -1),
                 .once = is_set(group, "once"),
                 .immediately = is_set(group, "immediately")};
  if (const auto kind = group.members.find("iotype"); kind != group.members.end()) {
    const auto known = schema::from_string<schema::BlkdebugIOType>(kind->second);
    if (!known) {
      return fail(EINVAL, "invalid parameter value: {}", kind->second);
    }
    rule.kind = static_cast<RequestKind>(*known);
  }
  rules.add(static_cast<block::FaultPoint>(*point), rule);
  return {};
}

}  // namespace

Result<void> parse_rules(std::string_view text, Rules& rules) {
  const Result<std::vector<Group>> groups = parse_groups(text);
  if (!groups) {
    return std::unexpected(groups.error());
  }
  for (const bool sets_state : {false, true}) {
    for (const Group& group : *groups) {
      if (group.sets_state != sets_state) {
        continue;
      }
      if (auto added = add_rule(group, rules); !added) {
        return added;
      }
    }
  }
  return {};
}

Result<void> read_rule_file(const std::string& path, Rules& rules) {
  const auto close = [](std::FILE* file) { std::fclose(file); };
  const std::unique_ptr<std::FILE, decltype(close)> file(std::fopen(path.c_str(), "re"), close);
  if (file == nullptr) {
    return fail_errno(errno, "Could not open '{}'", path);
  }
  std::string text(kLargestFile + 1, '\0');
  errno = 0;
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) {
    return fail_errno(errno, "Cannot read config file");
  }
  if (text.size() > kLargestFile) {
    return fail(EFBIG, "The file with rules '{}' is larger than 1 MiB", path);
  }
  return parse_rules(text, rules);
}

}  // namespace cairn::filters::blkdebug
