#include "crypto/anti_forensic.h"

#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "crypto/hash.h"
#include "crypto/secret_bytes.h"

namespace cairn::crypto {
namespace {

// Replaces every piece of a digest's length by its hash, the number of the piece in front of it.
Result<void> diffuse(Hash hash, std::span<std::byte> block) {
  const std::size_t length = digest_length(hash);
  SecretBytes digest(length);
  for (std::size_t begin = 0, index = 0; begin < block.size(); begin += length, ++index) {
    const std::span<std::byte> piece = block.subspan(begin, std::min(length, block.size() - begin));
    std::array<std::byte, 4> number{};
    store_be<uint32_t>(number.data(), static_cast<uint32_t>(index));
    Result<void> hashed = hash_bytes(hash, {number, piece}, digest.span());
    if (!hashed) {
      return hashed;
    }
    std::ranges::copy(digest.span().first(piece.size()), piece.begin());
  }
  return {};
}

void add(std::span<std::byte> sum, std::span<const std::byte> other) {
  for (std::size_t i = 0; i < sum.size(); ++i) {
    sum[i] ^= other[i];
  }
}

// What the last stripe has to be added to.
Result<void> mix(Hash hash, uint32_t stripes, std::span<const std::byte> material,
                 std::span<std::byte> block) {
  std::ranges::fill(block, std::byte{0});
  for (std::size_t i = 0; i + 1 < stripes; ++i) {
    add(block, material.subspan(i * block.size(), block.size()));
    if (Result<void> diffused = diffuse(hash, block); !diffused) {
      return diffused;
    }
  }
  return {};
}

}  // namespace

Result<void> split_key(Hash hash, uint32_t stripes, std::span<const std::byte> key,
                       std::span<std::byte> out) {
  const std::span<std::byte> last = out.subspan((stripes - 1) * key.size());
  Result<void> result = random_bytes(out.first(out.size() - key.size()));
  if (result) {
    SecretBytes block(key.size());
    result = mix(hash, stripes, out, block.span());
    std::ranges::copy(block.span(), last.begin());
    add(last, key);
  }
  return result;
}

Result<void> merge_key(Hash hash, uint32_t stripes, std::span<const std::byte> material,
                       std::span<std::byte> key) {
  Result<void> result = mix(hash, stripes, material, key);
  if (result) {
    add(key, material.subspan((stripes - 1) * key.size()));
  }
  return result;
}

}  // namespace cairn::crypto
