#include "filters/chaos/held_writes.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace cairn::filters::chaos {

Result<void> HeldWrites::hold(uint64_t offset, const io::IoVector& data) {
  auto copy = io::AlignedBuffer::allocate(data.size());
  if (!copy) {
    return pass(copy);
  }
  data.copy_to(0, copy->span());
  writes_.push_back({.offset = offset,
                     .number = next_number_++,
                     .data = std::make_shared<io::AlignedBuffer>(std::move(*copy))});
  bytes_ += data.size();
  return {};
}

io::Task<Result<void>> HeldWrites::read(uint64_t offset, io::IoVector data) {
  const uint64_t length = data.size();
  std::vector<Write> newer;  // they may reach the child meanwhile, or after it was read
  std::ranges::copy_if(writes_, std::back_inserter(newer),
                       [&](const Write& write) { return write.overlaps(offset, length); });
  Result<void> result = co_await child_.read(offset, data);
  if (!result) {
    co_return result;
  }
  for (const Write& write : newer) {
    const uint64_t begin = std::max(offset, write.offset);
    const uint64_t end = std::min(offset + length, write.end());
    data.copy_from(begin - offset, write.data->span().subspan(begin - write.offset, end - begin));
  }
  co_return result;
}

// One of the writes before a number that no earlier one overlaps; the end when there is none.
std::list<HeldWrites::Write>::iterator HeldWrites::pick(uint64_t before, std::mt19937_64& chance) {
  std::vector<std::list<Write>::iterator> free;
  for (auto write = writes_.begin(); write != writes_.end() && write->number < before; ++write) {
    const bool waits = std::any_of(writes_.begin(), write, [&](const Write& earlier) {
      return earlier.overlaps(write->offset, write->data->size());
    });
    if (!waits) {
      free.push_back(write);
    }
    if (free.size() == 64) {
      break;  // far enough from the order in which they came
    }
  }
  return free.empty() ? writes_.end() : free[chance() % free.size()];
}

io::Task<Result<void>> HeldWrites::carry_out(std::mt19937_64& chance) {
  const uint64_t before = next_number_;
  const auto turn = co_await carrying_out_.lock();
  for (;;) {
    const auto next = pick(before, chance);
    if (next == writes_.end()) {
      co_return Result<void>{};
    }
    const std::shared_ptr<io::AlignedBuffer> data = next->data;
    Result<void> result = co_await child_.write(next->offset, data->data(), data->size());
    if (!result) {
      co_return result;
    }
    bytes_ -= data->size();
    writes_.erase(next);
  }
}

}  // namespace cairn::filters::chaos
