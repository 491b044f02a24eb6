// HeldWrites: writes that were answered and are not carried out yet, as a disk's cache holds them.
//
// Invariants
// - Writes that overlap are carried out in the order in which they came; others in any.
// - A read sees what was answered, wherever it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <random>

#include "base/result.h"
#include "block/node.h"
#include "io/buffer.h"
#include "io/iovector.h"
#include "io/mutex.h"
#include "io/task.h"

namespace cairn::filters::chaos {

class HeldWrites {
 public:
  // Bytes that are held at most, but for a single write that has more.
  static constexpr uint64_t kMostBytes = 16 << 20;

  // `child` outlives this.
  explicit HeldWrites(block::Edge& child) : child_(child) {}

  [[nodiscard]] bool empty() const { return writes_.empty(); }
  [[nodiscard]] uint64_t bytes() const { return bytes_; }

  // Takes a copy.
  [[nodiscard]] Result<void> hold(uint64_t offset, const io::IoVector& data);
  [[nodiscard]] io::Task<Result<void>> read(uint64_t offset, io::IoVector data);
  // Carries everything out that is held now, in an order by chance. What fails stays.
  [[nodiscard]] io::Task<Result<void>> carry_out(std::mt19937_64& chance);

 private:
  struct Write {
    uint64_t offset = 0;
    uint64_t number = 0;
    std::shared_ptr<io::AlignedBuffer> data;
    [[nodiscard]] uint64_t end() const { return offset + data->size(); }
    [[nodiscard]] bool overlaps(uint64_t from, uint64_t length) const {
      return offset < from + length && from < end();
    }
  };

  [[nodiscard]] std::list<Write>::iterator pick(uint64_t before, std::mt19937_64& chance);

  block::Edge& child_;
  std::list<Write> writes_;  // in the order in which they came
  uint64_t bytes_ = 0;
  uint64_t next_number_ = 0;
  io::AsyncMutex carrying_out_;
};

}  // namespace cairn::filters::chaos
