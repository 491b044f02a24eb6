#include "block/filename.h"

#include <sys/stat.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "block/nbd_filename.h"
#include "schema/json_stream.h"
#include "schema/visit_block_options.h"

namespace cairn::block {
namespace {

constexpr std::string_view kJson = "json:";

// Descriptions are written by programs with typed values, and by people with everything quoted.
Result<schema::BlockdevOptions> parse_description(std::string_view text) {
  const Result<schema::JsonValue> value = schema::parse_json(text);
  if (!value) {
    return fail(EINVAL, "Could not parse the JSON options: {}", value.error().message());
  }
  if (!value->is_object()) {
    return fail(EINVAL, "Invalid JSON object given");
  }
  schema::BlockdevOptions options;
  schema::Reading typed{.form = schema::InputForm::kJson, .error = {}};
  if (schema::read(schema::Input(typed, *value), options)) {
    return options;
  }
  schema::Reading quoted{.form = schema::InputForm::kKeyval, .error = {}};
  if (schema::read(schema::Input(quoted, *value), options)) {
    return options;
  }
  return std::unexpected(std::move(*typed.error));
}

// "NAME:FIRST:REST": the two parts; nothing for any other filename.
std::optional<std::pair<std::string_view, std::string_view>> two_parts(std::string_view filename) {
  const std::size_t first = filename.find(':');
  const std::size_t second = filename.find(':', first + 1);
  if (second == filename.npos) {
    return std::nullopt;
  }
  return std::pair(filename.substr(first + 1, second - first - 1), filename.substr(second + 1));
}

Result<schema::BlockdevRef> parse_child(std::string_view filename) {
  Result<schema::BlockdevOptions> options = parse_filename(filename);
  if (!options) {
    return pass(options);
  }
  schema::BlockdevRef child;
  child.value = schema::Box<schema::BlockdevOptions>(std::move(*options));
  return child;
}

// "blkdebug:CONFIG:IMAGE"; there may be no CONFIG.
Result<schema::BlockdevOptions> parse_blkdebug(std::string_view filename) {
  const auto parts = two_parts(filename);
  if (!parts) {
    return fail(EINVAL, "blkdebug requires both config file and image path");
  }
  Result<schema::BlockdevRef> image = parse_child(parts->second);
  if (!image) {
    return pass(image);
  }
  schema::BlockdevOptionsBlkdebug branch;
  branch.image = std::move(*image);
  if (!parts->first.empty()) {
    branch.config = std::string(parts->first);
  }
  schema::BlockdevOptions options;
  options.driver = schema::BlockdevDriver::kBlkdebug;
  options.branch = std::move(branch);
  return options;
}

// "blkverify:RAW:TEST".
Result<schema::BlockdevOptions> parse_blkverify(std::string_view filename) {
  const auto parts = two_parts(filename);
  if (!parts) {
    return fail(EINVAL, "blkverify requires raw copy and original image path");
  }
  Result<schema::BlockdevRef> raw = parse_child(parts->first);
  Result<schema::BlockdevRef> test = raw ? parse_child(parts->second) : pass(raw);
  if (!test) {
    return pass(test);
  }
  schema::BlockdevOptionsBlkverify branch;
  branch.raw = std::move(*raw);
  branch.test = std::move(*test);
  schema::BlockdevOptions options;
  options.driver = schema::BlockdevDriver::kBlkverify;
  options.branch = std::move(branch);
  return options;
}

// The file at `path`, or the device that is there.
schema::BlockdevOptions path_options(std::string path, bool device) {
  struct stat found{};
  device = device ||
           (stat(path.c_str(), &found) == 0 && (S_ISBLK(found.st_mode) || S_ISCHR(found.st_mode)));
  schema::BlockdevOptionsFile branch;
  branch.filename = std::move(path);
  schema::BlockdevOptions options;
  options.driver = device ? schema::BlockdevDriver::kHostDevice : schema::BlockdevDriver::kFile;
  options.branch = std::move(branch);
  return options;
}

// "null-co://" has nothing to say but that.
Result<schema::BlockdevOptions> parse_null(std::string_view driver, std::string_view filename) {
  if (!filename.starts_with(driver) || filename.substr(driver.size()) != "://") {
    return fail(EINVAL, "The only allowed filename for this driver is '{}://'", driver);
  }
  schema::BlockdevOptions options;
  options.driver =
      driver == "null-co" ? schema::BlockdevDriver::kNullCo : schema::BlockdevDriver::kNullAio;
  options.branch = schema::BlockdevOptionsNull();
  return options;
}

}  // namespace

bool is_json_filename(std::string_view filename) { return filename.starts_with(kJson); }

std::string_view protocol_prefix(std::string_view filename) {
  const auto end = filename.find_first_of(":/");
  if (end == std::string_view::npos || filename[end] == '/') {
    return {};
  }
  return filename.substr(0, end);
}

std::string_view protocol_name(std::string_view filename) {
  if (is_nbd_filename(filename)) {
    return "nbd";
  }
  const std::string_view prefix = protocol_prefix(filename);
  return prefix.empty() ? "file" : prefix;
}

Result<schema::BlockdevOptions> parse_filename(std::string_view filename) {
  if (is_json_filename(filename)) {
    return parse_description(filename.substr(kJson.size()));
  }
  if (is_nbd_filename(filename)) {
    Result<schema::BlockdevOptionsNbd> nbd = parse_nbd_filename(filename);
    if (!nbd) {
      return pass(nbd);
    }
    schema::BlockdevOptions options;
    options.driver = schema::BlockdevDriver::kNbd;
    options.branch = std::move(*nbd);
    return options;
  }
  const std::string_view protocol = protocol_prefix(filename);
  if (protocol == "blkdebug") {
    return parse_blkdebug(filename);
  }
  if (protocol == "blkverify") {
    return parse_blkverify(filename);
  }
  if (protocol == "null-co" || protocol == "null-aio") {
    return parse_null(protocol, filename);
  }
  if (protocol == "file" || protocol == "host_device") {
    return path_options(std::string(filename.substr(protocol.size() + 1)),
                        protocol == "host_device");
  }
  if (!protocol.empty() || filename.starts_with(':')) {
    return fail(ENOENT, "Unknown protocol '{}'", protocol);
  }
  return path_options(std::string(filename), false);
}

Result<schema::BlockdevOptions> parse_filename_for(std::string_view driver,
                                                   std::string_view filename) {
  const bool prefixed = protocol_prefix(filename) == driver;
  if (driver == "null-co" || driver == "null-aio") {
    return parse_null(driver, filename);
  }
  if (driver == "file" || driver == "host_device") {
    // Whatever else it looks like, it is a path.
    return path_options(std::string(filename.substr(prefixed ? driver.size() + 1 : 0)),
                        driver == "host_device");
  }
  if (driver == "nbd" && !is_nbd_filename(filename)) {
    return fail(EINVAL, "File name string for NBD must start with 'nbd:'");
  }
  if (driver == "blkdebug" && !prefixed) {
    return parse_blkdebug(std::string("blkdebug::").append(filename));
  }
  if (driver == "blkverify" && !prefixed) {
    return fail(EINVAL, "A block device must be specified for \"raw\"");
  }
  if (driver == "blklogwrites") {
    return fail(EINVAL, "A block device must be specified for \"log\"");
  }
  if (driver == "blkreplay" || driver == "chaos") {
    return fail(EINVAL, "A block device must be specified for \"image\"");
  }
  return parse_filename(filename);
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
