// SplitRing: a virtqueue of three parts (virtio 1.2, section 2.7).
//
//   descriptors  16 bytes each: address u64, length u32, flags u16, next u16
//   available    flags u16, index u16, heads u16[size], used_event u16
//   used         flags u16, index u16, {head u32, written u32}[size], avail_event u16
#pragma once

#include <cstdint>

#include "exports/vhost_user/inflight.h"
#include "exports/vhost_user/ring.h"

namespace cairn::vhost_user {

class SplitRing final : public Ring {
 public:
  static constexpr uint64_t descriptor_bytes(uint16_t size) { return uint64_t{16} * size; }
  static constexpr uint64_t available_bytes(uint16_t size) { return 6 + uint64_t{2} * size; }
  static constexpr uint64_t used_bytes(uint16_t size) { return 6 + uint64_t{8} * size; }

  // Goes on at `base` of the available ring; with `tracker`, which may be null, with the requests
  // first that were on their way when another program had the ring.
  SplitRing(const RingSetup& setup, uint16_t base, SplitTracker* tracker);

  [[nodiscard]] Result<bool> pop(Chain& chain) override;
  void push(const Chain& chain, uint32_t written) override;
  [[nodiscard]] bool wants_signal() override;
  void set_kicks(bool wanted) override;
  [[nodiscard]] bool has_available() override;
  [[nodiscard]] bool caught_up() const override { return resubmitted_.empty(); }
  [[nodiscard]] uint32_t position() const override { return next_available_; }

 private:
  struct Raw {
    uint64_t address;
    uint32_t length;
    uint16_t flags;
    uint16_t next;
  };

  [[nodiscard]] Raw read_descriptor(uint16_t index) const;
  [[nodiscard]] static Raw parse(const std::byte* bytes);
  [[nodiscard]] Result<void> build(uint16_t head, Chain& chain);
  [[nodiscard]] Result<void> build_indirect(const Raw& pointer, ChainBuilder& builder);

  SplitTracker* const tracker_;
  std::vector<uint16_t> resubmitted_;  // what is to be done again, the next one last
  uint16_t next_available_;
  uint16_t seen_available_;  // the driver's index when it was last read
  uint16_t next_used_;
  uint16_t signalled_used_;  // next_used_ when wants_signal() was last asked
  bool never_signalled_ = true;
  uint32_t in_flight_ = 0;
};

}  // namespace cairn::vhost_user
