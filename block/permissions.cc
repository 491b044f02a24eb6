#include "block/permissions.h"

namespace cairn::block {

std::string PermissionSet::to_string() const {
  std::string text;
  const auto add = [&](Bit bit, const char* name) {
    if (has(bit)) {
      text += text.empty() ? "" : ", ";
      text += name;
    }
  };
  add(kConsistentRead, "consistent read");
  add(kWrite, "write");
  add(kWriteUnchanged, "write unchanged");
  add(kResize, "resize");
  return text;
}

}  // namespace cairn::block
