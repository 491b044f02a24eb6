// PackedRing: a virtqueue of one ring of descriptors, in which both sides write (virtio 1.2,
// section 2.8), and a place for each side where it says when it wants to be told.
//
//   descriptors  16 bytes each: address u64, length u32, id u16, flags u16
//   available    what the driver wants: place u16 with its lap in bit 15, flags u16
//   used         what the device wants, likewise
#pragma once

#include <cstdint>
#include <vector>

#include "exports/vhost_user/packed_tracker.h"
#include "exports/vhost_user/ring.h"

namespace cairn::vhost_user {

class PackedRing final : public Ring {
 public:
  static constexpr uint64_t descriptor_bytes(uint16_t size) { return uint64_t{16} * size; }
  static constexpr uint64_t kEventBytes = 4;

  // Goes on at `base`; with `tracker`, which may be null, with the requests first that were on
  // their way when another program had the ring.
  PackedRing(const RingSetup& setup, uint32_t base, PackedTracker* tracker);

  [[nodiscard]] Result<bool> pop(Chain& chain) override;
  void push(const Chain& chain, uint32_t written) override;
  [[nodiscard]] bool wants_signal() override;
  void set_kicks(bool wanted) override;
  [[nodiscard]] bool has_available() override;
  [[nodiscard]] bool caught_up() const override { return resubmitted_.empty(); }
  [[nodiscard]] uint32_t position() const override;

 private:
  [[nodiscard]] uint16_t flags_at(uint16_t index) const;
  [[nodiscard]] Result<void> read_chain();
  [[nodiscard]] Result<void> build(Chain& chain);
  [[nodiscard]] Result<void> build_indirect(const PackedDescriptor& pointer, ChainBuilder& builder);

  PackedTracker* const tracker_;
  std::vector<PackedTracker::Pending> resubmitted_;  // what is to be done again, the next one last
  std::vector<PackedDescriptor> taken_;              // of the request at hand
  PackedPlace available_;
  PackedPlace used_;
  uint32_t slots_in_flight_ = 0;
  uint32_t unsignalled_ = 0;  // slots given back since wants_signal() was last asked
};

}  // namespace cairn::vhost_user
