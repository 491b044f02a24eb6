#include "tests/support/simulated_disk.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

#include "base/bytes.h"

namespace cairn::testing {

SimulatedDisk::ChangeId SimulatedDisk::begin_write(uint64_t offset,
                                                   std::span<const std::byte> data) {
  changes_.push_back({.id = next_id_,
                      .kind = Change::Kind::kWrite,
                      .offset = offset,
                      .length = data.size(),
                      .data = std::vector(data.begin(), data.end())});
  return next_id_++;
}

SimulatedDisk::ChangeId SimulatedDisk::begin_zero(uint64_t offset, uint64_t length) {
  changes_.push_back(
      {.id = next_id_, .kind = Change::Kind::kZero, .offset = offset, .length = length});
  return next_id_++;
}

SimulatedDisk::ChangeId SimulatedDisk::begin_resize(uint64_t size) {
  changes_.push_back({.id = next_id_, .kind = Change::Kind::kResize, .offset = size});
  return next_id_++;
}

SimulatedDisk::Change& SimulatedDisk::find(ChangeId id) {
  const auto it =
      std::ranges::find_if(changes_, [id](const Change& change) { return change.id == id; });
  assert(it != changes_.end());
  return *it;
}

void SimulatedDisk::widen(Change& change) const {
  if (change.kind == Change::Kind::kResize) {
    return;
  }
  const uint64_t start = align_down(change.offset, kSector);
  uint64_t end = align_up(change.offset + change.length, kSector);
  // The last sector of a file may be short; a change does not make it longer than it has to.
  end = std::max(change.offset + change.length, std::min(end, visible_.size()));
  if (start == change.offset && end == change.offset + change.length) {
    return;
  }
  std::vector<std::byte> data = visible_.read(start, end - start);
  std::byte* place = data.data() + (change.offset - start);
  if (change.kind == Change::Kind::kZero) {
    std::memset(place, 0, change.length);
  } else {
    std::memcpy(place, change.data.data(), change.length);
  }
  change.kind = Change::Kind::kWrite;
  change.data = std::move(data);
  change.offset = start;
  change.length = end - start;
}

std::vector<SimulatedDisk::Range> SimulatedDisk::effective(const Change& change,
                                                           std::vector<Range> hidden) {
  std::ranges::sort(hidden, {}, &Range::start);
  const uint64_t end = change.offset + change.length;
  hidden.push_back({end, end});
  std::vector<Range> ranges;
  uint64_t position = change.offset;
  for (const Range& skip : hidden) {
    const uint64_t stop = std::min(skip.start, end);
    if (stop > position) {
      ranges.push_back({position, stop});
    }
    position = std::max(position, skip.end);
  }
  return ranges;
}

void SimulatedDisk::put(SparseBytes& bytes, const Change& change, std::vector<Range> hidden) {
  if (change.kind == Change::Kind::kResize) {
    bytes.resize(change.offset);
    return;
  }
  for (const Range& range : effective(change, std::move(hidden))) {
    if (change.kind == Change::Kind::kZero) {
      bytes.zero(range.start, range.end - range.start);
    } else {
      bytes.write(
          range.start,
          std::span(change.data).subspan(range.start - change.offset, range.end - range.start));
    }
  }
}

void SimulatedDisk::apply(ChangeId id) {
  Change& change = find(id);
  assert(!change.applied);
  widen(change);
  put(visible_, change, change.hidden);
  change.applied = true;
  // Keep the applied ones in order, in front of the rest.
  const auto at = changes_.begin() + (&change - changes_.data());
  const auto first_waiting =
      std::find_if(changes_.begin(), at, [](const Change& other) { return !other.applied; });
  std::rotate(first_waiting, at, at + 1);
}

void SimulatedDisk::complete(ChangeId id, bool durable) {
  Change& change = find(id);
  assert(change.applied && !change.completed);
  change.completed = true;
  if (durable) {
    make_durable(id);
  }
}

void SimulatedDisk::forget(ChangeId id) {
  std::erase_if(changes_, [id](const Change& change) { return change.id == id; });
}

void SimulatedDisk::apply_torn(ChangeId id, Random& random) {
  Change& change = find(id);
  widen(change);
  const std::vector<Range> torn = torn_sectors(change, random);
  change.hidden.insert(change.hidden.end(), torn.begin(), torn.end());
  apply(id);
  complete(id);
}

std::vector<SimulatedDisk::ChangeId> SimulatedDisk::begin_flush() const {
  std::vector<ChangeId> ids;
  for (const Change& change : changes_) {
    if (change.completed) {
      ids.push_back(change.id);
    }
  }
  return ids;
}

void SimulatedDisk::complete_flush(std::span<const ChangeId> changes) {
  for (const ChangeId id : changes) {
    // Another flush may have made it durable meanwhile.
    if (std::ranges::any_of(changes_, [id](const Change& change) { return change.id == id; })) {
      make_durable(id);
    }
  }
}

void SimulatedDisk::make_durable(ChangeId id) {
  // A file system's journal keeps its order: an earlier change of the size goes first.
  for (std::size_t i = 0; changes_[i].id != id;) {
    if (changes_[i].kind == Change::Kind::kResize) {
      make_durable(changes_[i].id);
      i = 0;
    } else {
      ++i;
    }
  }
  const Change& change = find(id);
  put(durable_, change, change.hidden);
  // What it does not touch, being torn, stays as it was.
  const std::vector<Range> over = change.kind == Change::Kind::kResize
                                      ? std::vector<Range>{{change.offset, UINT64_MAX}}
                                      : effective(change, change.hidden);
  // What was applied before it can not come back over it.
  std::size_t index = 0;
  for (; changes_[index].id != id; ++index) {
    if (changes_[index].kind != Change::Kind::kResize) {
      changes_[index].hidden.insert(changes_[index].hidden.end(), over.begin(), over.end());
    }
  }
  changes_.erase(changes_.begin() + static_cast<std::ptrdiff_t>(index));
}

std::vector<SimulatedDisk::Range> SimulatedDisk::torn_sectors(const Change& change,
                                                              Random& random) const {
  std::vector<Range> lost;
  if (change.kind == Change::Kind::kResize) {
    return lost;
  }
  const uint64_t sectors = div_round_up(change.length, kSector);
  const uint64_t cut = random.below(sectors + 1);
  const uint64_t shape = random.below(4);
  for (uint64_t sector = 0; sector < sectors; ++sector) {
    // The end is lost, the start is lost, one sector is lost, or any.
    const bool gone = shape == 0   ? sector >= cut
                      : shape == 1 ? sector < cut
                      : shape == 2 ? sector == cut
                                   : random.chance(50);
    if (gone) {
      const uint64_t start = change.offset + sector * kSector;
      lost.push_back({start, start + kSector});
    }
  }
  return lost;
}

SparseBytes SimulatedDisk::power_cut(Random& random) const {
  // Now and then all or nothing survives: both ends are worth more than their likelihood.
  const unsigned kept = random.pick({0U, 10U, 35U, 60U, 90U, 100U});
  const unsigned torn = random.pick({0U, 0U, 15U, 40U});
  SparseBytes result = durable_;
  uint64_t lost_size = 0;
  for (Change change : changes_) {
    if (!change.applied) {
      widen(change);
    }
    std::vector<Range> hidden = change.hidden;
    if (random.chance(torn)) {
      const std::vector<Range> lost = torn_sectors(change, random);
      hidden.insert(hidden.end(), lost.begin(), lost.end());
    } else if (!random.chance(kept)) {
      if (change.kind == Change::Kind::kResize) {
        lost_size = change.offset;
      }
      continue;
    }
    if (change.kind == Change::Kind::kResize) {
      lost_size = 0;
    } else if (change.offset + change.length > result.size() && lost_size > result.size()) {
      // What lies in the space that a resize added can only be there when the resize is, too.
      result.resize(std::exchange(lost_size, 0));
    }
    put(result, change, std::move(hidden));
  }
  return result;
}

}  // namespace cairn::testing
