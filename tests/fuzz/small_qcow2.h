// SmallQcow2: a sound qcow2 image of version 3 without data, made field by field, for targets that
// fuzz one kind of table in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"

namespace cairn::testing {

class SmallQcow2 {
 public:
  struct Shape {
    uint32_t cluster_bits = 9;
    uint64_t clusters = 16;   // of the file
    uint64_t size = 1 << 20;  // of the disk, in bytes; one L1 cluster must do
    uint32_t refcount_order = 4;
    uint64_t incompatible = 0;  // features
    uint64_t autoclear = 0;
  };
  // Clusters: 0 the header, then these; the rest is zeroes, counted as in use.
  static constexpr uint64_t kRefcountTable = 1;
  static constexpr uint64_t kRefcountBlock = 2;
  static constexpr uint64_t kL1 = 3;
  static constexpr uint64_t kFirstFree = 4;
  // Where header extensions may go; behind it the header's cluster is zeroes.
  static constexpr uint64_t kExtensions = 104;

  explicit SmallQcow2(const Shape& shape);

  [[nodiscard]] uint64_t at(uint64_t cluster) const { return cluster << shape_.cluster_bits; }
  template <typename T>
  void put(uint64_t offset, T value) {
    store_be(bytes_.data() + offset, value);
  }
  // As much of `input` as there is room for from `offset` to `end`.
  void fill(uint64_t offset, uint64_t end, std::span<const std::byte> input);

  [[nodiscard]] const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  Shape shape_;
  std::vector<std::byte> bytes_;
};

}  // namespace cairn::testing
