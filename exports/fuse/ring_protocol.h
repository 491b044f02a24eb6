// FUSE over io_uring (the kernel's documentation, filesystems/fuse/fuse-io-uring.rst; structures
// and numbers in <linux/fuse.h> of version 7.42 on, Linux 6.14), which the headers of older systems
// do not have.
//
// A server offers memory for a request, in a command on its descriptor of /dev/fuse that ends when
// the kernel has put a request there. The next command for the same memory answers it and offers
// the memory again. Each processor has a queue of such places; the queues are used from the moment
// that every one of them has a place.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cairn::fuse {

// Of INIT, in the second word of flags (FUSE_OVER_IO_URING, 1 << 41).
inline constexpr uint32_t kOverRing = 1u << 9;

// Numbers of the commands (fuse_uring_cmd).
enum class RingCommand : uint32_t {
  kRegister = 1,        // offers memory
  kCommitAndFetch = 2,  // answers, and offers the memory again
};

// What is known of the payload (fuse_uring_ent_in_out).
struct RingEntry {
  uint64_t flags;
  uint64_t commit;  // names the request when it is answered
  uint32_t payload_size;
  uint32_t padding;
  uint64_t reserved;
};
static_assert(sizeof(RingEntry) == 32);

// The first part of the memory of a place (fuse_uring_req_header); the second one is for what
// follows the fixed part of a request or of an answer.
struct RingHeader {
  std::byte header[128];     // fuse_in_header, then fuse_out_header
  std::byte arguments[128];  // the fixed part of the request
  RingEntry entry;
};
static_assert(sizeof(RingHeader) == 288);

// What a command says, in the 80 bytes that a large entry of the submission queue has for that
// (fuse_uring_cmd_req).
struct RingCommandBody {
  uint64_t flags;
  uint64_t commit;
  uint16_t queue;
  uint8_t padding[6];
};
static_assert(sizeof(RingCommandBody) == 24);

}  // namespace cairn::fuse
