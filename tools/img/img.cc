#include "tools/img/img.h"

#include <algorithm>
#include <cstdio>

#include <fmt/format.h>

#include "tools/common/object.h"
#include "tools/common/policy.h"
#include "tools/common/report.h"
#include "tools/img/examples.h"

namespace cairn::tools {

const ImgCommand* find_img_command(std::string_view name) {
  const std::span<const ImgCommand> commands = img_commands();
  const auto found = std::ranges::find(commands, name, &ImgCommand::name);
  return found == commands.end() ? nullptr : &*found;
}

namespace {

void print_command_help(const ImgCommand& command) {
  fmt::print("Usage:\n  {} {} {}\n\n{}\n{}\nExamples:\n", program_name(), command.name,
             command.synopsis, command.summary, command.details);
  for (const ImgExample& example : img_examples()) {
    if (example.command == command.name) {
      fmt::print("  # {}\n  {} {} {}\n", example.purpose, program_name(), command.name,
                 example.arguments);
    }
  }
}

}  // namespace

ImgCommandLine::ImgCommandLine(std::string_view command, std::span<const std::string> arguments,
                               std::span<const OptionSpec> specs)
    : command_(command), reader_(fmt::format("{} {}", program_name(), command), arguments, specs) {}

std::optional<ParsedOption> ImgCommandLine::next() {
  while (std::optional<ParsedOption> option = reader_.next()) {
    switch (option->id) {
      case 0:
        suggest_help(command_);
        exit_code_ = 1;
        return std::nullopt;
      case 'h': {
        print_command_help(*find_img_command(command_));
        exit_code_ = 0;
        return std::nullopt;
      }
      case kOptObject:
        if (const auto help = object_help(option->value, ObjectTypes::kOffline)) {
          fmt::print("{}", *help);
          exit_code_ = 0;
          return std::nullopt;
        }
        if (const Result<void> added = add_object(option->value, ObjectTypes::kOffline); !added) {
          exit_code_ = fail_command(added.error());
          object_refused_ = true;
          return std::nullopt;
        }
        continue;
      case kOptPolicy:
        if (const Result<void> set = set_program_policy(option->value, command_); !set) {
          exit_code_ = fail_command(set.error());
          return std::nullopt;
        }
        continue;
      default:
        return option;
    }
  }
  return std::nullopt;
}

int ImgCommandLine::misuse(std::string_view message) const {
  report_error(message);
  suggest_help(command_);
  return 1;
}

std::optional<bool> parse_output_is_json(std::string_view text) {
  if (text == "json" || text == "human") {
    return text == "json";
  }
  report_error("--output must be used with human or json as argument.");
  return std::nullopt;
}

int fail_command(const Error& error) {
  report_error(error);
  return 1;
}

}  // namespace cairn::tools
