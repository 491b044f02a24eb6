// What goes over the socket: the messages of the vhost-user protocol ("Message Specification",
// "Front-end message types", "Back-end message types") and its feature bits. All numbers are in the
// byte order of the host.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cairn::vhost_user {

enum class MessageKind : uint32_t {
  kGetFeatures = 1,
  kSetFeatures = 2,
  kSetOwner = 3,
  kResetOwner = 4,
  kSetMemTable = 5,
  kSetLogBase = 6,
  kSetLogFd = 7,
  kSetVringNum = 8,
  kSetVringAddr = 9,
  kSetVringBase = 10,
  kGetVringBase = 11,
  kSetVringKick = 12,
  kSetVringCall = 13,
  kSetVringErr = 14,
  kGetProtocolFeatures = 15,
  kSetProtocolFeatures = 16,
  kGetQueueNum = 17,
  kSetVringEnable = 18,
  kSetBackendReqFd = 21,
  kGetConfig = 24,
  kSetConfig = 25,
  kGetInflightFd = 31,
  kSetInflightFd = 32,
  kResetDevice = 34,
  kGetMaxMemSlots = 36,
  kAddMemReg = 37,
  kRemMemReg = 38,
  kSetStatus = 39,
  kGetStatus = 40,
};

// What the back-end sends by itself.
inline constexpr uint32_t kBackendConfigChange = 2;

struct MessageHeader {
  uint32_t kind;
  uint32_t flags;
  uint32_t size;  // of the payload, in bytes
};

inline constexpr uint32_t kVersion = 1;
inline constexpr uint32_t kVersionMask = 3;
inline constexpr uint32_t kReplyFlag = 4;
inline constexpr uint32_t kNeedReplyFlag = 8;

// Regions of memory that a device has at most, and that one message may bring.
inline constexpr std::size_t kMostRegions = 32;
// No message of the protocol that is served here is larger.
inline constexpr std::size_t kLargestPayload = 8 + 32 * kMostRegions;
inline constexpr std::size_t kMostDescriptors = kMostRegions;
// Messages about descriptors name a queue by eight bits.
inline constexpr uint32_t kMostQueues = 256;
inline constexpr uint64_t kQueueMask = 0xff;
inline constexpr uint64_t kNoDescriptorFlag = 0x100;

struct VringState {
  uint32_t index;
  uint32_t number;
};

struct VringAddress {
  uint32_t index;
  uint32_t flags;
  // In the front-end's own address space.
  uint64_t descriptors;
  uint64_t used;
  uint64_t available;
  uint64_t log;  // in the guest's
};
inline constexpr uint32_t kVringLogFlag = 1;

struct MemoryRegion {
  uint64_t guest_address;
  uint64_t size;
  uint64_t user_address;
  uint64_t offset;  // of the region in the file
};

struct MemoryTableHead {
  uint32_t count;
  uint32_t padding;
};

struct SingleRegion {
  uint64_t padding;
  MemoryRegion region;
};

struct LogArea {
  uint64_t size;
  uint64_t offset;
};

struct ConfigAccess {
  uint32_t offset;
  uint32_t size;
  uint32_t flags;
};
inline constexpr uint32_t kConfigMigration = 1;

struct InflightArea {
  uint64_t size;
  uint64_t offset;
  uint16_t queues;
  uint16_t queue_size;
  uint32_t padding;
};
// Without the padding at its end.
inline constexpr std::size_t kInflightAreaBytes = 20;

enum class ProtocolFeature : uint8_t {
  kMultipleQueues = 0,
  kLogMemory = 1,
  kReplyAck = 3,
  kBackendRequests = 5,
  kConfig = 9,
  kInflight = 12,
  kResetDevice = 13,
  kMemorySlots = 15,
  kStatus = 16,
};

// Feature bits of vhost; the others are of virtio: <linux/virtio_blk.h> and its like.
inline constexpr int kFeatureLogAll = 26;
inline constexpr int kFeatureProtocol = 30;

[[nodiscard]] constexpr uint64_t bit(int number) { return uint64_t{1} << number; }
[[nodiscard]] constexpr uint64_t bit(ProtocolFeature feature) {
  return bit(static_cast<int>(feature));
}

}  // namespace cairn::vhost_user
