// HeaderArea: the part of a file that holds the header of an encrypted volume, with its keys.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "io/task.h"

namespace cairn::block {
class Edge;
}

namespace cairn::encryption {

struct HeaderArea {
  block::Edge* file = nullptr;  // outlives the area
  uint64_t offset = 0;          // bytes of the file before the header
  // Bytes; what lies beyond is not the header's. The volume's own, the payload, may follow.
  uint64_t length = UINT64_MAX;

  // What lies beyond the end of the file reads as zeroes. `memory` outlives the task.
  [[nodiscard]] io::Task<Result<void>> read(uint64_t at, std::span<std::byte> memory) const;
  [[nodiscard]] io::Task<Result<void>> write(uint64_t at, std::span<const std::byte> memory) const;
  [[nodiscard]] io::Task<Result<void>> flush() const;
};

}  // namespace cairn::encryption
