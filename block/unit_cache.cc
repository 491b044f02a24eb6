#include "block/unit_cache.h"

#include <algorithm>

namespace cairn::block {

std::shared_ptr<Unit> UnitCache::find(uint64_t host_offset, uint64_t stored_length) {
  const auto found = std::ranges::find_if(units_, [&](const auto& unit) {
    return unit->host_offset == host_offset && unit->stored_length == stored_length;
  });
  if (found == units_.end()) {
    return nullptr;
  }
  std::rotate(found, found + 1, units_.end());
  return units_.back();
}

void UnitCache::insert(std::shared_ptr<Unit> unit) {
  units_.push_back(std::move(unit));
  std::size_t bytes = 0;
  for (const auto& held : units_) {
    bytes += held->bytes.size();
  }
  while (bytes > kLimit && units_.size() > kLeast) {
    bytes -= units_.front()->bytes.size();
    units_.erase(units_.begin());
  }
}

void UnitCache::remove(const Unit& unit) {
  std::erase_if(units_, [&](const auto& held) { return held.get() == &unit; });
}

}  // namespace cairn::block
