// cairn-io: breakpoints, at which requests in the background wait: break, remove_break, resume,
// wait_break.
#include <cerrno>
#include <chrono>
#include <string>

#include <fmt/format.h>

#include "filters/blkdebug/breakpoints.h"
#include "io/timer.h"
#include "schema/types_block_options.h"
#include "tools/io/io.h"

namespace cairn::tools {
namespace {

using filters::blkdebug::Breakpoints;

int tell(std::string_view what, int code) {
  fmt::print("{}: {}\n", what, Error::from_errno(code).message());
  return 1;
}

io::Task<void> until_stopped(block::Node& top, std::string tag) {
  for (;;) {
    const Breakpoints* breakpoints = filters::blkdebug::find_breakpoints(top);
    if (breakpoints != nullptr && breakpoints->has_stopped(tag)) {
      co_return;
    }
    (void)co_await io::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace

int io_break(IoShell& shell, const IoArguments& arguments) {
  Breakpoints* breakpoints = filters::blkdebug::find_breakpoints(shell.root().node());
  if (breakpoints == nullptr) {
    return tell("Could not set breakpoint", ENOTSUP);
  }
  const auto event = schema::from_string<schema::BlkdebugEvent>(arguments[1]);
  if (!event) {
    return tell("Could not set breakpoint", ENOENT);
  }
  breakpoints->set(static_cast<block::FaultPoint>(*event), arguments[2]);
  return 0;
}

int io_remove_break(IoShell& shell, const IoArguments& arguments) {
  Breakpoints* breakpoints = filters::blkdebug::find_breakpoints(shell.root().node());
  if (breakpoints == nullptr || !breakpoints->remove(arguments[1])) {
    return tell(fmt::format("Could not remove breakpoint {}", arguments[1]),
                breakpoints == nullptr ? ENOTSUP : ENOENT);
  }
  return 0;
}

int io_resume(IoShell& shell, const IoArguments& arguments) {
  Breakpoints* breakpoints = filters::blkdebug::find_breakpoints(shell.root().node());
  if (breakpoints == nullptr || !breakpoints->resume(arguments[1])) {
    return tell("Could not resume request", breakpoints == nullptr ? ENOTSUP : ENOENT);
  }
  return 0;
}

int io_wait_break(IoShell& shell, const IoArguments& arguments) {
  shell.session().run(until_stopped(shell.root().node(), arguments[1]));
  return 0;
}

}  // namespace cairn::tools
