// SparseBytes: a byte array of any size that stores only the pages somebody wrote to.
//
// Copies share their pages until one of them writes, so that keeping the state of a disk at every
// power cut is cheap. Bytes that were never written read as zeroes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace cairn::testing {

class SparseBytes {
 public:
  explicit SparseBytes(uint64_t size = 0) : size_(size) {}

  // In bytes.
  [[nodiscard]] uint64_t size() const { return size_; }
  // What is cut off is forgotten: growing again reads zeroes there.
  void resize(uint64_t size);

  // Bytes beyond the end read as zeroes.
  void read(uint64_t offset, std::span<std::byte> out) const;
  [[nodiscard]] std::vector<std::byte> read(uint64_t offset, uint64_t length) const;
  // Grows the array when it has to.
  void write(uint64_t offset, std::span<const std::byte> data);
  void zero(uint64_t offset, uint64_t length);

  // How far the stored bytes, or the hole, at `offset` reach. `offset` lies inside.
  struct Run {
    uint64_t length;
    bool stored;
  };
  [[nodiscard]] Run run_at(uint64_t offset) const;
  // Bytes of the pages that are stored.
  [[nodiscard]] uint64_t stored() const { return pages_.size() * kPage; }

  // Makes `path` a sparse file of the same content.
  [[nodiscard]] Result<void> save(const std::string& path) const;
  // The content of a file.
  [[nodiscard]] static Result<SparseBytes> load(const std::string& path);

 private:
  static constexpr uint64_t kPage = 4096;
  using Page = std::array<std::byte, kPage>;

  [[nodiscard]] Page& writable_page(uint64_t index);

  uint64_t size_;
  std::map<uint64_t, std::shared_ptr<Page>> pages_;
};

}  // namespace cairn::testing
