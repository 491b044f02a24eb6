// Fuzzes rings: the memory of a guest is the input, repeated, and whatever requests it makes of
// that are taken, carried out on a disk of nothing and given back. Both kinds of ring, with and
// without tracking.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "exports/vhost_user/block_device.h"
#include "exports/vhost_user/packed_ring.h"
#include "exports/vhost_user/split_ring.h"
#include "tests/exports/vhost_user/guest.h"
#include "tests/fuzz/input.h"

namespace {

using namespace cairn::vhost_user;  // NOLINT(google-build-using-namespace): a program of one page
using cairn::testing::Input;

// What is taken is given back in some order, as the input says.
void work(Ring& ring, Input& input) {
  std::vector<Chain> taken;
  for (int turn = 0; turn < 64; ++turn) {
    Chain chain;
    const auto more = ring.pop(chain);
    if (!more) {
      break;
    }
    if (*more && BlockDevice::check(chain)) {
      // Touch all of it, as a request does.
      std::byte first{};
      chain.readable.copy_to(0, std::span(&first, 1));
      chain.writable.fill(first, 0, 1);
      taken.push_back(std::move(chain));
    }
    const uint32_t choice = input.number(1);
    if (!taken.empty() && choice % 2 == 0) {
      const auto which = taken.begin() + static_cast<std::ptrdiff_t>(choice / 2 % taken.size());
      ring.push(*which, choice);
      taken.erase(which);
      static_cast<void>(ring.wants_signal());
    }
    ring.set_kicks(choice % 3 == 0);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Guest guest;
  static GuestMemory memory;
  if (memory.empty()) {
    guest.share_with(memory);
  }
  Input input(data, size);
  const uint32_t form = input.number(1);
  const auto base = static_cast<uint16_t>(input.number(2));
  std::memset(guest.at(0), 0, 65536);
  // Descriptors in few bytes: addresses near the limits, small numbers for the rest.
  for (uint16_t i = 0; i < 2 * Guest::kPlaces; ++i) {
    const uint64_t address =
        Guest::kBase + (uint64_t{input.number(1)} << ((form & 1) != 0 ? 12 : 4));
    const uint64_t table = i < Guest::kPlaces ? Guest::kDescriptors : Guest::kFree;
    guest.describe(table, i % Guest::kPlaces, address, input.number(1) * 16,
                   static_cast<uint16_t>(input.number(2)), static_cast<uint16_t>(input.number(1)));
  }
  const std::string rest = input.text(64);
  std::memcpy(guest.at(Guest::kAvailable), rest.data(), rest.size());
  std::vector<std::byte> tracking(PackedTracker::region_bytes(Guest::kPlaces));
  const std::string region = input.text(tracking.size());
  std::memcpy(tracking.data(), region.data(), region.size());

  RingSetup setup{.size = Guest::kPlaces,
                  .parts = {.descriptors = memory.at_user(Guest::kUser, 1),
                            .available = memory.at_user(Guest::kUser + Guest::kAvailable, 1),
                            .used = memory.at_user(Guest::kUser + Guest::kUsed, 1)},
                  .memory = &memory,
                  .indirect = (form & 2) != 0,
                  .event_index = (form & 4) != 0};
  if ((form & 8) != 0) {
    PackedTracker tracker(tracking.data(), Guest::kPlaces);
    PackedRing ring(setup, base, (form & 16) != 0 ? &tracker : nullptr);
    work(ring, input);
  } else {
    SplitTracker tracker(tracking.data(), Guest::kPlaces);
    SplitRing ring(setup, base, (form & 16) != 0 ? &tracker : nullptr);
    work(ring, input);
  }
  return 0;
}
