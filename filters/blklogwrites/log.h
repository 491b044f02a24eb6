// WriteLog: a log of writes in another node, in the format of dm-log-writes.
//
//     sector 0            magic, version (1), entries, sector size
//     then, one after the other:
//       a sector          sector, sectors, flags, length of a mark's data (0 here)
//       the data          of as many sectors, unless it is a discard
//
// All numbers are little endian; a sector has as many bytes as the log says.
//
// Invariants
// - Entries are appended one at a time, in the order in which append() was called.
// - The first sector never counts an entry that was not written.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "block/node.h"
#include "io/iovector.h"
#include "io/mutex.h"
#include "io/task.h"

namespace cairn::filters::blklogwrites {

class WriteLog {
 public:
  enum Flag : uint64_t { kFlush = 1, kFua = 2, kDiscard = 4 };
  static constexpr uint64_t kMagic = 0x6a736677736872;
  static constexpr uint64_t kVersion = 1;
  static constexpr uint32_t kDefaultSector = 512;
  static constexpr uint32_t kLargestSector = 1 << 23;

  // `file` outlives the log. `interval`: entries after which the first sector is written.
  WriteLog(block::Edge& file, uint32_t sector, uint64_t interval)
      : file_(file), sector_(sector), interval_(interval) {}

  // Finds the end of the log that is there; EINVAL when there is something else. An empty file is
  // an empty log.
  [[nodiscard]] io::Task<Result<void>> open_existing();

  [[nodiscard]] uint32_t sector() const { return sector_; }
  [[nodiscard]] uint64_t entries() const { return entries_; }

  // `length` bytes at `offset`, in whole sectors, and what was written there: nothing for flushes
  // and discards.
  [[nodiscard]] io::Task<Result<void>> append(uint64_t offset, uint64_t length, uint64_t flags,
                                              io::IoVector data);
  // Makes the log durable, with its first sector.
  [[nodiscard]] io::Task<Result<void>> flush();

 private:
  [[nodiscard]] io::Task<Result<void>> find_end(uint64_t entries);
  [[nodiscard]] io::Task<Result<void>> write_super();

  block::Edge& file_;
  uint32_t sector_;
  const uint64_t interval_;
  uint64_t end_ = 1;  // in sectors; the first one is taken
  uint64_t entries_ = 0;
  io::AsyncMutex mutex_;
};

}  // namespace cairn::filters::blklogwrites
