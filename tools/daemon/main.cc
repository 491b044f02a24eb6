// cairnd: serves disk images, controlled by its command line and by QMP.
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "io/passed_descriptors.h"
#include "io/reactor.h"
#include "io/signal.h"
#include "tools/common/process.h"
#include "tools/common/report.h"
#include "tools/daemon/daemon.h"
#include "tools/daemon/options.h"
#include "tools/daemon/service.h"

namespace {

int fail_to_start(const char* name, const cairn::Error& error) {
  fmt::print(stderr, "{}: {}\n", name, error.message());
  return EXIT_FAILURE;
}

}  // namespace

int main(int argc, char** argv) {
  // getopt's messages begin with argv[0]; ours have no directory in front, either.
  argv[0] = program_invocation_short_name;
  const char* name = argv[0];
  cairn::tools::set_program_name(name);
  int exit_code = EXIT_SUCCESS;
  const auto options = cairn::tools::parse_command_line(argc, argv, exit_code);
  if (!options) {
    return exit_code;
  }
  // Both before the fork: they know the process that they are meant for.
  if (const auto taken = cairn::io::take_passed_descriptors(); !taken) {
    return fail_to_start(name, taken.error());
  }
  const cairn::tools::ServiceManager nobody;
  const auto manager = cairn::tools::ServiceManager::from_environment();
  if (!manager) {
    // The variable may have come down from somebody else's service: no reason not to serve.
    fmt::print(stderr, "{}: warning: {}\n", name, manager.error().message());
  }
  std::optional<cairn::tools::Background> background;
  if (options->daemonize) {
    auto entered = cairn::tools::Background::enter();
    if (!entered) {
      return fail_to_start(name, entered.error());
    }
    background.emplace(std::move(*entered));
  }
  std::signal(SIGPIPE, SIG_IGN);
  cairn::tools::raise_file_limit();
  const auto signals = cairn::io::SignalWatcher::create({SIGINT, SIGTERM, SIGHUP});
  if (!signals) {
    return fail_to_start(name, signals.error());
  }
  const auto reactor = cairn::io::Reactor::create(options->io);
  if (!reactor) {
    return fail_to_start(name, reactor.error());
  }
  (*reactor)->set_polling(options->polling);
  cairn::tools::Daemon daemon(name, *options, *signals, manager ? *manager : nobody,
                              background ? &*background : nullptr);
  return (*reactor)->block_on(daemon.run());
}
