#include "tools/common/options.h"

#include <cstdio>

namespace cairn::tools {

namespace {
constexpr int kLargestShortName = 255;
}

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
    if (spec.long_name != nullptr) {
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
