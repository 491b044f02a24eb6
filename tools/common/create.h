// Creating images from command line options: for the subcommands create and convert.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "block/create_options.h"
#include "block/driver_table.h"

namespace cairn::block {
class Graph;
}

namespace cairn::tools {

// What an image of a format on top of a protocol can be created with.
class CreationTable {
 public:
  // Finds the drivers; fails when the format is unknown or can not be created.
  [[nodiscard]] static Result<CreationTable> find(const block::DriverTable& drivers,
                                                  std::string_view format,
                                                  std::string_view filename);
  CreationTable(CreationTable&&) = default;

  [[nodiscard]] const block::DriverInfo& format() const { return *format_; }
  // The format's options, then those of the protocol that the format does not have.
  [[nodiscard]] const std::vector<block::CreateOptionInfo>& options() const { return options_; }
  [[nodiscard]] bool has(std::string_view option) const;

 private:
  CreationTable() = default;
  const block::DriverInfo* format_ = nullptr;
  std::vector<block::CreateOptionInfo> options_;
};

// Collects the values of several -o into one list. EINVAL for an empty list or one with an empty
// part at its start or end.
[[nodiscard]] Result<void> append_option_list(std::string& list, std::string_view more);

// "help" or "?" is one of the parts.
[[nodiscard]] bool asks_for_help(std::string_view list);

// Reads "name=value,name=value" into `options`. A comma inside a value is written twice.
[[nodiscard]] Result<void> parse_option_list(std::string_view list, block::CreateOptions& options);

// Prints a line for each option that has a help text.
void print_options(std::vector<block::CreateOptionInfo> options);

// What "-o help" prints: for an image at `filename`, or without one for the format alone. Fails
// like CreationTable::find().
[[nodiscard]] Result<void> print_creation_help(const block::DriverTable& drivers,
                                               std::string_view format, std::string_view filename);

// The secrets that options name are there.
[[nodiscard]] Result<void> check_secrets(const block::Graph& graph,
                                         const block::CreateOptions& options);

// What a driver is to create for `filename`: the path, without "file:" before it.
[[nodiscard]] std::string creation_path(std::string_view filename);

// The words for a failed creation at `path`: what is wrong with the file comes before what is wrong
// with the options of its format, and an image that its format can not hold has its own.
[[nodiscard]] Error creation_failure(const CreationTable& table, const std::string& path,
                                     Error error);

}  // namespace cairn::tools
