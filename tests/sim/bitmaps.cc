// Persistent dirty bitmaps in a history. A bitmap that the image vouches for has every mark that it
// has to have: of every change that was acknowledged, and of every other one that left something.
// A power cut leaves no other ones, but for images whose clusters are too small.
#include <algorithm>
#include <cerrno>
#include <iterator>

#include <fmt/format.h>

#include "base/bytes.h"
#include "block/dirty_bitmap.h"
#include "block/dirty_bitmap_ops.h"
#include "tests/sim/history.h"

namespace cairn::testing {
namespace {

constexpr std::size_t kMostBitmaps = 3;
// From here on clusters have room for the map behind the directory of so few bitmaps.
constexpr uint64_t kLeastForMap = 2048;

}  // namespace

bool History::bitmaps_busy() const {
  return adding_bitmap_ ||
         std::ranges::any_of(bitmaps_, [](const auto& bitmap) { return bitmap.second.busy; });
}

void History::start_bitmap(io::TaskGroup& group) {
  if (plan_.format != Plan::Format::kQcow2 || downgrading_) {
    return;
  }
  if (bitmaps_.size() < kMostBitmaps && !adding_bitmap_ && random_.chance(40)) {
    const uint64_t granularity = random_.pick({512, 512, 4096, 65536});
    group.spawn(add_bitmap(fmt::format("b{}", next_bitmap_++), granularity));
    return;
  }
  if (bitmaps_.empty()) {
    return;
  }
  const auto chosen =
      std::next(bitmaps_.begin(), static_cast<std::ptrdiff_t>(random_.below(bitmaps_.size())));
  const auto& [name, bitmap] = *chosen;
  if (bitmap.busy) {
    return;
  }
  constexpr unsigned kWeights[] = {30, 40, 30};
  const std::size_t kind = bitmap.usable ? random_.weighted(kWeights) : 0;
  if (kind == 0) {
    group.spawn(remove_bitmap(name));
  } else if (kind == 1) {
    group.spawn(clear_bitmap(name));
  } else {
    group.spawn(enable_bitmap(name, !bitmap.records));
  }
}

io::Task<void> History::add_bitmap(std::string name, uint64_t granularity) {
  adding_bitmap_ = true;
  world_.note("start of bitmap", granularity);
  block::NewBitmap wanted{.name = name, .granularity = granularity, .persistent = true};
  const Result<void> result = co_await block::add_bitmap(root_->node(), std::move(wanted));
  adding_bitmap_ = false;
  if (!result && (result.error().code() == ENOTSUP ||
                  result.error().message().contains("has no room for bitmaps"))) {
    world_.note("bitmap refused");
    co_return;
  }
  ended("add bitmap", {}, result);
  if (result || troubled()) {
    Bitmap bitmap;
    bitmap.granularity = granularity;
    bitmap.certain = bitmap.usable = result.has_value();
    bitmap.records = result.has_value();
    bitmaps_.emplace(std::move(name), std::move(bitmap));
    ++restarts_;
  }
}

io::Task<void> History::remove_bitmap(std::string name) {
  Bitmap& bitmap = bitmaps_.at(name);
  bitmap.busy = true;
  bitmap.certain = false;
  world_.note("start of removal");
  const Result<void> result = co_await block::remove_bitmap(root_->node(), name);
  bitmap.busy = false;
  if (!result && result.error().code() == ENOENT) {
    // Adding it failed, and the image has it or not.
    co_return;
  }
  ended("remove bitmap", {}, result);
  if (result) {
    bitmaps_.erase(name);
  }
}

io::Task<void> History::clear_bitmap(std::string name) {
  Bitmap& bitmap = bitmaps_.at(name);
  bitmap.busy = true;
  world_.note("start of clear");
  const Result<void> result = co_await block::clear_bitmap(root_->node(), name);
  bitmap.busy = false;
  ended("clear bitmap", {}, result);
  if (result) {
    bitmap.changed = true;
    bitmap.marks.clear();
    bitmap.idle_marks.clear();
    bitmap.attempts.clear();
    ++restarts_;
  }
}

io::Task<void> History::enable_bitmap(std::string name, bool on) {
  Bitmap& bitmap = bitmaps_.at(name);
  bitmap.busy = true;
  bitmap.records = false;
  world_.note("start of switch", on ? 1 : 0);
  const Result<void> result = co_await block::enable_bitmap(root_->node(), name, on);
  bitmap.busy = false;
  ended("switch bitmap", {}, result);
  bitmap.records = result ? on : !on;
  ++restarts_;
}

void History::mark_bitmaps(Range range, WriteNumber number, bool succeeded, uint64_t restarts) {
  if (restarts != restarts_) {
    return;
  }
  for (auto& [name, bitmap] : bitmaps_) {
    if (!bitmap.usable || !bitmap.records || range.length == 0) {
      continue;
    }
    if (!succeeded) {
      bitmap.attempts.push_back({range, number});
      continue;
    }
    const uint64_t last = (range.offset + range.length - 1) / bitmap.granularity;
    bitmap.changed = bitmap.changed || number != kZeroes;
    std::set<uint64_t>& marks = number != kZeroes ? bitmap.marks : bitmap.idle_marks;
    for (uint64_t granule = range.offset / bitmap.granularity; granule <= last; ++granule) {
      marks.insert(granule);
    }
  }
}

// From now on only what changes the disk has to be marked where the image keeps the bitmaps.
void History::bitmaps_stored() {
  for (auto& [name, bitmap] : bitmaps_) {
    if (bitmap.changed) {
      bitmap.marks.merge(bitmap.idle_marks);
    }
    bitmap.idle_marks.clear();
    bitmap.changed = false;
  }
}

// What a shrink drops is dropped from the bitmaps, too.
void History::resize_bitmaps(uint64_t length) {
  for (auto& [name, bitmap] : bitmaps_) {
    const uint64_t granules = div_round_up(length, bitmap.granularity);
    for (std::set<uint64_t>* marks : {&bitmap.marks, &bitmap.idle_marks}) {
      marks->erase(marks->lower_bound(granules), marks->end());
    }
    // What was committed may show again from below, and is no change then.
    for (Bitmap::Attempt& attempt : bitmap.attempts) {
      const uint64_t begin = std::min(attempt.range.offset, length);
      attempt.range.length = std::min(attempt.range.offset + attempt.range.length, length) - begin;
      attempt.range.offset = begin;
    }
  }
}

void History::inspect_bitmaps(const Qcow2Verifier& verifier, std::span<const std::byte> guest,
                              Round::Ending ending) {
  const bool clean = ending == Round::Ending::kClean;
  std::map<std::string, Bitmap> expected = std::exchange(bitmaps_, {});
  for (const Qcow2Verifier::Bitmap& found : verifier.bitmaps()) {
    auto known = expected.extract(found.name);
    if (known.empty() || known.mapped().granularity != found.granularity) {
      find(fmt::format("bitmap '{}' should not be there", found.name));
      return;
    }
    Bitmap& bitmap = known.mapped();
    if (clean && bitmap.usable && found.in_use) {
      find(fmt::format("bitmap '{}' was not stored", found.name));
    }
    if (bitmap.changed) {
      bitmap.marks.merge(bitmap.idle_marks);
    }
    const bool believed = !found.in_use || found.vouched;
    if (ending == Round::Ending::kPowerCut && bitmap.usable && bitmap.certain && !believed &&
        verifier.cluster_size() >= kLeastForMap) {
      find(fmt::format("bitmap '{}' did not survive the power cut", found.name));
    }
    if (believed) {
      if (const auto missing = missing_mark(bitmap, found, guest)) {
        find(fmt::format("bitmap '{}' does not know of a change at {}", found.name, *missing));
      }
    }
    // A shrink that the power cut interrupted may have happened; what it dropped stays dropped when
    // the disk grows again.
    for (std::set<uint64_t>* marks : {&bitmap.marks, &bitmap.idle_marks}) {
      marks->erase(marks->lower_bound(found.bits.size()), marks->end());
    }
    bitmap = {.granularity = found.granularity,
              .usable = believed,
              .records = found.records,
              .marks = std::move(bitmap.marks),
              .idle_marks = {},
              .attempts = {},
              .found = static_cast<uint64_t>(std::ranges::count(found.bits, true))};
    bitmaps_.insert(std::move(known));
  }
  for (const auto& [name, bitmap] : expected) {
    if (bitmap.certain) {
      find(fmt::format("bitmap '{}' is lost", name));
    }
  }
}

// Where in the disk something changed that is not marked. Of a change that failed only what is long
// enough tells: a byte or two may look like it by chance.
std::optional<uint64_t> History::missing_mark(const Bitmap& bitmap,
                                              const Qcow2Verifier::Bitmap& found,
                                              std::span<const std::byte> guest) {
  const auto marked = [&](uint64_t granule) {
    return granule >= found.bits.size() || found.bits[granule];
  };
  for (const uint64_t granule : bitmap.marks) {
    if (!marked(granule)) {
      return granule * bitmap.granularity;
    }
  }
  constexpr uint64_t kStep = 512;
  constexpr std::size_t kTelling = 8;
  for (const auto& [range, number] : bitmap.attempts) {
    const uint64_t end = std::min<uint64_t>(range.offset + range.length, guest.size());
    for (uint64_t at = range.offset; number != kZeroes && at < end;) {
      const uint64_t next = std::min(align_down(at, kStep) + kStep, end);
      const auto part = guest.subspan(at, next - at);
      if (part.size() >= kTelling && !marked(at / bitmap.granularity) &&
          matching_prefix(number, at, part) == part.size()) {
        return at;
      }
      at = next;
    }
  }
  return std::nullopt;
}

// What the engine has loaded.
void History::compare_bitmaps() {
  for (const auto& [name, bitmap] : bitmaps_) {
    const auto loaded = block::get_bitmap(root_->node(), name);
    if (!loaded) {
      find(fmt::format("the engine does not find bitmap '{}'", name));
    } else if ((*loaded)->inconsistent() == bitmap.usable) {
      find(fmt::format("the engine takes bitmap '{}' for {}usable", name,
                       bitmap.usable ? "un" : ""));
    } else if (bitmap.usable && (*loaded)->count() != bitmap.found * bitmap.granularity) {
      find(fmt::format("bitmap '{}' has {} bytes marked in the engine, {} granules in the image",
                       name, (*loaded)->count(), bitmap.found));
    }
  }
}

}  // namespace cairn::testing
