#include "base/size_text.h"

#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <optional>

#include "base/bytes.h"

namespace cairn {
namespace {

constexpr std::string_view kSuffixes = "bkmgtpe";
constexpr uint64_t kUnit = 1024;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// How many bytes a suffix stands for; nothing for other text.
std::optional<uint64_t> suffix_factor(std::string_view suffix) {
  if (suffix.empty()) {
    return 1;
  }
  const auto lower = static_cast<char>(std::tolower(static_cast<unsigned char>(suffix.front())));
  const size_t power = kSuffixes.find(lower);
  if (suffix.size() != 1 || power == kSuffixes.npos) {
    return std::nullopt;
  }
  return uint64_t{1} << (10 * power);
}

Result<uint64_t> not_a_size(std::string_view text) {
  return fail(EINVAL, "'{}' is not a size", text);
}
Result<uint64_t> too_large(std::string_view text) {
  return fail(ERANGE, "'{}' is too large", text);
}

// The whole of `digits` in `base`.
Result<uint64_t> parse_digits(std::string_view digits, int base, std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (error == std::errc::result_out_of_range) {
    return too_large(text);
  }
  if (error != std::errc{} || end != digits.data() + digits.size()) {
    return not_a_size(text);
  }
  return value;
}

}  // namespace

Result<uint64_t> parse_size(std::string_view text) {
  std::string_view rest = text;
  while (!rest.empty() && std::isspace(static_cast<unsigned char>(rest.front())) != 0) {
    rest.remove_prefix(1);
  }
  if (rest.starts_with('+')) {
    rest.remove_prefix(1);
  }
  if (rest.starts_with("0x") || rest.starts_with("0X")) {
    return parse_digits(rest.substr(2), 16, text);
  }
  size_t digits = 0;
  while (digits < rest.size() && is_digit(rest[digits])) {
    ++digits;
  }
  size_t end = digits;
  std::string_view fraction_digits;
  if (end < rest.size() && rest[end] == '.') {
    size_t stop = end + 1;
    while (stop < rest.size() && is_digit(rest[stop])) {
      ++stop;
    }
    fraction_digits = rest.substr(end + 1, stop - end - 1);
    end = stop;
  }
  if (digits == 0) {
    return not_a_size(text);
  }
  const std::optional<uint64_t> factor = suffix_factor(rest.substr(end));
  if (!factor) {
    return not_a_size(text);
  }
  const Result<uint64_t> whole = parse_digits(rest.substr(0, digits), 10, text);
  if (!whole) {
    return whole;
  }
  // Exact for what a fraction can matter: 2^60 bytes have 19 decimal digits.
  long double fraction = 0;
  for (size_t i = fraction_digits.size(); i > 0; --i) {
    fraction = (fraction + (fraction_digits[i - 1] - '0')) / 10;
  }
  if (*factor == 1 && fraction != 0) {
    return not_a_size(text);
  }
  const auto part = static_cast<uint64_t>(fraction * static_cast<long double>(*factor));
  const auto product = checked_mul(*whole, *factor);
  const auto sum = product ? checked_add(*product, part) : std::nullopt;
  return sum ? Result<uint64_t>(*sum) : too_large(text);
}

std::string format_size(uint64_t bytes) {
  constexpr std::array<std::string_view, 7> kNames = {"B",   "KiB", "MiB", "GiB",
                                                      "TiB", "PiB", "EiB"};
  size_t unit = 0;
  auto value = static_cast<double>(bytes);
  while (value >= 1000 && unit + 1 < kNames.size()) {
    value /= kUnit;
    ++unit;
  }
  return fmt::format("{:.3g} {}", value, kNames[unit]);
}

}  // namespace cairn
