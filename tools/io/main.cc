// cairn-io: the program's options, and where commands come from.
#include <array>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "tools/common/object.h"
#include "tools/common/options.h"
#include "tools/common/report.h"
#include "tools/common/trace.h"
#include "tools/io/io.h"

namespace cairn::tools {
namespace {

enum : int { kOptObject = 256, kOptImageOpts };

constexpr std::array kProgramSpecs = {OptionSpec{'h', "help", false},
                                      OptionSpec{'V', "version", false},
                                      OptionSpec{'c', "cmd", true},
                                      OptionSpec{'f', "format", true},
                                      OptionSpec{'r', "read-only", false},
                                      OptionSpec{'s', "snapshot", false},
                                      OptionSpec{'n', "nocache", false},
                                      OptionSpec{'C', "copy-on-read", false},
                                      OptionSpec{'m', "misalign", false},
                                      OptionSpec{'k', "native-aio", false},
                                      OptionSpec{'i', "aio", true},
                                      OptionSpec{'t', "cache", true},
                                      OptionSpec{'d', "discard", true},
                                      OptionSpec{'T', "trace", true},
                                      OptionSpec{'U', "force-share", false},
                                      OptionSpec{kOptObject, "object", true},
                                      OptionSpec{kOptImageOpts, "image-opts", false}};

struct IoProgram {
  IoOpenRequest request;
  bool open = false;
  std::vector<std::string> commands;
};

void print_usage() {
  fmt::print(
      "Usage: {} [OPTION…] [-c COMMAND]… [FILE]\n\n"
      "Runs single requests on an image: those of -c, else those typed at a prompt.\n\n"
      "  -c, --cmd COMMAND     run this; '-c help' lists the commands\n"
      "  -f, --format FORMAT   format of the image; looked for when not given\n"
      "  --image-opts          FILE is a list of options (driver=…,file.filename=…)\n"
      "  -r, --read-only       open for reading alone\n"
      "  -s, --snapshot        keep what is written in a temporary file\n"
      "  -C, --copy-on-read    keep what is read from backing files\n"
      "  -n, --nocache         go round the host's cache, like -t none\n"
      "  -t, --cache MODE      how the host's cache is used\n"
      "  -d, --discard MODE    what becomes of discards: unmap (default) or ignore\n"
      "  -i, --aio MODE        threads, native or io_uring: checked; CAIRN_IO decides\n"
      "  -k, --native-aio      --aio native, which needs -n\n"
      "  -m, --misalign        accepted; buffers may have any alignment\n"
      "  -U, --force-share     open an image that others write\n"
      "  -T, --trace WHAT      accepted; this version has no trace points\n"
      "  --object DEFINITION   make an object first, for example a secret\n"
      "  -h, --help            show this text\n"
      "  -V, --version         show the version\n\n"
      "The environment variable CAIRN_IO chooses how files are read and written: io_uring, epoll\n"
      "(with threads), or auto.\n",
      program_name());
}

// A word of these options that is wrong is told; then the exit code is 1.
std::optional<int> take_checked(const ParsedOption& option, IoProgram& program) {
  IoOpenRequest& request = program.request;
  std::string wrong;
  switch (option.id) {
    case 't':
      if (const auto mode = parse_cache_mode(option.value)) {
        request.cache = *mode;
      } else {
        wrong = "Invalid cache option: " + option.value;
      }
      break;
    case 'd':
      if (const auto mode = parse_discard_mode(option.value)) {
        request.discard = *mode;
      } else {
        wrong = "Invalid discard option: " + option.value;
      }
      break;
    case 'i':
      if (option.value != "threads" && option.value != "native" && option.value != "io_uring") {
        wrong = "Invalid aio option: " + option.value;
      }
      request.native_aio = request.native_aio || option.value == "native";
      break;
    case kOptObject:
      if (const auto help = object_help(option.value, ObjectTypes::kOffline)) {
        fmt::print("{}", *help);
        return 0;
      }
      if (const auto added = add_object(option.value, ObjectTypes::kOffline); !added) {
        report_error(added.error());
        return 1;
      }
      break;
  }
  if (wrong.empty()) {
    return std::nullopt;
  }
  report_error(wrong);
  return 1;
}

std::optional<int> take_option(const ParsedOption& option, IoProgram& program) {
  IoOpenRequest& request = program.request;
  switch (option.id) {
    case 'h':
      print_usage();
      return 0;
    case 'V':
      fmt::print("{}\n", version_line());
      return 0;
    case 'c':
      program.commands.push_back(option.value);
      break;
    case 'f':
      request.image.give_format(option.value);
      break;
    case 'r':
      request.read_only = true;
      break;
    case 's':
      request.snapshot = true;
      break;
    case 'n':
      request.cache.direct = true;
      break;
    case 'C':
      request.copy_on_read = true;
      break;
    case 'k':
      request.native_aio = true;
      break;
    case 'U':
      request.force_share = true;
      break;
    case kOptImageOpts:
      request.image.by_options = true;
      break;
    case 'T':
      if (int code = 0; !take_trace_option(option.value, code)) {
        return code;
      }
      break;
    case 0:
      print_usage();
      return 1;
    default:
      return take_checked(option, program);
  }
  return std::nullopt;
}

// The exit code when there is nothing more to do.
std::optional<int> read_command_line(std::span<const std::string> arguments, IoProgram& program) {
  OptionReader reader(program_name(), arguments, kProgramSpecs);
  while (const auto option = reader.next()) {
    if (const auto code = take_option(*option, program)) {
      return code;
    }
  }
  const std::vector<std::string> operands = reader.operands();
  if (operands.size() > 1) {
    print_usage();
    return 1;
  }
  if (program.request.image.by_options && program.request.image.format_given) {
    report_error("--image-opts and -f are mutually exclusive");
    return 1;
  }
  program.open = !operands.empty();
  program.request.image.text = operands.empty() ? "" : operands.front();
  return std::nullopt;
}

int run_prompt(IoShell& shell) {
  bool failed = false;
  std::string line;
  while (!shell.quitting()) {
    fmt::print("{}> ", program_name());
    std::fflush(stdout);
    if (!std::getline(std::cin, line)) {
      break;
    }
    failed = shell.run_line(line) != 0 || failed;
  }
  return failed ? 1 : 0;
}

int run_commands(IoShell& shell, const std::vector<std::string>& commands) {
  bool failed = false;
  for (const std::string& command : commands) {
    if (shell.quitting()) {
      break;
    }
    failed = shell.run_line(command) != 0 || failed;
  }
  return failed ? 1 : 0;
}

int io_main(const std::vector<std::string>& arguments) {
  IoProgram program;
  if (const auto code = read_command_line(arguments, program)) {
    return *code;
  }
  auto session = Session::create();
  if (!session) {
    report_error(session.error());
    return 1;
  }
  IoShell shell(**session);
  if (program.open) {
    if (const auto opened = shell.open(std::move(program.request)); !opened) {
      report_error(opened.error());
      return 1;
    }
  }
  const int code =
      program.commands.empty() ? run_prompt(shell) : run_commands(shell, program.commands);
  shell.close();
  return code;
}

}  // namespace
}  // namespace cairn::tools

int main(int argc, char** argv) {
  cairn::tools::set_program_name(argc > 0 ? argv[0] : "cairn-io");
  const int code = cairn::tools::io_main({argv + std::min(argc, 1), argv + argc});
  return cairn::tools::flush_output() ? code : 1;
}
