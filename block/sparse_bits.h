// SparseBits: a long row of bits, most of which are alike.
//
// Two levels: the row is cut into chunks of 32768 bits (4 KiB), and a chunk takes memory only while
// it has bits of both kinds. The table of chunks exists once a bit is set. A disk of 16 TiB at one
// bit for 64 KiB takes 128 KiB when it is clean, or dirty throughout, and at most 32 MiB.
//
// Invariant: bits from size() on are clear.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace cairn::block {

class SparseBits {
 public:
  static constexpr uint64_t kChunkBits = 32768;

  explicit SparseBits(uint64_t size = 0) : size_(size) {}
  SparseBits(const SparseBits& other);
  SparseBits& operator=(const SparseBits& other);
  SparseBits(SparseBits&&) noexcept = default;
  SparseBits& operator=(SparseBits&&) noexcept = default;
  ~SparseBits() = default;

  [[nodiscard]] uint64_t size() const { return size_; }
  // How many bits are set.
  [[nodiscard]] uint64_t count() const { return count_; }
  [[nodiscard]] bool test(uint64_t index) const;

  // Ranges are clipped to size().
  void set(uint64_t first, uint64_t length);
  void clear(uint64_t first, uint64_t length);
  void clear_all();
  // Bits that are added are clear.
  void resize(uint64_t size);
  // Sets the bits that `other` has, which is as long.
  void merge(const SparseBits& other);

  // The first set, or clear, bit in [from, end); nothing when there is none.
  [[nodiscard]] std::optional<uint64_t> next_set(uint64_t from, uint64_t end) const;
  [[nodiscard]] std::optional<uint64_t> next_clear(uint64_t from, uint64_t end) const;

  // Bit i of the row is bit i % 8 of byte i / 8. `first` is a multiple of 64; bits from size() on
  // are ignored, and given as clear.
  void merge_bytes(uint64_t first, std::span<const std::byte> bytes);
  void copy_bytes(uint64_t first, std::span<std::byte> bytes) const;

 private:
  static constexpr uint64_t kWordBits = 64;
  using Words = std::array<uint64_t, kChunkBits / kWordBits>;
  // Without words all of its bits are alike: `set` is 0, or how many bits the chunk has.
  struct Chunk {
    uint32_t set = 0;
    std::unique_ptr<Words> words;
  };

  [[nodiscard]] uint64_t chunk_count() const { return (size_ + kChunkBits - 1) / kChunkBits; }
  [[nodiscard]] uint32_t chunk_bits(uint64_t chunk) const;
  void make_words(Chunk& chunk, uint64_t index);
  void settle(Chunk& chunk, uint64_t index);
  void merge_word(uint64_t index, uint64_t bits);
  void change(uint64_t chunk, uint64_t first, uint64_t end, bool value);
  void change_range(uint64_t first, uint64_t length, bool value);
  [[nodiscard]] uint64_t word(uint64_t index) const;
  [[nodiscard]] std::optional<uint64_t> next(uint64_t from, uint64_t end, bool value) const;

  uint64_t size_;
  uint64_t count_ = 0;
  std::vector<Chunk> chunks_;  // empty while no bit is set
};

}  // namespace cairn::block
