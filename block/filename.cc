#include "block/filename.h"

#include <sys/stat.h>

#include <cerrno>

#include "schema/types_block_options.h"

namespace cairn::block {
namespace {

constexpr std::string_view kJson = "json:";

}  // namespace

bool is_json_filename(std::string_view filename) { return filename.starts_with(kJson); }

std::string_view protocol_prefix(std::string_view filename) {
  const auto end = filename.find_first_of(":/");
  if (end == std::string_view::npos || filename[end] == '/') {
    return {};
  }
  return filename.substr(0, end);
}

Result<schema::BlockdevOptions> parse_filename(std::string_view filename) {
  if (is_json_filename(filename)) {
    return fail(ENOTSUP, "Image descriptions in JSON are not supported yet: '{}'", filename);
  }
  const std::string_view protocol = protocol_prefix(filename);
  std::string path(filename);
  if (protocol == "file" || protocol == "host_device") {
    path.erase(0, protocol.size() + 1);
  } else if (!protocol.empty()) {
    return fail(ENOENT, "Unknown protocol '{}'", protocol);
  }
  struct stat found{};
  const bool device =
      stat(path.c_str(), &found) == 0 && (S_ISBLK(found.st_mode) || S_ISCHR(found.st_mode));
  schema::BlockdevOptions options;
  options.driver = device || protocol == "host_device" ? schema::BlockdevDriver::kHostDevice
                                                       : schema::BlockdevDriver::kFile;
  schema::BlockdevOptionsFile branch;
  branch.filename = std::move(path);
  options.branch = std::move(branch);
  return options;
}

std::string resolve_relative(std::string_view base, std::string_view filename) {
  if (filename.starts_with('/') || !protocol_prefix(filename).empty() || is_json_filename(base)) {
    return std::string(filename);
  }
  const auto slash = base.rfind('/');
  if (slash == std::string_view::npos) {
    return std::string(filename);
  }
  return std::string(base.substr(0, slash + 1)).append(filename);
}

}  // namespace cairn::block
