#include "exports/vhost_user/dirty_log.h"

#include <algorithm>
#include <atomic>

namespace cairn::vhost_user {

void DirtyLog::mark(uint64_t guest_address, uint64_t length) {
  const uint64_t pages = bits_.size() * 8;
  const uint64_t first = guest_address / kPage;
  if (length == 0 || first >= pages) {
    return;
  }
  const uint64_t span = (guest_address % kPage + std::min(length, pages * kPage) - 1) / kPage;
  const uint64_t last = std::min(first + span, pages - 1);
  auto* const bytes = reinterpret_cast<uint8_t*>(bits_.data());
  for (uint64_t page = first; page <= last; ++page) {
    const auto mask = static_cast<uint8_t>(1U << (page % 8));
    // The front-end takes bits away at the same time.
    std::atomic_ref<uint8_t>(bytes[page / 8]).fetch_or(mask, std::memory_order_release);
  }
}

}  // namespace cairn::vhost_user
