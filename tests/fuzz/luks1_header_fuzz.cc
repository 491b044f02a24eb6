// Any bytes as a LUKS1 header: what is taken for one can be written again, and says the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "formats/encryption/luks1_header.h"

using namespace cairn::encryption;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::byte> bytes(Luks1Header::kBytes);
  const bool detached = size > 0 && (data[size - 1] & 1) != 0;
  for (size_t i = 0; i < size && i < bytes.size(); ++i) {
    bytes[i] = std::byte{data[i]};
  }
  const auto header = parse_luks1_header(bytes, detached);
  if (!header) {
    return 0;
  }
  const auto again = parse_luks1_header(serialize_luks1_header(*header), detached);
  if (!again || serialize_luks1_header(*again) != serialize_luks1_header(*header)) {
    abort();
  }
  return 0;
}
