// RawWindow: which part of its file a raw node shows.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"

namespace cairn::schema {
struct BlockdevOptionsRaw;
}

namespace cairn::raw {

struct RawWindow {
  uint64_t offset = 0;           // bytes of the file before the first that the guest sees
  std::optional<uint64_t> size;  // bytes; without it the window ends where the file ends

  // Takes and checks the options against the file's length. EINVAL when the window is not inside.
  [[nodiscard]] static Result<RawWindow> create(const schema::BlockdevOptionsRaw& options,
                                                uint64_t file_length);

  // Bytes the guest sees of a file of this length.
  [[nodiscard]] uint64_t length(uint64_t file_length) const {
    return size.value_or(file_length > offset ? file_length - offset : 0);
  }

  // How long the file has to be for the guest to see `length` bytes. ENOTSUP when the size is
  // fixed.
  [[nodiscard]] Result<uint64_t> file_length_for(uint64_t length) const;
};

}  // namespace cairn::raw
