#include "tests/support/pattern.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/bytes.h"
#include "tests/support/random.h"

namespace cairn::testing {
namespace {

constexpr uint64_t kWord = sizeof(uint64_t);
// The bits of a word's index; 8 TiB of guest offsets.
constexpr int kIndexBits = 40;

uint64_t word_of(WriteNumber number, uint64_t index) {
  return number == kZeroes ? 0 : scatter((number << kIndexBits) | index);
}

}  // namespace

void fill_pattern(WriteNumber number, uint64_t offset, std::span<std::byte> out) {
  if (number == kZeroes) {
    std::ranges::fill(out, std::byte{0});
    return;
  }
  std::size_t done = 0;
  while (done < out.size()) {
    const uint64_t at = offset + done;
    std::byte word[kWord];
    store_le(word, word_of(number, at / kWord));
    const std::size_t length = std::min<std::size_t>(kWord - at % kWord, out.size() - done);
    std::memcpy(out.data() + done, word + at % kWord, length);
    done += length;
  }
}

uint64_t matching_prefix(WriteNumber number, uint64_t offset, std::span<const std::byte> data) {
  std::size_t done = 0;
  while (done < data.size()) {
    const uint64_t at = offset + done;
    std::byte word[kWord];
    store_le(word, word_of(number, at / kWord));
    const std::size_t length = std::min<std::size_t>(kWord - at % kWord, data.size() - done);
    if (std::memcmp(data.data() + done, word + at % kWord, length) != 0) {
      std::size_t equal = 0;
      while (data[done + equal] == word[at % kWord + equal]) {
        ++equal;
      }
      return done + equal;
    }
    done += length;
  }
  return done;
}

std::string describe_data(uint64_t offset, std::span<const std::byte> data) {
  const std::size_t skip = align_up(offset, kWord) - offset;
  if (data.size() < skip + kWord) {
    return "too few bytes to tell";
  }
  const auto word = load_le<uint64_t>(data.data() + skip);
  if (word == 0) {
    return "zeroes";
  }
  const uint64_t origin = gather(word);
  const WriteNumber number = origin >> kIndexBits;
  const uint64_t index = origin & ((uint64_t{1} << kIndexBits) - 1);
  if (number > 100'000 || index * kWord > (uint64_t{1} << 40)) {
    return fmt::format("bytes that no write wrote (0x{:016x})", word);
  }
  return fmt::format("write {} at offset {}", number, index * kWord);
}

}  // namespace cairn::testing
