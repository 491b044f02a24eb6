#include "block/driver_table.h"

#include <algorithm>

namespace cairn::block {

const DriverInfo* DriverTable::find(std::string_view name) const {
  const auto found = std::ranges::find_if(
      drivers_, [name](const DriverInfo* driver) { return driver->name == name; });
  return found == drivers_.end() ? nullptr : *found;
}

const DriverInfo* DriverTable::probe(std::span<const std::byte> head,
                                     std::string_view filename) const {
  const DriverInfo* best = nullptr;
  int best_score = 0;
  for (const DriverInfo* driver : drivers_) {
    const int score = driver->probe != nullptr ? driver->probe(head, filename) : 0;
    if (score > best_score) {
      best = driver;
      best_score = score;
    }
  }
  return best;
}

}  // namespace cairn::block
