// cairn-nbd: serves one disk image over NBD, without a monitor.
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/fd.h"
#include "tools/common/report.h"
#include "tools/nbd/activation.h"
#include "tools/nbd/list.h"
#include "tools/nbd/options.h"
#include "tools/nbd/server.h"

namespace cairn::tools {
namespace {

// This program can not drive the kernel's client; a device that is not there has its own error.
int disconnect(const std::string& device) {
  const io::Fd fd(open(device.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd.valid()) {
    report_error(Error::from_errno(errno, "Cannot open " + device));
  } else {
    report_error("This version does not disconnect devices of the kernel; 'nbd-client -d' can");
  }
  return EXIT_FAILURE;
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
