// cairn-io: finding and running commands, help, and the commands that need no image.
#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include <fmt/format.h>

#include "io/timer.h"
#include "tools/common/report.h"
#include "tools/io/io.h"
#include "tools/io/text.h"

namespace cairn::tools {
namespace {

int io_quit(IoShell& shell, const IoArguments& /*arguments*/) {
  shell.quit();
  return 0;
}

[[noreturn]] int io_abort(IoShell& /*shell*/, const IoArguments& /*arguments*/) {
  std::fflush(stdout);
  std::abort();
}

int io_sigraise(IoShell& /*shell*/, const IoArguments& arguments) {
  const auto number = parse_io_number(arguments[1]);
  if (!number) {
    return 1;
  }
  if (*number > INT32_MAX) {
    fmt::print("signal argument '{}' is too large to be a valid signal number\n", arguments[1]);
    return 1;
  }
  std::fflush(stdout);
  std::raise(static_cast<int>(*number));
  return 0;
}

io::Task<void> sleep_milliseconds(long milliseconds) {
  (void)co_await io::sleep_for(std::chrono::milliseconds(milliseconds));
}

int io_sleep(IoShell& shell, const IoArguments& arguments) {
  const std::string& text = arguments[1];
  long milliseconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), milliseconds);
  if (error != std::errc{} || end != text.data() + text.size() || milliseconds < 0) {
    fmt::print("{} is not a valid number\n", text);
    return 1;
  }
  shell.session().run(sleep_milliseconds(milliseconds));
  return 0;
}

int io_help(IoShell& /*shell*/, const IoArguments& arguments) {
  if (arguments.size() > 1) {
    const IoCommand* command = find_io_command(arguments[1]);
    if (command == nullptr) {
      fmt::print("command {} not found\n", arguments[1]);
      return 1;
    }
    print_io_usage(command->name);
    return 0;
  }
  for (const IoCommand& command : io_commands()) {
    print_io_usage(command.name);
  }
  fmt::print("\nUse 'help commandname' for extended help.\n");
  return 0;
}

constexpr std::string_view kVectoredRead = "reads a number of bytes at a specified offset";
constexpr std::string_view kVectoredWrite = "writes a number of bytes at a specified offset";

// In alphabetical order, as help shows them.
constexpr std::array kCommands = {
    IoCommand{"abort", "", 0, 0, "", "ends the program as a crash would", false, false, io_abort},
    IoCommand{"aio_flush", "", 0, 0, "", "waits for all requests in the background", true, false,
              io_aio_flush},
    IoCommand{"aio_read", "", 2, -1, "[-Ciqrv] [-P pattern] off len [len..]",
              "reads in the background", true, false, io_aio_read},
    IoCommand{"aio_write", "", 2, -1, "[-Cfiqruz] [-P pattern] off len [len..]",
              "writes in the background", true, true, io_aio_write},
    IoCommand{"alloc", "a", 1, 2, "offset [count]", "tells how much of a range is allocated", true,
              false, io_alloc},
    IoCommand{"break", "", 2, 2, "event tag", "stops the next request at an event, under a tag",
              true, false, io_break},
    IoCommand{"close", "c", 0, 0, "", "closes the image", true, false, io_close},
    IoCommand{"discard", "d", 2, -1, "[-Cq] off len", "gives a range of bytes back", true, true,
              io_discard},
    IoCommand{"flush", "f", 0, 0, "", "makes everything written durable", true, false, io_flush},
    IoCommand{"help", "?", 0, 1, "[command]", "tells about one command or about all", false, false,
              io_help},
    IoCommand{"info", "i", 0, 0, "", "describes the image", true, false, io_info},
    IoCommand{"length", "l", 0, 0, "", "tells the length of the image", true, false, io_length},
    IoCommand{"map", "", 0, 0, "", "shows what is allocated", true, false, io_map},
    IoCommand{"open", "o", 1, -1, "[-rsCnkU] [-t cache] [-d discard] [-o options] [path]",
              "opens an image", false, false, io_open},
    IoCommand{"quit", "q", 0, -1, "", "ends the program", false, false, io_quit},
    IoCommand{"read", "r", 2, -1, "[-abCqrv] [-P pattern [-s off] [-l len]] off len", kVectoredRead,
              true, false, io_read},
    IoCommand{"readv", "", 2, -1, "[-Cqrv] [-P pattern] off len [len..]", kVectoredRead, true,
              false, io_readv},
    IoCommand{"remove_break", "", 1, 1, "tag", "takes a breakpoint away", true, false,
              io_remove_break},
    IoCommand{"reopen", "", 0, -1, "[(-r|-w)] [-c cache] [-o options]",
              "reopens an image with new options", true, false, io_reopen},
    IoCommand{"resume", "", 1, 1, "tag", "lets the request with a tag go on", true, false,
              io_resume},
    IoCommand{"sigraise", "", 1, 1, "signal", "raises a signal", false, false, io_sigraise},
    IoCommand{"sleep", "", 1, 1, "", "waits for a number of milliseconds", false, false, io_sleep},
    IoCommand{"truncate", "t", 1, 3, "[-m prealloc_mode] off", "changes the length of the image",
              true, true, io_truncate},
    IoCommand{"wait_break", "", 1, 1, "tag", "waits until a request has stopped", true, false,
              io_wait_break},
    IoCommand{"write", "w", 2, -1, "[-bcCfnqruz] [-P pattern | -s source_file] off len",
              kVectoredWrite, true, true, io_write},
    IoCommand{"writev", "", 2, -1, "[-Cfqr] [-P pattern] off len [len..]", kVectoredWrite, true,
              true, io_writev},
};

