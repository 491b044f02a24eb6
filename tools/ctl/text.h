// Text for a terminal: its width, what is safe to print there, tables, bars and times.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cairn::ctl {

struct Style {
  bool bold = false;   // the terminal knows how to
  bool moves = false;  // so that what stands there can be overwritten
  size_t width = 0;    // columns; 0: no limit
};

// Of standard output: plain and without limit when that is no terminal.
[[nodiscard]] Style terminal_style();

// Lines of the terminal, 24 when it does not say.
[[nodiscard]] size_t terminal_height();

// Without control characters, which a name from an image may hold to play with the terminal; what
// is no UTF-8 is replaced.
[[nodiscard]] std::string clean(std::string_view text);

// The columns that clean text takes.
[[nodiscard]] size_t display_width(std::string_view text);

// At most `width` columns; what is left out at the end becomes "…".
[[nodiscard]] std::string cut(std::string_view text, size_t width);

// In bold, where the style has that.
[[nodiscard]] std::string heading(std::string_view text, const Style& style);

class Table {
 public:
  struct Column {
    std::string title;
    bool right = false;  // numbers
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // One cell a column, clean.
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  [[nodiscard]] bool empty() const { return rows_.empty(); }
  [[nodiscard]] size_t width() const;
  // A line for the titles and one a row, each with its line break. Lines that are too long for the
  // style are cut.
  [[nodiscard]] std::string text(const Style& style) const;

 private:
  [[nodiscard]] std::vector<size_t> widths() const;

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// "[#####-----]", `width` columns in all; `part` from 0 to 1.
[[nodiscard]] std::string progress_bar(double part, size_t width);

// "0:05", "12:34", "1:02:03", "3d 4h".
[[nodiscard]] std::string format_duration(std::chrono::seconds duration);

// "12.3 MiB/s"; "-" when it is not known.
[[nodiscard]] std::string format_rate(std::optional<double> bytes_per_second);

}  // namespace cairn::ctl
