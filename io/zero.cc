#include "io/zero.h"

#include <algorithm>
#include <cstring>

namespace cairn::io {

bool is_zero(std::span<const std::byte> bytes) {
  // Data that is not zero usually shows it at the start, or in its middle or at its end.
  constexpr std::size_t kHead = 16;
  const std::size_t head = std::min(bytes.size(), kHead);
  if (!std::ranges::all_of(bytes.first(head), [](std::byte b) { return b == std::byte{0}; })) {
    return false;
  }
  if (bytes.size() <= kHead) {
    return true;
  }
  if (bytes.back() != std::byte{0} || bytes[bytes.size() / 2] != std::byte{0}) {
    return false;
  }
  // The head is zero; when every byte equals the one kHead before it, so is the rest. The C
  // library's memcmp uses the widest vectors that the processor has.
  return std::memcmp(bytes.data(), bytes.data() + kHead, bytes.size() - kHead) == 0;
}

}  // namespace cairn::io