void print_error_line(const std::string& text) {
  std::fflush(stdout);
  fmt::print(stderr, "{}\n", text);
}

// False, with the reason told, when a command does not take so many arguments.
bool check_argument_count(const IoCommand& command, const std::string& name, int count) {
  if (count >= command.least_arguments &&
      (command.most_arguments < 0 || count <= command.most_arguments)) {
    return true;
  }
  std::string expected;
  if (command.most_arguments < 0) {
    expected = fmt::format("at least {}", command.least_arguments);
  } else if (command.least_arguments == command.most_arguments) {
    expected = std::to_string(command.least_arguments);
  } else {
    expected = fmt::format("between {} and {}", command.least_arguments, command.most_arguments);
  }
  print_error_line(
      fmt::format("bad argument count {} to {}, expected {} arguments", count, name, expected));
  return false;
}

}  // namespace

std::span<const IoCommand> io_commands() { return kCommands; }

const IoCommand* find_io_command(std::string_view name) {
  const auto found = std::ranges::find_if(kCommands, [name](const IoCommand& command) {
    return command.name == name || (!command.short_name.empty() && command.short_name == name);
  });
  return found == kCommands.end() ? nullptr : &*found;
}

void print_io_usage(std::string_view command) {
  const IoCommand& entry = *find_io_command(command);
  fmt::print("{}{}{} -- {}\n", entry.name, entry.usage.empty() ? "" : " ", entry.usage,
             entry.summary);
}

int IoShell::run_line(const std::string& line) {
  IoArguments arguments;
  size_t position = 0;
  while ((position = line.find_first_not_of(' ', position)) != line.npos) {
    const size_t end = std::min(line.find(' ', position), line.size());
    arguments.push_back(line.substr(position, end - position));
    position = end;
  }
  if (arguments.empty()) {
    return 0;
  }
  const IoCommand* command = find_io_command(arguments[0]);
  if (command == nullptr) {
    print_error_line(fmt::format("command \"{}\" not found", arguments[0]));
    return 1;
  }
  if (command->needs_image && !is_open()) {
    print_error_line("no file open, try 'help open'");
    return 1;
  }
  if (!check_argument_count(*command, arguments[0], static_cast<int>(arguments.size()) - 1)) {
    return 1;
  }
  if (command->writes && root_->node().read_only()) {
    report_error("Block node is read-only");
    return 1;
  }
  return command->run(*this, arguments);
}

void IoShell::wait_for_background() { session_.run(background_.join()); }

}  // namespace cairn::tools
