#include "exports/nbd/request.h"

#include <cerrno>

#include "base/bytes.h"

namespace cairn::nbd {
namespace {

// Room for far more contexts than any export has.
constexpr uint64_t kMaxStatusPayload = 4096;

// The flags that a command may carry besides FUA, which every command may.
uint16_t allowed_flags(Command command, const RequestRules& rules) {
  switch (command) {
    case Command::kRead:
      return rules.structured ? kFlagDf : 0;
    case Command::kWrite:
      return rules.extended ? kFlagPayloadLength : 0;
    case Command::kWriteZeroes:
      return kFlagNoHole | kFlagFastZero;
    case Command::kBlockStatus:
      return rules.extended ? kFlagReqOne | kFlagPayloadLength : kFlagReqOne;
    default:
      return 0;
  }
}

bool writes(Command command) {
  return command == Command::kWrite || command == Command::kTrim ||
         command == Command::kWriteZeroes;
}

bool moves_data(Command command) {
  return command == Command::kRead || command == Command::kWrite || command == Command::kCache;
}

}  // namespace

WireError wire_error(int code) {
  switch (code) {
    case 0:
      return WireError::kNone;
    case EPERM:
    case EACCES:
    case EROFS:
      return WireError::kPerm;
    case ENOMEM:
      return WireError::kNoMemory;
    case EINVAL:
      return WireError::kInvalid;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return WireError::kNoSpace;
    case EOVERFLOW:
      return WireError::kOverflow;
    case EOPNOTSUPP:
      return WireError::kNotSupported;
    case ESHUTDOWN:
      return WireError::kShutdown;
    default:
      return WireError::kIo;
  }
}

std::optional<Request> parse_request(std::span<const std::byte> bytes, bool extended) {
  const std::byte* p = bytes.data();
  if (load_be<uint32_t>(p) != (extended ? kExtendedRequestMagic : kRequestMagic)) {
    return std::nullopt;
  }
  Request request;
  request.flags = load_be<uint16_t>(p + 4);
  request.command = static_cast<Command>(load_be<uint16_t>(p + 6));
  request.cookie = load_be<uint64_t>(p + 8);
  request.offset = load_be<uint64_t>(p + 16);
  request.length = extended ? load_be<uint64_t>(p + 24) : load_be<uint32_t>(p + 24);
  return request;
}

uint64_t payload_length(const Request& request, bool extended) {
  const bool carries =
      request.command == Command::kWrite || (extended && request.has(kFlagPayloadLength));
  return carries ? request.length : 0;
}

std::optional<Refusal> check_request(const Request& request, const RequestRules& rules) {
  if (request.command > Command::kBlockStatus || request.command == Command::kDisconnect) {
    return Refusal{WireError::kInvalid, "unknown command"};
  }
  const uint16_t unknown = request.flags & ~(allowed_flags(request.command, rules) | kFlagFua);
  if (unknown != 0) {
    return Refusal{WireError::kInvalid, "unsupported flags for this command"};
  }
  if (request.command == Command::kFlush) {
    return std::nullopt;  // offset and length are reserved, and some clients set them
  }
  if (writes(request.command) && !rules.writable) {
    // EINVAL, not EPERM: what clients of the peer are used to see.
    return Refusal{WireError::kInvalid, "the export is read-only"};
  }
  if (request.command == Command::kBlockStatus && request.has(kFlagPayloadLength)) {
    // The length is that of the payload, which has the range's; it is judged when it is there.
    return request.length > kMaxStatusPayload
               ? std::optional(Refusal{WireError::kInvalid, "the payload is too long"})
               : std::nullopt;
  }
  if (request.offset > rules.size || request.length > rules.size - request.offset) {
    return Refusal{WireError::kInvalid, "the range goes beyond the end of the export"};
  }
  if (moves_data(request.command) && request.length > kMaxPayload) {
    return Refusal{WireError::kInvalid, "the length is above the maximum of 32 MiB"};
  }
  if (request.command == Command::kBlockStatus) {
    if (!rules.contexts) {
      return Refusal{WireError::kInvalid, "no metadata context was negotiated"};
    }
    if (request.length == 0) {
      return Refusal{WireError::kInvalid, "the length must not be 0"};
    }
  }
  return std::nullopt;
}

}  // namespace cairn::nbd
