// Deflate streams (RFC 1951), bare or as zlib wraps them (RFC 1950), as images hold them.
//
// The work is done by ISA-L where it is installed, which is many times as fast, and by zlib where
// it is not, for what ISA-L has no level for, and for streams that ISA-L stumbles over: what is
// damaged is for zlib to say. What is kept for coding is kept per thread, so that these are usable
// from any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/result.h"

namespace cairn::deflate {

enum class Wrapping : uint8_t {
  kBare,  // no header, no checksum
  kZlib,
};

// Fills `out` from the stream that `stored` begins with, and returns how much of it was filled:
// all, unless the stream ends before. What follows is ignored, and so is the rest of a stream that
// would yield more. Nothing when the stream is damaged, or cut off before `out` is full.
[[nodiscard]] std::optional<std::size_t> inflate(Wrapping wrapping,
                                                 std::span<const std::byte> stored,
                                                 std::span<std::byte> out);

// What a level may be: 1 is the fastest, and 9 makes the shortest streams. 0 is left to us.
inline constexpr int kLeastLevel = 1;
inline constexpr int kMostLevel = 9;

struct Settings {
  Wrapping wrapping = Wrapping::kBare;
  // How far back a bare stream refers at most: 2 to the power of this, in bytes; 9 to 15. Those
  // with a header, which tells, always have the largest.
  int window_bits = 15;
  int level = 0;
};

// Makes a stream of `content` and returns its length; 0 when `out` is too short for it. On one
// machine the same content and settings always make the same stream. ENOMEM.
[[nodiscard]] Result<std::size_t> deflate(const Settings& settings,
                                          std::span<const std::byte> content,
                                          std::span<std::byte> out);

// What is always enough room for a stream of that much content, with the largest window.
[[nodiscard]] std::size_t longest(std::size_t content_length);

}  // namespace cairn::deflate
