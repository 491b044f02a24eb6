// SeSparseImage: a space-efficient extent in memory, as small as the format lets it be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/sector.h"

namespace cairn::testing {

class SeSparseImage {
 public:
  static constexpr uint64_t kGrain = 4096;
  static constexpr uint64_t kTableSpan = 4096 * kGrain;
  // Sectors.
  static constexpr uint64_t kVolatileAt = 1;
  static constexpr uint64_t kDirectoryAt = 2;
  static constexpr uint64_t kTablesAt = 8;
  static constexpr uint64_t kTableSectors = 64;

  // A disk of so many sectors, with every table that it can have, and room for a few grains.
  explicit SeSparseImage(uint64_t capacity, uint64_t grains = 16)
      : tables_(div_round_up(capacity * kSector, kTableSpan)),
        bytes_((grains_at() * kSector) + grains * kGrain) {
    const uint64_t numbers[] = {0xcafebabe, uint64_t{2} << 32 | 1, capacity, 8, kTableSectors};
    for (uint64_t i = 0; i < std::size(numbers); ++i) {
      put(i * 8, numbers[i]);
    }
    put_area(80, kVolatileAt, 1);
    put_area(128, kDirectoryAt, div_round_up(tables_, 64));
    put_area(144, kTablesAt, tables_ * kTableSectors);
    put_area(192, grains_at(), grains * 8);
    put(kVolatileAt * kSector, 0xcafecafe);
    for (uint64_t i = 0; i < tables_; ++i) {
      set_table(i, uint64_t{1} << 60 | i);
    }
  }

  [[nodiscard]] uint64_t grains_at() const { return kTablesAt + tables_ * kTableSectors; }
  // Byte of the file.
  [[nodiscard]] uint64_t host(uint64_t number) const {
    return grains_at() * kSector + number * kGrain;
  }
  [[nodiscard]] std::vector<std::byte>& bytes() { return bytes_; }

  void put(uint64_t offset, uint64_t number) { store_le<uint64_t>(bytes_.data() + offset, number); }
  // An entry of the directory.
  void set_table(uint64_t index, uint64_t entry) { put(kDirectoryAt * kSector + index * 8, entry); }
  // The entry for grain `index` of the disk.
  void set_grain(uint64_t index, uint64_t entry) { put(kTablesAt * kSector + index * 8, entry); }
  void fill_grain(uint64_t number, int byte) {
    std::memset(bytes_.data() + host(number), byte, kGrain);
  }

  [[nodiscard]] static uint64_t allocated(uint64_t number) {
    return uint64_t{3} << 60 | (number & 0xfff) << 48 | number >> 12;
  }
  [[nodiscard]] static uint64_t zeroed() { return uint64_t{2} << 60; }
  // That had the grain of this number.
  [[nodiscard]] static uint64_t unmapped(uint64_t number) {
    return uint64_t{1} << 60 | (number & 0xfff) << 48 | number >> 12;
  }

 private:
  void put_area(uint64_t at, uint64_t offset, uint64_t length) {
    put(at, offset);
    put(at + 8, length);
  }

  uint64_t tables_;
  std::vector<std::byte> bytes_;
};

}  // namespace cairn::testing
