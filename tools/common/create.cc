#include "tools/common/create.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "block/create_file.h"
#include "block/filename.h"
#include "block/graph.h"
#include "block/nbd_filename.h"
#include "protocols/file/create.h"

namespace cairn::tools {
namespace {

using block::CreateOptionInfo;

std::string_view type_name(CreateOptionInfo::Type type) {
  switch (type) {
    case CreateOptionInfo::Type::kString:
      return "str";
    case CreateOptionInfo::Type::kBool:
      return "bool (on/off)";
    case CreateOptionInfo::Type::kNumber:
      return "num";
    case CreateOptionInfo::Type::kSize:
      return "size";
  }
  return "";
}

// The parts of a list, with commas that are doubled in a value made single again.
std::vector<std::string> split(std::string_view list) {
  std::vector<std::string> parts(1);
  for (size_t i = 0; i < list.size(); ++i) {
    if (list[i] != ',') {
      parts.back().push_back(list[i]);
    } else if (list.substr(i).starts_with(",,") && parts.back().find('=') != std::string::npos) {
      parts.back().push_back(',');
      ++i;
    } else {
      parts.emplace_back();
    }
  }
  return parts;
}

}  // namespace

Result<CreationTable> CreationTable::find(const block::DriverTable& drivers,
                                          std::string_view format, std::string_view filename) {
  CreationTable table;
  table.format_ = drivers.find(format);
  if (table.format_ == nullptr) {
    return fail(ENOENT, "Unknown file format '{}'", format);
  }
  const std::string_view protocol_name = block::protocol_name(filename);
  const block::DriverInfo* protocol = drivers.find(protocol_name);
  if (filename.starts_with(':')) {
    return fail(ENOENT, "Unknown protocol ''");
  }
  if (protocol == nullptr || protocol->kind != block::DriverInfo::Kind::kProtocol) {
    return fail(ENOENT, "Unknown protocol '{}'", protocol_name);
  }
  if (table.format_->create == nullptr) {
    return fail(ENOTSUP, "Format driver '{}' does not support image creation", format);
  }
  std::error_code failed;
  if (protocol_name == "host_device" &&
      std::filesystem::is_regular_file(creation_path(filename), failed)) {
    return fail(ENOTSUP,
                "Protocol driver 'host_device' does not support image creation, and opening the "
                "image failed: 'host_device' driver requires '{}' to be either a character or "
                "block device",
                creation_path(filename));
  }
  if (protocol->create == nullptr) {
    return fail(ENOTSUP, "Protocol driver '{}' does not support image creation", protocol_name);
  }
  const auto own = table.format_->create_options;
  table.options_.assign(own.begin(), own.end());
  for (const CreateOptionInfo& option : protocol->create_options) {
    if (!table.has(option.name)) {
      table.options_.push_back(option);
    }
  }
  return table;
}

bool CreationTable::has(std::string_view option) const {
  return std::ranges::find(options_, option, &CreateOptionInfo::name) != options_.end();
}

Result<void> append_option_list(std::string& list, std::string_view more) {
  const size_t last = more.find_last_not_of(',');
  const size_t commas_behind = last == more.npos ? more.size() : more.size() - 1 - last;
  if (more.empty() || more.starts_with(',') || commas_behind % 2 != 0) {
    return fail(EINVAL, "Invalid option list: {}", more);
  }
  list.append(list.empty() ? "" : ",").append(more);
  return {};
}

bool asks_for_help(std::string_view list) {
  // What stands before a comma that is doubled counts, too, at the beginning of a part.
  for (size_t begin = 0; begin <= list.size();) {
    const std::string_view rest = list.substr(begin);
    const std::string_view word = rest.substr(0, rest.find(','));
    if (word == "help" || word == "?") {
      return true;
    }
    size_t comma = rest.find(',');
    while (comma != rest.npos && rest.substr(comma).starts_with(",,")) {
      comma = rest.find(',', comma + 2);
    }
    if (comma == rest.npos) {
      break;
    }
    begin += comma + 1;
  }
  return false;
}

Result<void> parse_option_list(std::string_view list, block::CreateOptions& options) {
  if (list.empty()) {
    return {};
  }
  for (const std::string& part : split(list)) {
    const size_t equals = part.find('=');
    const std::string_view whole(part);
    const std::string_view value = equals == part.npos ? "on" : whole.substr(equals + 1);
    if (auto set = options.set(whole.substr(0, equals), value); !set) {
      return set;
    }
  }
  return {};
}

void print_options(std::vector<CreateOptionInfo> options) {
  std::ranges::sort(options, {}, &CreateOptionInfo::name);
  for (const CreateOptionInfo& option : options) {
    if (option.help.empty()) {
      continue;  // for those who have read about it
    }
    const std::string left = fmt::format("{}=<{}>", option.name, type_name(option.type));
    fmt::print("  {:<22} - {}\n", left, option.help);
  }
}

Result<void> print_creation_help(const block::DriverTable& drivers, std::string_view format,
                                 std::string_view filename) {
  const Result<CreationTable> table = CreationTable::find(drivers, format, filename);
  if (!table) {
    return std::unexpected(table.error());
  }
  if (!filename.empty()) {
    fmt::print("Supported options:\n");
    print_options(table->options());
    return {};
  }
  const auto own = table->format().create_options;
  fmt::print("Supported {} options:\n", format);
  print_options({own.begin(), own.end()});
  fmt::print(
      "\nThe protocol level may support further options.\n"
      "Specify the target filename to include those options.\n");
  return {};
}

Result<void> check_secrets(const block::Graph& graph, const block::CreateOptions& options) {
  for (const CreateOptionInfo& info : options.table()) {
    if (!info.name.ends_with("key-secret") || !options.has(info.name)) {
      continue;
    }
    if (auto secret = graph.find_secret(*options.string(info.name)); !secret) {
      return std::unexpected(secret.error());
    }
  }
  return {};
}

std::string creation_path(std::string_view filename) {
  const std::string_view prefix = block::protocol_prefix(filename);
  const bool is_path = prefix == "file" || prefix == "host_device";
  const std::string path(is_path ? filename.substr(prefix.size() + 1) : filename);
  // A file may be called like an export.
  return is_path && block::is_nbd_filename(path) ? "./" + path : path;
}

Error creation_failure(const CreationTable& table, const std::string& path, Error error) {
  // These look at their options when they have their file.
  const bool is_file = block::creation_protocol(path) == "file";
  if (is_file && (table.format().name == "qcow2" || table.format().name == "luks")) {
    if (Result<void> possible = file::check_creation(path); !possible) {
      return std::move(possible.error());
    }
  }
  if (error.code() != EFBIG) {
    return error;
  }
  return Error(
      EFBIG, fmt::format("The image size is too large for file format '{}'{}", table.format().name,
                         table.has("cluster_size") ? " (try using a larger cluster size)" : ""));
}

}  // namespace cairn::tools
