#include "tools/common/trace.h"

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <string>

#include <fmt/format.h>

#include "schema/keyval.h"
#include "tools/common/report.h"

namespace cairn::tools {
namespace {

std::string missing(std::string_view event) {
  return fmt::format("warning: trace event '{}' does not exist", event);
}

void enable(std::string_view event) {
  if (event.starts_with('-')) {
    event.remove_prefix(1);
  }
  if (!event.empty() && event.find('*') == event.npos) {
    report_error(missing(event));
  }
}

// A file with the name of an event on each line.
Result<void> enable_listed(const std::string& path) {
  errno = 0;
  std::ifstream file(path);
  if (!file) {
    return fail_errno(errno, "Cannot open the list of trace events '{}'", path);
  }
  int number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (!line.empty() && !line.starts_with('#')) {
      report_error(fmt::format("{}:{}: {}", path, number, missing(line)));
    }
  }
  return {};
}

}  // namespace

Result<TraceWish> take_trace(std::string_view text) {
  std::string event;
  std::string list;
  for (bool first = true; !text.empty(); first = false) {
    const std::string part = schema::take_keyval_part(text);
    const size_t equals = part.find('=');
    const std::string name = part.substr(0, equals);
    if (first && equals == part.npos) {
      event = part;
    } else if (name == "enable" && equals != part.npos) {
      event = part.substr(equals + 1);
    } else if (name == "events" && equals != part.npos) {
      list = part.substr(equals + 1);
    } else if (name != "file") {
      return fail(EINVAL, "Invalid parameter '{}'", name);
    }
  }
  if (event == "help") {
    return TraceWish::kList;
  }
  enable(event);
  if (!list.empty()) {
    if (auto listed = enable_listed(list); !listed) {
      return pass(listed);
    }
  }
  return TraceWish::kReport;
}

bool take_trace_option(std::string_view text, int& exit_code) {
  const Result<TraceWish> wish = take_trace(text);
  if (!wish) {
    report_error(wish.error());
    exit_code = EXIT_FAILURE;
    return false;
  }
  exit_code = EXIT_SUCCESS;
  return *wish == TraceWish::kReport;
}

}  // namespace cairn::tools
