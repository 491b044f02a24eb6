// Writes of compressed units.
//
// Units are encoded on the worker pool, many at a time, also those of different requests; their
// places are given out in the order in which the requests came, so that the same writes make the
// same image however long each encoding took. Units that lie behind each other on the child are
// written in one piece. What does not become shorter is written plainly.
#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "block/codec.h"
#include "block/driver_table.h"
#include "block/engine.h"
#include "block/fault_point.h"
#include "io/event.h"
#include "io/task_group.h"
#include "io/worker_pool.h"

namespace cairn::block {
namespace {

constexpr uint64_t kChunk = 1 << 20;  // bytes that are encoded before any is written

// A request's place in the order of compressed writes to a node.
class Turn {
 public:
  explicit Turn(std::shared_ptr<io::Event>& last)
      : mine_(std::exchange(last, std::make_shared<io::Event>())), next_(last) {}
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() { pass(); }

  [[nodiscard]] io::Task<void> wait() const {
    if (mine_ != nullptr) {
      co_await mine_->wait();
    }
  }
  void pass() const { next_->set(); }

 private:
  std::shared_ptr<io::Event> mine_;
  std::shared_ptr<io::Event> next_;
};

}  // namespace

struct Engine::EncodedUnit {
  uint64_t offset = 0;         // of the guest
  io::IoVector data;           // may be short at the end of the image
  io::AlignedBuffer plain;     // the unit in one piece, when `data` is not
  io::AlignedBuffer stored;    // its compressed form
  uint64_t stored_length = 0;  // 0: it does not become shorter
  WritePlan plan;              // valid once placed
  bool placed = false;         // begun, and not settled yet
  Result<void> outcome;
};

Result<void> Engine::check_compression(const Node& node) {
  const bool possible = node.info_.kind == DriverInfo::Kind::kFilter ||
                        (node.translating_ != nullptr &&
                         (node.translating_->encoder() != nullptr ||
                          node.translating_->encoding() == TranslatingDriver::Encoding::kNever));
  return possible ? Result<void>()
                  : fail(ENOTSUP, "Block node '{}' can not write compressed data", node.name());
}

Engine::Outcome Engine::write_compressed(Node& node, uint64_t offset, io::IoVector data,
                                         WriteFlags flags) {
  if (node.translating_ != nullptr &&
      node.translating_->encoding() == TranslatingDriver::Encoding::kNever) {
    flags.compressed = false;
    co_return co_await write_translated(node, offset, std::move(data), flags);
  }
  if (auto possible = check_compression(node); !possible) {
    co_return possible;
  }
  const Codec* codec = node.translating_->encoder();
  const uint64_t unit = node.translating_->allocation_unit();
  const uint64_t end = offset + data.size();
  const bool whole = is_aligned(offset, unit) && (is_aligned(end, unit) || end == node.length());
  if (!whole && node.translating_->encoding() == TranslatingDriver::Encoding::kAlways) {
    // Whole units in front are written; the format knows best what is wrong with the rest.
    const uint64_t front = is_aligned(offset, unit) ? align_down(data.size(), unit) : 0;
    if (front > 0) {
      Result<void> written = co_await write_compressed(node, offset, data.slice(0, front), flags);
      if (!written) {
        co_return written;
      }
      offset += front;
      data = data.slice(front, data.size() - front);
    }
    Result<WritePlan> refused = co_await node.translating_->begin_write(offset, data.size());
    if (!refused) {
      co_return pass(refused);
    }
  }
  if (!whole) {
    co_return fail(EINVAL, "A compressed write of {} bytes at {} is not one of whole clusters",
                   data.size(), offset);
  }
  const Turn turn(node.compressed_turn_);
  const uint64_t chunk = std::max(kChunk, unit);
  for (uint64_t done = 0; done < data.size(); done += chunk) {
    const uint64_t length = std::min(chunk, data.size() - done);
    std::vector<EncodedUnit> units(div_round_up(length, unit));
    for (uint64_t i = 0; i < units.size(); ++i) {
      units[i].offset = offset + done + i * unit;
      units[i].data = data.slice(done + i * unit, std::min(unit, length - i * unit));
    }
    Result<void> result = co_await encode_units(*codec, unit, units);
    co_await turn.wait();
    if (result) {
      const auto lock =
          co_await node.allocations_.lock_exclusive(offset + done, align_up(length, unit));
      result = co_await place_units(node, units);
      // What is written plainly has no place yet.
      const bool all_placed =
          std::ranges::all_of(units, [](const EncodedUnit& placed) { return placed.placed; });
      if (all_placed && done + length == data.size()) {
        turn.pass();
      }
      if (result) {
        result = co_await store_units(node, units);
      }
      const Result<void> settled = co_await settle_units(node, units, result.has_value());
      result = result ? settled : result;
    }
    if (!result) {
      co_return result;
    }
  }
  if (flags.fua) {
    ++node.writes_completed_;
    co_return co_await flush_node(node);
  }
  co_return Result<void>{};
}

io::Task<void> Engine::encode_unit(const Codec& codec, uint64_t unit_length, EncodedUnit& unit) {
  const std::size_t longest = codec.longest_stored(unit_length);
  auto stored = io::AlignedBuffer::allocate(longest);
  if (!stored) {
    unit.outcome = pass(stored);
    co_return;
  }
  unit.stored = std::move(*stored);
  std::span<const std::byte> source;
  if (unit.data.segments().size() == 1 && unit.data.size() == unit_length) {
    const iovec whole = unit.data.segments().front();
    source = {static_cast<const std::byte*>(whole.iov_base), whole.iov_len};
  } else {
    auto plain = io::AlignedBuffer::allocate(unit_length);
    if (!plain) {
      unit.outcome = pass(plain);
      co_return;
    }
    unit.plain = std::move(*plain);
    unit.data.copy_to(0, unit.plain.span().first(unit.data.size()));
    std::ranges::fill(unit.plain.span().subspan(unit.data.size()), std::byte{0});
    source = unit.plain.span();
  }
  const std::span<std::byte> target = unit.stored.span().first(longest);
  const uint64_t offset = unit.offset;
  auto encode = [&codec, offset, source, target] {
    return codec.encode_at(offset, source, target);
  };
  Result<std::size_t> length = co_await io::WorkerPool::shared().run(encode);
  if (length) {
    unit.stored_length = *length;
  } else {
    unit.outcome = pass(length);
  }
}

Engine::Outcome Engine::encode_units(const Codec& codec, uint64_t unit_length,
                                     std::vector<EncodedUnit>& units) {
  io::TaskGroup group;
  for (EncodedUnit& unit : units) {
    group.spawn(encode_unit(codec, unit_length, unit));
  }
  co_await group.join();
  for (const EncodedUnit& unit : units) {
    if (!unit.outcome) {
      co_return unit.outcome;
    }
  }
  co_return Result<void>{};
}

// Reserves the places, in order. The caller holds the lock of the units, and settles them.
Engine::Outcome Engine::place_units(Node& node, std::vector<EncodedUnit>& units) {
  for (EncodedUnit& unit : units) {
    if (unit.stored_length == 0) {
      continue;
    }
    Result<WritePlan> plan =
        co_await node.translating_->begin_compressed_write(unit.offset, unit.stored_length);
    if (!plan) {
      co_return pass(plan);
    }
    unit.plan = *plan;
    unit.placed = true;
  }
  co_return Result<void>{};
}

Engine::Outcome Engine::store_units(Node& node, std::vector<EncodedUnit>& units) {
  for (std::size_t i = 0; i < units.size();) {
    EncodedUnit& unit = units[i];
    if (!unit.placed) {
      Result<void> written = co_await write_in_units(node, unit.offset, unit.data);
      if (!written) {
        co_return written;
      }
      ++i;
      continue;
    }
    io::IoVector together;
    uint64_t end = unit.plan.host_offset;
    for (; i < units.size() && units[i].placed && units[i].plan.host_offset == end; ++i) {
      together.append(units[i].stored.data(), units[i].stored_length);
      end += units[i].stored_length;
    }
    co_await fault_point(*unit.plan.child, FaultPoint::kWriteCompressed);
    Result<void> written =
        co_await write(*unit.plan.child, unit.plan.host_offset, std::move(together), WriteFlags{});
    if (!written) {
      co_return written;
    }
  }
  co_return Result<void>{};
}

Engine::Outcome Engine::settle_units(Node& node, std::vector<EncodedUnit>& units, bool written) {
  Result<void> result;
  for (EncodedUnit& unit : units) {
    if (!unit.placed) {
      continue;
    }
    Result<void> settled = co_await node.translating_->end_write(unit.plan, unit.offset, written);
    result = result ? std::move(settled) : std::move(result);
  }
  node.units_.clear();
  co_return result;
}

}  // namespace cairn::block
