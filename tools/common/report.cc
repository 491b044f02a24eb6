#include "tools/common/report.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace cairn::tools {
namespace {

std::string& stored_name() {
  static std::string name = "cairn";
  return name;
}

void print_error_line(std::string_view text) {
  std::fflush(stdout);  // keeps the order of what goes to one terminal
  fmt::print(stderr, "{}\n", text);
}

}  // namespace

void set_program_name(std::string_view argv0) {
  stored_name() = argv0.substr(argv0.rfind('/') + 1);
}

const std::string& program_name() { return stored_name(); }

void report_error(std::string_view message) {
  print_error_line(fmt::format("{}: {}", program_name(), message));
}

void report_error(const Error& error) {
  report_error(error.message());
  if (!error.hint().empty()) {
    print_error_line(error.hint());
  }
}

void report_warning(std::string_view message) {
  print_error_line(fmt::format("{}: warning: {}", program_name(), message));
}

void report_warning(std::string_view message, std::string_view advice) {
  report_warning(message);
  fmt::print(stderr, "{}", advice);
}

void suggest_help(std::string_view command) {
  print_error_line(fmt::format("Try '{}{}{} --help' for more information", program_name(),
                               command.empty() ? "" : " ", command));
}

std::string_view version_number() { return CAIRN_VERSION; }

std::string version_line() {
  return fmt::format("{} version {} (Cairn)", program_name(), version_number());
}

bool flush_output() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) {
    return true;
  }
  fmt::print(stderr, "{}: Could not write the output: {}\n", program_name(), std::strerror(errno));
  return false;
}

}  // namespace cairn::tools
