// Numbers of virtqueues (virtio 1.2, sections 2.7 and 2.8) and the feature bits that concern them
// (section 6). What is of block devices is in <linux/virtio_blk.h>.
#pragma once

#include <cstdint>

namespace cairn::vhost_user {

inline constexpr int kFeatureIndirect = 28;
inline constexpr int kFeatureEventIndex = 29;
inline constexpr int kFeatureVersion1 = 32;
inline constexpr int kFeaturePacked = 34;

// Flags of descriptors.
inline constexpr uint16_t kDescriptorNext = 1;
inline constexpr uint16_t kDescriptorWrite = 2;
inline constexpr uint16_t kDescriptorIndirect = 4;

// Of the two sides of a split ring.
inline constexpr uint16_t kUsedNoNotify = 1;
inline constexpr uint16_t kAvailableNoInterrupt = 1;

// Of a descriptor in a packed ring: in which lap it was made available, and used.
inline constexpr uint16_t kPackedAvailable = 1 << 7;
inline constexpr uint16_t kPackedUsed = 1 << 15;
// What a side of a packed ring wants to be told of.
inline constexpr uint16_t kPackedEventNever = 1;
inline constexpr uint16_t kPackedEventPlace = 2;
inline constexpr uint16_t kPackedEventMask = 3;

}  // namespace cairn::vhost_user
