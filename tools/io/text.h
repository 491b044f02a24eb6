// What cairn-io reads and prints: numbers, buffers and the figures of a request.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace cairn::tools {

// "64 KiB", "1.500 MiB", "512 bytes".
[[nodiscard]] std::string io_size_text(double bytes);

// A size or an offset; nothing, with the reason on standard output, when it is none or 2^63 or
// more.
[[nodiscard]] std::optional<uint64_t> parse_io_number(std::string_view text,
                                                      std::string_view shown = {});

// A number from 0 to 255, also hexadecimal or octal; nothing, with the reason on standard output.
[[nodiscard]] std::optional<uint8_t> parse_io_pattern(std::string_view text);

// Sixteen bytes a line, in hexadecimal and as characters; `offset` is that of the first.
void print_io_buffer(std::span<const std::byte> bytes, uint64_t offset);

struct IoFigures {
  std::string_view verb;  // "read", "wrote", "discard"
  uint64_t offset = 0;
  uint64_t asked = 0;  // bytes
  uint64_t done = 0;   // bytes
  std::chrono::nanoseconds elapsed{};
  bool machine_readable = false;
};
void print_io_figures(const IoFigures& figures);

}  // namespace cairn::tools
