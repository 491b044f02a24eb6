#include "tools/common/options.h"

#include <algorithm>
#include <cstdio>
#include <string_view>

namespace cairn::tools {

namespace {
constexpr int kLargestShortName = 255;

// Whether an argument is the long name, or so much of it that it can not be one of the field's.
bool is_named(const OptionSpec& own, std::span<const std::string> arguments,
              std::span<const OptionSpec> specs) {
  return std::ranges::any_of(arguments, [&](std::string_view argument) {
    if (!argument.starts_with("--")) {
      return false;
    }
    const std::string_view name = argument.substr(2, argument.find('=') - 2);
    const auto may_mean = [name](const OptionSpec& spec) {
      return !spec.own && spec.long_name != nullptr &&
             std::string_view(spec.long_name).starts_with(name);
    };
    return name == own.long_name || (std::string_view(own.long_name).starts_with(name) &&
                                     !name.empty() && std::ranges::none_of(specs, may_mean));
  });
}

}  // namespace

OptionReader::OptionReader(std::string label, std::span<const std::string> arguments,
                           std::span<const OptionSpec> specs) {
  storage_.push_back(std::move(label));
  storage_.insert(storage_.end(), arguments.begin(), arguments.end());
  for (std::string& argument : storage_) {
    argv_.push_back(argument.data());
  }
  argv_.push_back(nullptr);
  for (const OptionSpec& spec : specs) {
    if (spec.id <= kLargestShortName) {
      short_names_.push_back(static_cast<char>(spec.id));
      short_names_.append(spec.has_value ? ":" : "");
    }
    if (spec.long_name != nullptr && (!spec.own || is_named(spec, arguments, specs))) {
      long_names_.push_back({.name = spec.long_name,
                             .has_arg = spec.has_value        ? required_argument
                                        : spec.may_have_value ? optional_argument
                                                              : no_argument,
                             .flag = nullptr,
                             .val = spec.id});
    }
  }
  long_names_.push_back({});
  optind = 0;  // starts over, also inside getopt
  opterr = 1;
}

std::optional<ParsedOption> OptionReader::next() {
  std::fflush(stdout);
  const int id = getopt_long(static_cast<int>(argv_.size()) - 1, argv_.data(), short_names_.c_str(),
                             long_names_.data(), nullptr);
  if (id == -1) {
    return std::nullopt;
  }
  return ParsedOption{.id = id == '?' ? 0 : id, .value = optarg != nullptr ? optarg : ""};
}

std::vector<std::string> OptionReader::operands() const {
  return {argv_.begin() + optind, argv_.end() - 1};
}

}  // namespace cairn::tools
