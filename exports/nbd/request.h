// Request: one message of a client in the transmission phase: taking it apart and judging it,
// without any I/O. Specification: "Request message", "Command flags", "Request types".
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/nbd_protocol.h"

namespace cairn::nbd {

// The wire value for a positive errno.
[[nodiscard]] WireError wire_error(int code);

struct Request {
  Command command{};  // may hold values that have no name
  uint16_t flags = 0;
  uint64_t cookie = 0;  // "handle" in older texts; goes back as it came
  uint64_t offset = 0;  // bytes
  uint64_t length = 0;  // bytes

  [[nodiscard]] bool has(uint16_t flag) const { return (flags & flag) != 0; }
};

// Takes apart kRequestSize (kExtendedRequestSize) bytes. Nothing when they are no request: the
// stream can not be followed any more then.
[[nodiscard]] std::optional<Request> parse_request(std::span<const std::byte> bytes, bool extended);

// How many bytes follow the request on the wire. In extended mode any request can carry some.
[[nodiscard]] uint64_t payload_length(const Request& request, bool extended);

// What a request is judged by.
struct RequestRules {
  uint64_t size = 0;  // of the export, in bytes
  bool writable = false;
  bool structured = false;
  bool extended = false;
  bool contexts = false;  // some metadata context was negotiated
};

struct Refusal {
  WireError error = WireError::kInvalid;
  std::string_view message;
};

// Why a request can not be carried out; nothing when it can. Everything that requests of the same
// kind have in common is checked: flags, range, permission, size limits.
[[nodiscard]] std::optional<Refusal> check_request(const Request& request,
                                                   const RequestRules& rules);

}  // namespace cairn::nbd
