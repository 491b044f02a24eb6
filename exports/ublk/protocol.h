// ublk, block devices of Linux whose requests a program answers (the kernel's documentation,
// block/ublk.rst; structures and numbers in <linux/ublk_cmd.h>, of which older systems have less).
//
// Commands go through io_uring to /dev/ublk-control, about devices, and to /dev/ublkcN, about the
// requests of one. A place of a queue is offered together with memory for data, by a command that
// ends when the kernel has put a request there: for writes with its data, which the memory holds
// then. The next command for the same place answers it and offers the place again. What a request
// asks for lies in memory that the kernel shows.
#pragma once

#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>

namespace cairn::ublk {

// About devices (struct ublksrv_ctrl_cmd).
struct ControlBody {
  uint32_t device = 0;
  uint16_t queue = UINT16_MAX;  // none
  uint16_t length = 0;          // of what `address` points to
  uint64_t address = 0;
  uint64_t value = 0;
  uint64_t reserved = 0;
};
static_assert(sizeof(ControlBody) == 32);

// UBLK_CMD_*.
enum class Control : uint8_t {
  kGetDeviceInfo = 0x02,
  kAddDevice = 0x04,
  kDeleteDevice = 0x05,
  kStartDevice = 0x06,  // waits until all places are offered, and reads partition tables
  kStopDevice = 0x07,
  kSetParameters = 0x08,
  kGetParameters = 0x09,
  kStartRecovery = 0x10,
  kEndRecovery = 0x11,
  kGetFeatures = 0x13,
  kUpdateSize = 0x15,
};

// Of a device, and of the driver (UBLK_F_*).
inline constexpr uint64_t kUserRecovery = uint64_t{1} << 3;
inline constexpr uint64_t kUserRecoveryReissue = uint64_t{1} << 4;
inline constexpr uint64_t kCommandEncoding = uint64_t{1} << 6;
inline constexpr uint64_t kUpdatableSize = uint64_t{1} << 10;

enum class DeviceState : uint16_t {
  kDead = 0,
  kLive = 1,
  kQuiesced = 2,  // its server died; requests wait
};

// struct ublksrv_ctrl_dev_info.
struct DeviceInfo {
  uint16_t queues = 1;
  uint16_t queue_depth = 0;
  DeviceState state = DeviceState::kDead;
  uint16_t padding = 0;
  uint32_t buffer_bytes = 0;  // of a place: the largest transfer
  uint32_t device = 0;
  int32_t server = 0;  // process
  uint32_t more_padding = 0;
  uint64_t flags = 0;
  uint64_t server_flags = 0;
  uint32_t owner_user = 0;
  uint32_t owner_group = 0;
  uint64_t reserved[2] = {};
};
static_assert(sizeof(DeviceInfo) == 64);

// UBLK_ATTR_*.
inline constexpr uint32_t kReadOnly = 1u << 0;
inline constexpr uint32_t kVolatileCache = 1u << 2;
inline constexpr uint32_t kForcedUnitAccess = 1u << 3;

// UBLK_PARAM_TYPE_*.
inline constexpr uint32_t kBasicParameters = 1u << 0;
inline constexpr uint32_t kDiscardParameters = 1u << 1;

// The first two parts of struct ublk_params. Shifts are binary logarithms of bytes.
struct Parameters {
  uint32_t length = 0;  // of this, in bytes
  uint32_t types = 0;
  uint32_t attributes = 0;
  uint8_t logical_block_shift = 0;
  uint8_t physical_block_shift = 0;
  uint8_t best_transfer_shift = 0;
  uint8_t smallest_transfer_shift = 0;
  uint32_t most_sectors = 0;
  uint32_t chunk_sectors = 0;
  uint64_t sectors = 0;
  uint64_t virtual_boundary = 0;
  uint32_t discard_alignment = 0;
  uint32_t discard_granularity = 0;
  uint32_t most_discarded_sectors = 0;
  uint32_t most_zeroed_sectors = 0;
  uint16_t discard_ranges = 0;
  uint16_t reserved = 0;
  uint32_t padding = 0;
};
static_assert(sizeof(Parameters) == 64);

// About places (struct ublksrv_io_cmd).
struct PlaceBody {
  uint16_t queue = 0;
  uint16_t place = 0;
  int32_t result = 0;    // of the request that is answered: bytes, or a negative errno
  uint64_t address = 0;  // memory for data
};
static_assert(sizeof(PlaceBody) == 16);

// UBLK_IO_*.
enum class PlaceCommand : uint8_t {
  kFetch = 0x20,
  kCommitAndFetch = 0x21,
};

// UBLK_IO_OP_*.
enum class RequestKind : uint8_t {
  kRead = 0,
  kWrite = 1,
  kFlush = 2,
  kDiscard = 3,
  kWriteZeroes = 5,
};

// Beside the kind (UBLK_IO_F_*).
inline constexpr uint32_t kDurable = 1u << 13;
inline constexpr uint32_t kKeepAllocated = 1u << 15;

// What a request asks for (struct ublksrv_io_desc).
struct RequestDescription {
  uint32_t kind_and_flags = 0;
  uint32_t sectors = 0;
  uint64_t first_sector = 0;
  uint64_t address = 0;
};
static_assert(sizeof(RequestDescription) == 24);

// Where the descriptions of a queue are in the file of the device.
inline constexpr uint32_t kMostPlaces = 4096;  // of a queue (UBLK_MAX_QUEUE_DEPTH)
inline constexpr std::size_t kQueueStride = kMostPlaces * sizeof(RequestDescription);

// The number of a command: as ioctl() would have it, or, as kernels before 6.4 have it, alone.
[[nodiscard]] constexpr uint32_t number_of(Control command, bool encoded) {
  const auto number = static_cast<uint32_t>(command);
  const bool reads = command == Control::kGetDeviceInfo || command == Control::kGetParameters ||
                     command == Control::kGetFeatures;
  return !encoded ? number
         : reads  ? _IOR('u', number, ControlBody)
                  : _IOWR('u', number, ControlBody);
}

[[nodiscard]] constexpr uint32_t number_of(PlaceCommand command, bool encoded) {
  const auto number = static_cast<uint32_t>(command);
  return encoded ? _IOWR('u', number, PlaceBody) : number;
}

}  // namespace cairn::ublk
