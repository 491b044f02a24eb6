#include "tools/nbd/activation.h"

#include <cerrno>

#include "io/passed_descriptors.h"
#include "tools/common/report.h"

namespace cairn::tools {

Result<std::optional<int>> take_passed_socket(const NbdOptions& options) {
  if (auto taken = io::take_passed_descriptors(); !taken) {
    return pass(taken);
  }
  const int count = io::count_passed_descriptors();
  if (count == 0) {
    return std::nullopt;
  }
  if (auto usable = check_activation(options); !usable) {
    return pass(usable);
  }
  if (count > 1) {
    return fail(EINVAL, "{} does not support socket activation with LISTEN_FDS > 1",
                program_name());
  }
  return io::kFirstPassedDescriptor;
}

}  // namespace cairn::tools
