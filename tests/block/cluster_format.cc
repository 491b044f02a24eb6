#include "tests/block/cluster_format.h"

#include <algorithm>
#include <cerrno>
#include <variant>

#include <fmt/format.h>

#include "base/bytes.h"
#include "block/graph.h"
#include "io/timer.h"
#include "schema/types_block_options.h"

namespace cairn::block {

ClusterFormat::Settings& ClusterFormat::settings() {
  static Settings settings;
  return settings;
}

void ClusterFormat::expect(bool ok, const std::string& what) {
  if (!ok) {
    breaches_.push_back(what);
  }
}

Extent ClusterFormat::extent_at(uint64_t offset, uint64_t length) const {
  const uint64_t within = offset % kUnit;
  Extent extent{.length = std::min({length, kUnit - within, settings_.longest_extent})};
  const auto it = units_.find(offset / kUnit);
  if (it == units_.end()) {
    extent.kind = settings_.zeroes_by_default ? Extent::Kind::kZero : Extent::Kind::kHole;
  } else if (it->second.zero) {
    extent.kind = Extent::Kind::kZero;
  } else {
    extent.kind = Extent::Kind::kData;
    extent.in_place = true;
    extent.host_valid = true;
    extent.child = &file_;
    extent.host_offset = it->second.host + within;
  }
  return extent;
}

bool ClusterFormat::try_map(uint64_t offset, uint64_t length, Extent& extent) {
  expect(length > 0 && offset + length <= settings_.length,
         fmt::format("map of {} bytes at {}", length, offset));
  expect(!alone_, "map during resize or close");
  if (settings_.cached) {
    extent = extent_at(offset, length);
  }
  return settings_.cached;
}

io::Task<Result<Extent>> ClusterFormat::map(uint64_t offset, uint64_t length) {
  co_await io::yield_now();
  co_return extent_at(offset, length);
}

void ClusterFormat::enter(uint64_t offset, uint64_t length) {
  expect(!alone_, "a change during resize or close");
  for (uint64_t index = offset / kUnit; index <= (offset + length - 1) / kUnit; ++index) {
    expect(changing_.insert(index).second, fmt::format("two changes of unit {} at once", index));
  }
}

void ClusterFormat::leave(uint64_t offset, uint64_t length) {
  for (uint64_t index = offset / kUnit; index <= (offset + length - 1) / kUnit; ++index) {
    changing_.erase(index);
  }
}

void ClusterFormat::free_unit(uint64_t index) {
  const auto it = units_.find(index);
  if (it == units_.end()) {
    return;
  }
  if (it->second.host != 0) {
    const uint64_t host = it->second.host;
    node_->epochs().defer([this, host] { free_.insert(host); });
  }
  units_.erase(it);
}

io::Task<Result<WritePlan>> ClusterFormat::begin_write(uint64_t offset, uint64_t length) {
  expect(length > 0 && offset + length <= settings_.length,
         fmt::format("begin_write of {} bytes at {}", length, offset));
  const uint64_t within = offset % kUnit;
  WritePlan plan{.length = std::min(length, kUnit - within), .child = &file_};
  plan.head = within;
  plan.tail = kUnit - within - plan.length;
  calls_.push_back(fmt::format("begin {}", offset / kUnit));
  if (settings_.fail_begin != 0) {
    co_return fail(settings_.fail_begin, "no space reserved, as the test wants it");
  }
  enter(offset, plan.length);
  co_await io::yield_now();
  uint64_t host = next_host_;
  const auto it = units_.find(offset / kUnit);
  if (it != units_.end() && it->second.zero && it->second.host != 0) {
    host = it->second.host;
  } else if (free_.empty()) {
    next_host_ += kUnit;
    plan.host_reads_zero = settings_.host_reads_zero;
  } else {
    host = *free_.begin();
    free_.erase(free_.begin());
  }
  plan.host_offset = host + within;
  plan.ticket = next_ticket_++;
  plans_[plan.ticket] = plan;
  co_return plan;
}

io::Task<Result<void>> ClusterFormat::end_write(WritePlan plan, uint64_t offset, bool written) {
  const uint64_t index = offset / kUnit;
  expect(plans_.erase(plan.ticket) == 1, "end_write of a plan that is not open");
  calls_.push_back(fmt::format("end {} {}", index, written ? "ok" : "failed"));
  co_await io::yield_now();
  const uint64_t host = align_down(plan.host_offset, kUnit);
  Result<void> result;
  if (written && settings_.fail_end != 0) {
    result = fail(settings_.fail_end, "not mapped, as the test wants it");
  }
  const auto it = units_.find(index);
  const bool had_place = it != units_.end() && it->second.host == host;
  if (written && result) {
    if (!had_place) {
      free_unit(index);
    }
    units_[index] = {.host = host};
  } else if (!had_place) {
    free_.insert(host);
  }
  leave(offset, plan.length);
  co_return result;
}

io::Task<Result<void>> ClusterFormat::write_zeroes(uint64_t offset, uint64_t length,
                                                   ZeroFlags flags) {
  calls_.push_back(fmt::format("zero {}..{}{}", offset / kUnit,
                               div_round_up(offset + length, kUnit),
                               flags.may_unmap ? " unmap" : ""));
  expect(is_aligned(offset, kUnit) &&
             (is_aligned(length, kUnit) || offset + length == settings_.length) &&
             offset + length <= settings_.length,
         fmt::format("write_zeroes of {} bytes at {}", length, offset));
  if (!settings_.can_zero) {
    co_return fail(ENOTSUP, "no zero units");
  }
  enter(offset, length);
  co_await io::yield_now();
  for (uint64_t at = offset; at < offset + length; at += kUnit) {
    const auto it = units_.find(at / kUnit);
    if (it != units_.end() && settings_.zeroes_keep_place && !flags.may_unmap) {
      it->second.zero = true;
      continue;
    }
    free_unit(at / kUnit);
    units_[at / kUnit] = {.zero = true};
  }
  leave(offset, length);
  co_return Result<void>{};
}

io::Task<Result<void>> ClusterFormat::discard(uint64_t offset, uint64_t length) {
  calls_.push_back(
      fmt::format("discard {}..{}", offset / kUnit, div_round_up(offset + length, kUnit)));
  expect(is_aligned(offset, kUnit) &&
             (is_aligned(length, kUnit) || offset + length == settings_.length),
         fmt::format("discard of {} bytes at {}", length, offset));
  enter(offset, length);
  co_await io::yield_now();
  for (uint64_t at = offset; at < offset + length; at += kUnit) {
    free_unit(at / kUnit);
  }
  leave(offset, length);
  co_return Result<void>{};
}

io::Task<Result<void>> ClusterFormat::flush() {
  calls_.emplace_back("flush");
  co_return co_await file_.flush();
}

io::Task<Result<void>> ClusterFormat::close() {
  expect(plans_.empty() && changing_.empty(), "closed in the middle of a change");
  calls_.emplace_back("close");
  if (settings().fail_close != 0) {
    co_return fail(settings().fail_close, "not written out, as the test wants it");
  }
  co_return Result<void>{};
}

io::Task<Result<void>> ClusterFormat::resize(uint64_t length, ResizeOptions /*options*/) {
  calls_.push_back(fmt::format("resize {}", length));
  expect(plans_.empty() && changing_.empty() && !alone_ && node_->requests_in_flight() == 0,
         "resized in the middle of something");
  alone_ = true;
  co_await io::yield_now();
  settings_.length = length;
  alone_ = false;
  co_return Result<void>{};
}

namespace {

io::Task<Result<std::unique_ptr<Driver>>> open_cluster_format(
    OpenContext& context, const schema::BlockdevOptions& options) {
  const auto* branch = std::get_if<schema::BlockdevOptionsQcow2>(&options.branch);
  if (branch == nullptr) {
    co_return fail(EINVAL, "no options");
  }
  Result<Edge*> file = co_await context.open_child("file", branch->file, ChildRole::kImage);
  if (!file) {
    co_return pass(file);
  }
  if (branch->backing) {
    if (const auto* name = std::get_if<std::string>(&branch->backing->value)) {
      const schema::BlockdevRef reference{.value = *name};
      Result<Edge*> backing =
          co_await context.open_child("backing", reference, ChildRole::kBacking);
      if (!backing) {
        co_return pass(backing);
      }
    }
  }
  co_return std::make_unique<ClusterFormat>(**file, ClusterFormat::settings());
}

constexpr DriverInfo kDriver{.name = "qcow2",
                             .kind = DriverInfo::Kind::kFormat,
                             .open = open_cluster_format,
                             .supports_backing = true};

}  // namespace

const DriverInfo& ClusterFormat::driver() { return kDriver; }

}  // namespace cairn::block
