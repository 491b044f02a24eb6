#include "tools/ctl/show.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/size_text.h"

namespace cairn::ctl {

namespace {

using schema::JsonArray;
using schema::JsonObject;
using schema::JsonValue;

// The columns to show where there is no room for all.
struct Preference {
  std::string_view command;
  std::vector<std::string_view> columns;
};

const std::vector<Preference>& preferences() {
  static const std::vector<Preference> kAll = {
      {"query-named-block-nodes", {"node-name", "drv", "ro", "image.virtual-size", "file"}},
      {"query-blockstats",
       {"node-name", "stats.rd_bytes", "stats.wr_bytes", "stats.rd_operations",
        "stats.wr_operations", "stats.flush_operations"}},
      {"query-block-jobs", {"device", "type", "status", "offset", "len", "speed", "error"}},
  };
  return kAll;
}

bool is_scalar(const JsonValue& value) { return !value.is_array() && !value.is_object(); }

bool is_size(std::string_view name) {
  constexpr std::string_view kEndings[] = {"size", "bytes", "granularity"};
  return std::ranges::any_of(kEndings, [&](auto ending) { return name.ends_with(ending); });
}

// A number of bytes, or any other scalar.
std::string show_cell(std::string_view name, const JsonValue& value) {
  const int64_t* number = value.as_int64();
  return number && *number >= 1024 && is_size(name) ? format_size(static_cast<uint64_t>(*number))
                                                    : show_scalar(value);
}

using Row = std::vector<std::pair<std::string, std::string>>;

// The members of `object` by dotted names. False when something in it has no place in a cell.
bool flatten(const JsonObject& object, const std::string& prefix, Row& row) {
  bool complete = true;
  for (const auto& [name, value] : object) {
    const std::string path = prefix + name;
    if (const auto* inner = value.as_object()) {
      complete = flatten(*inner, path + ".", row) && complete;
    } else if (const auto* array = value.as_array()) {
      std::string joined;
      for (const JsonValue& element : *array) {
        complete = complete && is_scalar(element);
        joined += joined.empty() ? "" : ",";
        joined += is_scalar(element) ? show_scalar(element) : "…";
      }
      row.emplace_back(path, std::move(joined));
    } else {
      row.emplace_back(path, show_cell(path, value));
    }
  }
  return complete;
}

const std::string* find_cell(const Row& row, std::string_view name) {
  const auto at = std::ranges::find(row, name, &Row::value_type::first);
  return at == row.end() ? nullptr : &at->second;
}

bool looks_like_number(const std::string& text) {
  return !text.empty() && (text[0] == '-' || (text[0] >= '0' && text[0] <= '9'));
}

Table make_table(const std::vector<Row>& rows, const std::vector<std::string>& names) {
  std::vector<Table::Column> columns;
  for (const std::string& name : names) {
    // The last part is enough where no other column has the same.
    const std::string last = name.substr(name.rfind('.') + 1);
    const auto same = std::ranges::count_if(names, [&](const std::string& other) {
      return other == last || other.ends_with("." + last);
    });
    const bool right = std::ranges::all_of(rows, [&](const Row& row) {
      const std::string* cell = find_cell(row, name);
      return !cell || looks_like_number(*cell);
    });
    std::string title = clean(same == 1 ? last : name);
    std::ranges::transform(title, title.begin(), [](char c) {
      return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    });
    columns.push_back({std::move(title), right});
  }
  Table table(std::move(columns));
  for (const Row& row : rows) {
    std::vector<std::string> cells;
    for (const std::string& name : names) {
      const std::string* cell = find_cell(row, name);
      cells.push_back(cell ? *cell : "");
    }
    table.add(std::move(cells));
  }
  return table;
}

void append_entry(std::string& out, const JsonValue& value, const std::string& indent);

void append_member(std::string& out, std::string_view name, const JsonValue& value,
                   const std::string& indent) {
  const bool empty = (value.is_array() && value.as_array()->empty()) ||
                     (value.is_object() && value.as_object()->empty());
  if (is_scalar(value) || empty) {
    const int64_t* number = value.as_int64();
    const bool size = number && *number >= 1024 && is_size(name);
    out += fmt::format("{}: {}", clean(name), empty ? "(none)" : show_scalar(value));
    out += size ? fmt::format(" ({})\n", format_size(static_cast<uint64_t>(*number))) : "\n";
    return;
  }
  out += clean(name) + ":\n";
  append_entry(out, value, indent + "  ");
}

// An object or a list over several lines. The first line continues where `out` ends when `first`
// says so.
void append_object(std::string& out, const JsonObject& object, const std::string& indent,
                   bool continued) {
  for (const auto& [name, value] : object) {
    out += continued ? "" : indent;
    continued = false;
    append_member(out, name, value, indent);
  }
}

void append_entry(std::string& out, const JsonValue& value, const std::string& indent) {
  if (const auto* object = value.as_object()) {
    append_object(out, *object, indent, false);
  } else if (const auto* array = value.as_array()) {
    for (const JsonValue& element : *array) {
      out += indent + "- ";
      const auto* inner = element.as_object();
      if (inner && !inner->empty()) {
        append_object(out, *inner, indent + "  ", true);
      } else if (element.is_array()) {
        out += '\n';
        append_entry(out, element, indent + "  ");
      } else {
        out += inner ? "(none)\n" : show_scalar(element) + "\n";
      }
    }
  } else {
    out += indent + show_scalar(value) + "\n";
  }
}

std::string show_objects(const JsonArray& array, std::string_view command, const Style& style,
                         bool all) {
  std::vector<Row> rows;
  std::vector<std::string> names;
  bool complete = true;
  for (const JsonValue& element : array) {
    Row& row = rows.emplace_back();
    complete = flatten(*element.as_object(), "", row) && complete;
    for (const auto& [name, cell] : row) {
      if (std::ranges::find(names, name) == names.end()) {
        names.push_back(name);
      }
    }
  }
  const auto fits = [&](const Table& table) {
    return style.width == 0 || table.width() <= style.width;
  };
  if (complete && names.size() <= 24) {
    const Table table = make_table(rows, names);
    if (fits(table)) {
      return table.text(style);
    }
  }
  const auto preferred = std::ranges::find(preferences(), command, &Preference::command);
  if (!all && preferred != preferences().end()) {
    std::vector<std::string> chosen;
    for (const std::string_view name : preferred->columns) {
      if (std::ranges::find(names, name) != names.end()) {
        chosen.emplace_back(name);
      }
    }
    return make_table(rows, chosen).text(style);
  }
  std::string result;
  append_entry(result, array, "");
  return result;
}

}  // namespace

std::string show_scalar(const JsonValue& value) {
  if (const std::string* text = value.as_string()) {
    return clean(*text);
  }
  if (const bool* flag = value.as_bool()) {
    return *flag ? "yes" : "no";
  }
  return value.is_null() ? "-" : schema::to_text(value);
}

std::string show(const JsonValue& value, std::string_view command, const Style& style, bool all) {
  if (const auto* object = value.as_object()) {
    std::string result;
    append_object(result, *object, "", false);
    return result;
  }
  const auto* array = value.as_array();
  if (!array) {
    return show_scalar(value) + "\n";
  }
  if (array->empty()) {
    return "(none)\n";
  }
  if (std::ranges::all_of(*array, &JsonValue::is_object)) {
    return show_objects(*array, command, style, all);
  }
  std::string result;
  for (const JsonValue& element : *array) {
    if (is_scalar(element)) {
      result += show_scalar(element) + "\n";
    } else {
      append_entry(result, JsonArray{element}, "");
    }
  }
  return result;
}

}  // namespace cairn::ctl
