// Numbers of the NBD protocol (NetworkBlockDevice/nbd, doc/proto.md; "Values" there names them),
// for the server (exports/nbd) and the client (protocols/nbd).
#pragma once

#include <cstddef>
#include <cstdint>

namespace cairn::nbd {

// "Newstyle negotiation"
inline constexpr uint64_t kInitMagic = 0x4e42444d41474943;    // "NBDMAGIC"
inline constexpr uint64_t kOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
inline constexpr uint64_t kOldstyleMagic =
    0x00420281861253;  // in its place, of "Oldstyle negotiation"
inline constexpr uint64_t kOptionReplyMagic = 0x0003e889045565a9;

// "Handshake flags" and "Client flags" use the same bits.
inline constexpr uint32_t kFixedNewstyle = 1 << 0;
inline constexpr uint32_t kNoZeroes = 1 << 1;

enum class Option : uint32_t {
  kExportName = 1,
  kAbort = 2,
  kList = 3,
  kStartTls = 5,
  kInfo = 6,
  kGo = 7,
  kStructuredReply = 8,
  kListMetaContext = 9,
  kSetMetaContext = 10,
  kExtendedHeaders = 11,
};

enum class OptionReply : uint32_t {
  kAck = 1,
  kServer = 2,
  kInfo = 3,
  kMetaContext = 4,
  kErrUnsupported = 0x80000001,
  kErrPolicy = 0x80000002,
  kErrInvalid = 0x80000003,
  kErrPlatform = 0x80000004,
  kErrTlsRequired = 0x80000005,
  kErrUnknown = 0x80000006,
  kErrShutdown = 0x80000007,
  kErrBlockSizeRequired = 0x80000008,
  kErrTooBig = 0x80000009,
};

[[nodiscard]] constexpr bool is_error(OptionReply type) {
  return (static_cast<uint32_t>(type) & 0x80000000U) != 0;
}

enum class Info : uint16_t { kExport = 0, kName = 1, kDescription = 2, kBlockSize = 3 };

// "Transmission flags"
inline constexpr uint16_t kHasFlags = 1 << 0;
inline constexpr uint16_t kReadOnly = 1 << 1;
inline constexpr uint16_t kSendFlush = 1 << 2;
inline constexpr uint16_t kSendFua = 1 << 3;
inline constexpr uint16_t kSendTrim = 1 << 5;
inline constexpr uint16_t kSendWriteZeroes = 1 << 6;
inline constexpr uint16_t kSendDf = 1 << 7;
inline constexpr uint16_t kCanMultiConn = 1 << 8;
inline constexpr uint16_t kSendCache = 1 << 10;
inline constexpr uint16_t kSendFastZero = 1 << 11;
inline constexpr uint16_t kBlockStatusPayload = 1 << 12;

// "Request message"; the extended one has a 64-bit length.
inline constexpr uint32_t kRequestMagic = 0x25609513;
inline constexpr uint32_t kExtendedRequestMagic = 0x21e41c71;
inline constexpr std::size_t kRequestSize = 28;
inline constexpr std::size_t kExtendedRequestSize = 32;

enum class Command : uint16_t {
  kRead = 0,
  kWrite = 1,
  kDisconnect = 2,
  kFlush = 3,
  kTrim = 4,
  kCache = 5,
  kWriteZeroes = 6,
  kBlockStatus = 7,
};

// "Command flags"
inline constexpr uint16_t kFlagFua = 1 << 0;
inline constexpr uint16_t kFlagNoHole = 1 << 1;
inline constexpr uint16_t kFlagDf = 1 << 2;
inline constexpr uint16_t kFlagReqOne = 1 << 3;
inline constexpr uint16_t kFlagFastZero = 1 << 4;
inline constexpr uint16_t kFlagPayloadLength = 1 << 5;

// Replies of the transmission phase.
inline constexpr uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr uint32_t kStructuredReplyMagic = 0x668e33ef;
inline constexpr uint32_t kExtendedReplyMagic = 0x6e8a278c;
inline constexpr std::size_t kSimpleReplySize = 16;
inline constexpr std::size_t kStructuredReplySize = 20;
inline constexpr std::size_t kExtendedReplySize = 32;
inline constexpr uint16_t kReplyDone = 1 << 0;
inline constexpr uint16_t kReplyIsError = 1 << 15;  // in the type of a chunk

enum class Chunk : uint16_t {
  kNone = 0,
  kOffsetData = 1,
  kOffsetHole = 2,
  kBlockStatus = 5,
  kBlockStatusExtended = 6,
  kError = 0x8001,
  kErrorOffset = 0x8002,
};

// "base:allocation"
inline constexpr uint32_t kStateHole = 1 << 0;
inline constexpr uint32_t kStateZero = 1 << 1;

// "Error values": the errnos of Linux that may go over the wire.
enum class WireError : uint32_t {
  kNone = 0,
  kPerm = 1,
  kIo = 5,
  kNoMemory = 12,
  kInvalid = 22,
  kNoSpace = 28,
  kOverflow = 75,
  kNotSupported = 95,
  kShutdown = 108,
};

// Limits of this server, and of what this client takes from a server.
inline constexpr uint32_t kMaxString = 4096;               // names, descriptions, messages
inline constexpr uint32_t kMaxPayload = 32 * 1024 * 1024;  // of READ and WRITE, in bytes
inline constexpr uint32_t kPreferredBlockSize = 4096;

}  // namespace cairn::nbd
