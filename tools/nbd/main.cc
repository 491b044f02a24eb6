// cairn-nbd: serves one disk image over NBD, without a monitor.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/result.h"
#include "tools/common/report.h"
#include "tools/nbd/activation.h"
#include "tools/nbd/kernel_device.h"
#include "tools/nbd/list.h"
#include "tools/nbd/options.h"
#include "tools/nbd/server.h"

namespace cairn::tools {
namespace {

int disconnect(const std::string& device) {
  const auto done = disconnect_device(kernel_device_calls(), device);
  if (!done) {
    report_error(done.error());
    return EXIT_FAILURE;
  }
  fmt::print("{} disconnected\n", device);
  return EXIT_SUCCESS;
}

int nbd_main(const std::vector<std::string>& arguments) {
  int exit_code = EXIT_SUCCESS;
  const auto options = parse_nbd_command_line(arguments, exit_code);
  if (!options) {
    return exit_code;
  }
  if (options->mode == NbdOptions::Mode::kDisconnect) {
    return disconnect(options->image.text);
  }
  const auto descriptor = take_passed_socket(*options);
  if (!descriptor) {
    report_error(descriptor.error());
    return EXIT_FAILURE;
  }
  return options->mode == NbdOptions::Mode::kList ? list_exports(*options)
                                                  : serve_image(*options, *descriptor);
}

}  // namespace
}  // namespace cairn::tools

int main(int argc, char** argv) {
  cairn::tools::set_program_name(argc > 0 ? argv[0] : "cairn-nbd");
  const int code = cairn::tools::nbd_main({argv + std::min(argc, 1), argv + argc});
  return cairn::tools::flush_output() ? code : EXIT_FAILURE;
}
