// The FUSE protocol between the kernel and a server (the kernel's documentation, filesystems/fuse;
// structures in <linux/fuse.h>), as far as a file system of one regular file needs it.
//
// Requests come from the kernel and are well-formed; they are bounds-checked all the same.
#pragma once

#include <linux/fuse.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "exports/fuse/limits.h"

namespace cairn::fuse {

// Of any request but a write, with what belongs to it.
inline constexpr std::size_t kSmallRequest = 8192;
// What stands before the data of a write.
inline constexpr std::size_t kWriteHead = sizeof(fuse_in_header) + sizeof(fuse_write_in);

// One request. Refers to the memory that it was read into.
class Request {
 public:
  // Nothing when the bytes are no request.
  [[nodiscard]] static std::optional<Request> parse(std::span<const std::byte> bytes);
  // One whose parts came apart: what follows the fixed part is elsewhere, and so long.
  [[nodiscard]] static Request from_parts(const fuse_in_header& header,
                                          std::span<const std::byte> arguments,
                                          std::size_t payload_size);

  [[nodiscard]] uint32_t opcode() const { return header_.opcode; }
  [[nodiscard]] uint64_t unique() const { return header_.unique; }
  [[nodiscard]] uint64_t node() const { return header_.nodeid; }

  // The fixed part of its arguments; nothing when it is too short for that.
  template <typename Arguments>
  [[nodiscard]] std::optional<Arguments> arguments() const {
    if (body_.size() < sizeof(Arguments)) {
      return std::nullopt;
    }
    Arguments result;
    std::memcpy(&result, body_.data(), sizeof result);
    return result;
  }
  // How much follows the fixed part, in bytes.
  [[nodiscard]] std::size_t payload_size(std::size_t arguments_size) const {
    return apart_ ? *apart_ : body_.size() - std::min(arguments_size, body_.size());
  }

 private:
  fuse_in_header header_{};
  std::span<const std::byte> body_;
  std::optional<std::size_t> apart_;  // how long what follows the fixed part is, if not in body_
};

// What INIT offers. Kernels before 7.36 have no second word of flags.
struct InitOffer {
  uint32_t major = 0;
  uint32_t minor = 0;
  uint32_t max_readahead = 0;
  uint32_t flags = 0;
  uint32_t flags2 = 0;
};
[[nodiscard]] std::optional<InitOffer> read_offer(const Request& request);

// Whether the kernel can have its requests fetched through io_uring.
[[nodiscard]] bool offers_ring(const InitOffer& offer);

// The answer to INIT; nothing when the kernel's protocol is too old (before 7.31). `over_ring`:
// requests will be fetched through io_uring, which was offered.
[[nodiscard]] std::optional<fuse_init_out> negotiate(const InitOffer& offer, bool over_ring);

}  // namespace cairn::fuse
