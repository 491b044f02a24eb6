#include "formats/encryption/uuid.h"

#include <array>
#include <cstddef>

#include "crypto/hash.h"

namespace cairn::encryption {

Result<std::string> make_uuid() {
  std::array<std::byte, 16> bytes{};
  if (auto got = crypto::random_bytes(bytes); !got) {
    return pass(got);
  }
  bytes[6] = (bytes[6] & std::byte{0x0f}) | std::byte{0x40};
  bytes[8] = (bytes[8] & std::byte{0x3f}) | std::byte{0x80};
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    text += fmt::format("{}{:02x}", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                        std::to_integer<unsigned>(bytes[i]));
  }
  return text;
}

}  // namespace cairn::encryption
