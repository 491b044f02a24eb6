#include "crypto/secret_bytes.h"

#include <cstring>

namespace cairn::crypto {

void wipe(std::span<std::byte> bytes) {
  if (!bytes.empty()) {
    explicit_bzero(bytes.data(), bytes.size());
  }
}

}  // namespace cairn::crypto
