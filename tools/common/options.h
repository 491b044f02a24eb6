// Options of a command line, declared as a table and read one by one, with the rules and messages
// of getopt_long(3): options and operands may alternate, long names may be shortened.
#pragma once

#include <getopt.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cairn::tools {

struct OptionSpec {
  // Short name and what next() reports; for options with only a long name any number above 255.
  int id = 0;
  const char* long_name = nullptr;  // null: short name only
  bool has_value = false;
  bool may_have_value = false;  // the long name: "--name" and "--name=value"
  bool own = false;             // not the field's: makes none of its abbreviations unclear
};

struct ParsedOption {
  // 0 for one that is unknown or lacks its value; the message about it is printed.
  int id = 0;
  std::string value;
};

// Uses getopt's global state: one reader at a time.
class OptionReader {
 public:
  // `label` stands before messages ("qemu-img compare"). `specs` must outlive the reader.
  OptionReader(std::string label, std::span<const std::string> arguments,
               std::span<const OptionSpec> specs);
  OptionReader(const OptionReader&) = delete;
  OptionReader& operator=(const OptionReader&) = delete;

  // Nothing when all options are read.
  [[nodiscard]] std::optional<ParsedOption> next();

  // What is no option, in order; valid once next() has returned nothing.
  [[nodiscard]] std::vector<std::string> operands() const;

 private:
  std::vector<std::string> storage_;
  std::vector<char*> argv_;
  std::string short_names_;
  std::vector<option> long_names_;
};

}  // namespace cairn::tools
