#include "tools/ctl/text.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/size_text.h"

namespace cairn::ctl {

namespace {

// One character of `text`: its code point, and how many bytes it has. What is no UTF-8 is one byte.
struct Character {
  char32_t code = 0;
  size_t bytes = 1;
  bool valid = true;
};

Character first_character(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) {
    return {.code = lead};
  }
  const size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < bytes) {
    return {.valid = false};
  }
  char32_t code = lead & (0xFFU >> (bytes + 1));
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xC0U) != 0x80) {
      return {.valid = false};
    }
    code = code << 6 | (byte(i) & 0x3FU);
  }
  return {.code = code, .bytes = bytes};
}

bool is_control(char32_t code) {
  // C0, DEL, C1, and those that turn the direction of writing round.
  return code < 0x20 || (code >= 0x7F && code < 0xA0) || (code >= 0x200E && code <= 0x200F) ||
         (code >= 0x202A && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
}

size_t columns_of(char32_t code) {
  constexpr std::array<std::pair<char32_t, char32_t>, 7> kWide{{{0x1100, 0x115F},
                                                                {0x2E80, 0xA4CF},
                                                                {0xAC00, 0xD7A3},
                                                                {0xF900, 0xFAFF},
                                                                {0xFE30, 0xFE6F},
                                                                {0xFF00, 0xFF60},
                                                                {0x1F300, 0x1FAFF}}};
  if ((code >= 0x300 && code <= 0x36F) || code == 0x200D || (code >= 0xFE00 && code <= 0xFE0F)) {
    return 0;
  }
  return std::ranges::any_of(
             kWide, [&](const auto& range) { return code >= range.first && code <= range.second; })
             ? 2
             : 1;
}

}  // namespace

Style terminal_style() {
  if (isatty(STDOUT_FILENO) == 0) {
    return {};
  }
  const char* term = std::getenv("TERM");
  const bool able = term && std::strcmp(term, "dumb") != 0;
  Style style{.bold = able && !std::getenv("NO_COLOR"), .moves = able, .width = 80};
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    style.width = size.ws_col;
  }
  return style;
}

size_t terminal_height() {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 ? size.ws_row : 24;
}

std::string clean(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const Character next = first_character(text);
    if (!next.valid) {
      result += "\uFFFD";
    } else if (next.code == '\n') {
      result += "\\n";
    } else if (next.code == '\t') {
      result += "\\t";
    } else if (is_control(next.code)) {
      result += fmt::format("\\x{:02x}", static_cast<uint32_t>(next.code));
    } else {
      result += text.substr(0, next.bytes);
    }
    text.remove_prefix(next.bytes);
  }
  return result;
}

size_t display_width(std::string_view text) {
  size_t width = 0;
  while (!text.empty()) {
    const Character next = first_character(text);
    width += columns_of(next.code);
    text.remove_prefix(next.bytes);
  }
  return width;
}

std::string cut(std::string_view text, size_t width) {
  if (display_width(text) <= width) {
    return std::string(text);
  }
  std::string result;
  size_t used = 1;
  while (!text.empty()) {
    const Character next = first_character(text);
    used += columns_of(next.code);
    if (used > width) {
      break;
    }
    result += text.substr(0, next.bytes);
    text.remove_prefix(next.bytes);
  }
  return width > 0 ? result + "…" : "";
}

std::string heading(std::string_view text, const Style& style) {
  return style.bold ? fmt::format("\x1b[1m{}\x1b[0m", text) : std::string(text);
}

std::vector<size_t> Table::widths() const {
  std::vector<size_t> result;
  for (size_t i = 0; i < columns_.size(); ++i) {
    size_t width = display_width(columns_[i].title);
    for (const auto& row : rows_) {
      width = std::max(width, display_width(row[i]));
    }
    result.push_back(width);
  }
  return result;
}

size_t Table::width() const {
  size_t sum = 0;
  for (const size_t width : widths()) {
    sum += width + 2;
  }
  return sum > 2 ? sum - 2 : 0;
}

std::string Table::text(const Style& style) const {
  const std::vector<size_t> wide = widths();
  const auto line = [&](const auto& cell_of) {
    std::string result;
    for (size_t i = 0; i < columns_.size(); ++i) {
      const std::string& cell = cell_of(i);
      const std::string space(wide[i] - display_width(cell), ' ');
      result += columns_[i].right ? space + cell : cell + space;
      result += "  ";
    }
    result.erase(result.find_last_not_of(' ') + 1);
    return style.width > 0 ? cut(result, style.width) : result;
  };
  std::string result =
      heading(line([&](size_t i) -> const std::string& { return columns_[i].title; }), style);
  result += '\n';
  for (const auto& row : rows_) {
    result += line([&](size_t i) -> const std::string& { return row[i]; });
    result += '\n';
  }
  return result;
}

std::string progress_bar(double part, size_t width) {
  if (width < 3) {
    return "";
  }
  const size_t inner = width - 2;
  const double bounded = std::clamp(part, 0.0, 1.0);
  // Only what is done is full.
  const auto full = static_cast<size_t>(std::floor(bounded * static_cast<double>(inner)));
  return fmt::format("[{}{}]", std::string(full, '#'), std::string(inner - full, '-'));
}

std::string format_duration(std::chrono::seconds duration) {
  const int64_t seconds = std::max<int64_t>(duration.count(), 0);
  if (seconds >= 86400) {
    return fmt::format("{}d {}h", seconds / 86400, seconds / 3600 % 24);
  }
  if (seconds >= 3600) {
    return fmt::format("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
  }
  return fmt::format("{}:{:02}", seconds / 60, seconds % 60);
}

std::string format_rate(std::optional<double> bytes_per_second) {
  if (!bytes_per_second) {
    return "-";
  }
  return format_size(static_cast<uint64_t>(std::max(*bytes_per_second, 0.0))) + "/s";
}

}  // namespace cairn::ctl
