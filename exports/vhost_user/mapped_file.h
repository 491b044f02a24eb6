// MappedFile: a part of a file that a client has passed, as memory that both see.
//
// Invariants
// - The part lay within the file when it was mapped. When the file is cut short later, the part
//   reads as zeroes from then on, and says so.
// - Nothing that could keep this program waiting is mapped: only files, and none of a file system
//   that a program of the client's serves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "base/result.h"
#include "exports/vhost_user/fault_guard.h"

namespace cairn::vhost_user {

class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile() { unmap(); }

  // The descriptor can be closed afterwards.
  [[nodiscard]] static Result<MappedFile> map(int fd, uint64_t offset, uint64_t length);

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] uint64_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return data_ == nullptr; }
  [[nodiscard]] bool faulted() const { return guard_.faulted(); }

 private:
  void unmap();

  std::byte* data_ = nullptr;  // the part
  uint64_t size_ = 0;
  void* base_ = nullptr;  // the mapping, which begins with a page
  std::size_t mapped_ = 0;
  FaultGuard guard_;
};

}  // namespace cairn::vhost_user
