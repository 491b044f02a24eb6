#include "crypto/argon2_key.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "crypto/library.h"

namespace cairn::crypto {

Result<void> argon2(Argon2Kind kind, std::span<const std::byte> password,
                    std::span<const std::byte> salt, Argon2Cost cost, std::span<std::byte> out) {
  auto loaded = library();
  if (!loaded) {
    return pass(loaded);
  }
  return (*loaded)->argon2(kind, password, salt, cost, out);
}

Result<uint32_t> argon2_passes(Argon2Kind kind, Argon2Cost cost, uint64_t milliseconds) {
  if (milliseconds == 0) {
    return cost.passes;
  }
  constexpr std::array<std::byte, 32> kSample{};
  std::array<std::byte, 32> out{};
  const auto begin = std::chrono::steady_clock::now();
  Result<void> derived = argon2(kind, kSample, kSample, cost, out);
  if (!derived) {
    return pass(derived);
  }
  const std::chrono::duration<double, std::milli> taken = std::chrono::steady_clock::now() - begin;
  const double passes = cost.passes * static_cast<double>(milliseconds) / taken.count();
  return static_cast<uint32_t>(std::clamp(passes, double{1.0} * cost.passes, 1e9));
}

}  // namespace cairn::crypto
