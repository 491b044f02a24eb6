// Digests (hashes) of data that comes piece by piece.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"

namespace cairn::crypto {

class Digest {
 public:
  Digest() = default;
  Digest(const Digest&) = delete;
  Digest& operator=(const Digest&) = delete;
  virtual ~Digest() = default;

  virtual void update(std::span<const std::byte> data) = 0;
  // The digest in lower-case hexadecimal digits; once, at the end.
  [[nodiscard]] virtual Result<std::string> finish() = 0;
};

// SHA-256 (FIPS 180-4).
[[nodiscard]] Result<std::unique_ptr<Digest>> make_sha256();

}  // namespace cairn::crypto
