#include "tools/io/text.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "base/size_text.h"

namespace cairn::tools {
namespace {

constexpr double kUnit = 1024;
constexpr size_t kBytesInLine = 16;

// "00.25 sec", or "1:02:03.25" when it took longer than a minute or programs are to read it.
std::string time_text(std::chrono::nanoseconds elapsed, bool fixed) {
  const auto hundredths =
      std::chrono::duration_cast<std::chrono::milliseconds>(elapsed).count() / 10;
  const auto seconds = hundredths / 100;
  if (!fixed && seconds < 60) {
    return fmt::format("{:02}.{:02} sec", seconds, hundredths % 100);
  }
  return fmt::format("{}:{:02}:{:02}.{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60,
                     hundredths % 100);
}

}  // namespace

std::string io_size_text(double bytes) {
  constexpr std::array<std::string_view, 6> kNames = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < kUnit) {
    return bytes == std::floor(bytes) ? fmt::format("{:.0f} bytes", bytes)
                                      : fmt::format("{:.6f} bytes", bytes);
  }
  double value = bytes / kUnit;
  size_t unit = 0;
  while (value >= kUnit && unit + 1 < kNames.size()) {
    value /= kUnit;
    ++unit;
  }
  std::string text = fmt::format("{:.3f}", value);
  if (text.ends_with(".000")) {
    text.resize(text.size() - 4);
  }
  return fmt::format("{} {}", text, kNames[unit]);
}

std::optional<uint64_t> parse_io_number(std::string_view text, std::string_view shown) {
  const Result<uint64_t> number = parse_size(text);
  if (number && *number <= static_cast<uint64_t>(INT64_MAX)) {
    return *number;
  }
  const bool too_large = number || number.error().code() == ERANGE;
  fmt::print(
      "Parsing error: {} -- {}\n",
      too_large ? "argument too large" : "non-numeric argument, or extraneous/unrecognized suffix",
      shown.empty() ? text : shown);
  return std::nullopt;
}

std::optional<uint8_t> parse_io_pattern(std::string_view text) {
  int base = 10;
  std::string_view digits = text;
  if (digits.starts_with("0x") || digits.starts_with("0X")) {
    base = 16;
    digits.remove_prefix(2);
  } else if (digits.size() > 1 && digits.starts_with('0')) {
    base = 8;
  }
  uint8_t value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (error != std::errc{} || end != digits.data() + digits.size()) {
    fmt::print("{} is not a valid pattern byte\n", text);
    return std::nullopt;
  }
  return value;
}

void print_io_buffer(std::span<const std::byte> bytes, uint64_t offset) {
  for (size_t begin = 0; begin < bytes.size(); begin += kBytesInLine) {
    const auto line = bytes.subspan(begin, std::min(kBytesInLine, bytes.size() - begin));
    std::string hex;
    std::string characters;
    for (const std::byte byte : line) {
      const auto value = static_cast<unsigned char>(byte);
      hex += fmt::format("{:02x} ", value);
      characters.push_back(value < 128 && std::isalnum(value) != 0 ? static_cast<char>(value)
                                                                   : '.');
    }
    fmt::print("{:08x}:  {} {}\n", offset + begin, hex, characters);
  }
}

void print_io_figures(const IoFigures& figures) {
  // A clock that stood still must not make the rate infinite.
  const double seconds =
      std::max(std::chrono::duration<double>(figures.elapsed).count(), 0.000000001);
  const std::string time = time_text(figures.elapsed, figures.machine_readable);
  const double rate = static_cast<double>(figures.done) / seconds;
  if (figures.machine_readable) {
    fmt::print("{},1,{},{:.3f},{:.3f}\n", figures.done, time, rate, 1 / seconds);
    return;
  }
  fmt::print("{} {}/{} bytes at offset {}\n", figures.verb, figures.done, figures.asked,
             figures.offset);
  fmt::print("{}, 1 ops; {} ({}/sec and {:.4f} ops/sec)\n",
             io_size_text(static_cast<double>(figures.done)), time, io_size_text(rate),
             1 / seconds);
}

}  // namespace cairn::tools
