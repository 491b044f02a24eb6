// Options stay in the order they were given, since the last of several counts.
#include "chardev/option_list.h"

#include <algorithm>
#include <cerrno>
#include <ranges>

#include "schema/keyval.h"

namespace cairn::chardev {

OptionList OptionList::parse(std::string_view text, std::string_view implied_name) {
  OptionList list;
  bool first = true;
  while (!text.empty()) {
    std::string part = schema::take_keyval_part(text);
    const size_t equals = part.find('=');
    if (equals != part.npos) {
      list.options_.emplace_back(part.substr(0, equals), part.substr(equals + 1));
    } else if (first) {
      list.options_.emplace_back(implied_name, std::move(part));
    } else {
      const bool off = part.starts_with("no");
      std::string name = off ? part.substr(2) : part;
      const std::string_view value = off ? "off" : "on";
      list.warnings_.push_back(
          fmt::format("short-form boolean option '{}' deprecated\nPlease use {}={} instead", part,
                      name, value));
      list.options_.emplace_back(std::move(name), value);
    }
    first = false;
  }
  return list;
}

const std::string* OptionList::find(std::string_view name) const {
  for (const auto& [key, value] : std::views::reverse(options_)) {
    if (key == name) {
      return &value;
    }
  }
  return nullptr;
}

Result<std::optional<bool>> OptionList::find_switch(std::string_view name) const {
  const std::string* value = find(name);
  if (!value) {
    return std::optional<bool>();
  }
  if (*value == "on" || *value == "yes" || *value == "true" || *value == "y") {
    return std::optional(true);
  }
  if (*value == "off" || *value == "no" || *value == "false" || *value == "n") {
    return std::optional(false);
  }
  return fail(EINVAL, "Parameter '{}' expects 'on' or 'off'", name);
}

Result<void> OptionList::check_names(std::span<const std::string_view> known) const {
  for (const auto& [name, value] : options_) {
    if (std::ranges::find(known, name) == known.end()) {
      return fail(EINVAL, "Invalid parameter '{}'", name);
    }
  }
  return {};
}

}  // namespace cairn::chardev
