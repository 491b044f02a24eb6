#include "formats/encryption/header_area.h"

#include <algorithm>
#include <cerrno>

#include "block/node.h"

namespace cairn::encryption {

io::Task<Result<void>> HeaderArea::read(uint64_t at, std::span<std::byte> memory) const {
  const uint64_t end = file->length();
  const uint64_t begin = offset + at;
  const uint64_t present = begin < end ? std::min<uint64_t>(memory.size(), end - begin) : 0;
  std::ranges::fill(memory.subspan(present), std::byte{0});
  if (at > length || memory.size() > length - at) {
    co_return fail(EINVAL, "The encryption header of '{}' goes on beyond its end",
                   file->node().filename());
  }
  co_return co_await file->read(begin, memory.data(), present);
}

io::Task<Result<void>> HeaderArea::write(uint64_t at, std::span<const std::byte> memory) const {
  if (at > length || memory.size() > length - at) {
    co_return fail(ENOSPC, "The encryption header of '{}' has no room for {} bytes at {}",
                   file->node().filename(), memory.size(), at);
  }
  co_return co_await file->write(offset + at, memory.data(), memory.size());
}

io::Task<Result<void>> HeaderArea::flush() const { co_return co_await file->flush(); }

}  // namespace cairn::encryption
