// DirtyLog: a bitmap, shared with the front-end, of the pages of the guest that were written to
// ("Migration"): what a migration has to copy again.
#pragma once

#include <cstdint>
#include <utility>

#include "exports/vhost_user/mapped_file.h"

namespace cairn::vhost_user {

class DirtyLog {
 public:
  static constexpr uint64_t kPage = 4096;

  explicit DirtyLog(MappedFile bits) : bits_(std::move(bits)) {}

  // Notes that guest memory was written. What lies beyond the log is left out: there is nothing to
  // be told about it.
  void mark(uint64_t guest_address, uint64_t length);

  [[nodiscard]] bool faulted() const { return bits_.faulted(); }

 private:
  MappedFile bits_;
};

}  // namespace cairn::vhost_user
