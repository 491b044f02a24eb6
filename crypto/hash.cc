#include "crypto/hash.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>

#include "crypto/library.h"
#include "crypto/secret_bytes.h"

namespace cairn::crypto {
namespace {

uint64_t thread_nanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

Result<void> hash_bytes(Hash hash, std::initializer_list<std::span<const std::byte>> parts,
                        std::span<std::byte> out) {
  auto loaded = library();
  if (!loaded) {
    return pass(loaded);
  }
  return (*loaded)->hash_bytes(hash, {parts.begin(), parts.size()}, out);
}

Result<void> pbkdf2(Hash hash, std::span<const std::byte> password, std::span<const std::byte> salt,
                    uint32_t iterations, std::span<std::byte> out) {
  auto loaded = library();
  if (!loaded) {
    return pass(loaded);
  }
  return (*loaded)->pbkdf2(hash, password, salt, iterations, out);
}

// More and more iterations, until they take long enough to be measured.
Result<uint32_t> pbkdf2_iterations(Hash hash, std::size_t out_length, uint64_t milliseconds,
                                   uint32_t least) {
  constexpr uint64_t kEnough = 20'000'000;  // nanoseconds
  constexpr uint32_t kMostTried = 1u << 24;
  constexpr std::array<std::byte, 32> kSample{};
  if (milliseconds == 0) {
    return least;
  }
  SecretBytes out(out_length);
  uint32_t iterations = 1u << 12;
  uint64_t taken = 0;
  for (;;) {
    const uint64_t begin = thread_nanoseconds();
    Result<void> derived = pbkdf2(hash, kSample, kSample, iterations, out.span());
    if (!derived) {
      return pass(derived);
    }
    taken = std::max<uint64_t>(thread_nanoseconds() - begin, 1);
    if (taken >= kEnough || iterations >= kMostTried) {
      break;
    }
    iterations *= 2;
  }
  const double wanted = static_cast<double>(iterations) * static_cast<double>(milliseconds) *
                        1'000'000.0 / static_cast<double>(taken);
  if (wanted > static_cast<double>(UINT32_MAX)) {
    return fail_errno(ERANGE, "PBKDF iterations {} too large to scale", iterations);
  }
  return std::max(least, static_cast<uint32_t>(wanted));
}

Result<void> random_bytes(std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t got = getrandom(out.data(), out.size(), 0);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      return fail_errno(errno, "Unable to get random bytes");
    }
    out = out.subspan(static_cast<std::size_t>(got));
  }
  return {};
}

bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  std::byte difference{a.size() == b.size() ? uint8_t{0} : uint8_t{1}};
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    difference |= a[i] ^ b[i];
  }
  return difference == std::byte{0};
}

}  // namespace cairn::crypto
