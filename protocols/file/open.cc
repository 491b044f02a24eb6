// The entries of file and host_device in the driver table.
#include <cerrno>
#include <memory>
#include <string_view>
#include <utility>
#include <variant>

#include "block/create_options.h"
#include "block/graph.h"
#include "protocols/file/create.h"
#include "protocols/file/file.h"
#include "protocols/file/host_file.h"
#include "schema/types_block_options.h"

namespace cairn::file {

namespace {

using Opened = Result<std::unique_ptr<block::Driver>>;
using Type = block::CreateOptionInfo::Type;

Locking locking_of(const schema::BlockdevOptionsFile& options) {
  switch (options.locking.value_or(schema::OnOffAuto::kAuto)) {
    case schema::OnOffAuto::kOn:
      return Locking::kOn;
    case schema::OnOffAuto::kOff:
      return Locking::kOff;
    case schema::OnOffAuto::kAuto:
      break;
  }
  return Locking::kAuto;
}

Opened open_host_file(block::OpenContext& context, const schema::BlockdevOptions& options,
                      bool device) {
  const auto& file = std::get<schema::BlockdevOptionsFile>(options.branch);
  const block::NodeOptions& node = context.node().options();
  if (file.filename.empty()) {
    return fail(EINVAL, "The '{}' block driver requires a file name",
                device ? "host_device" : "file");
  }
  if (auto possible = check_aio(file, node.cache_direct); !possible) {
    return pass(possible);
  }
  context.node().set_filename(file.filename);
  auto opened = HostFile::open({.path = file.filename,
                                .device = device,
                                .writable = context.writable(),
                                .open_on_demand = node.auto_read_only,
                                .direct = node.cache_direct,
                                .force_share = node.force_share,
                                .locking = locking_of(file)});
  if (!opened) {
    return pass(opened);
  }
  return std::move(*opened);
}

// `options` lives until the graph has opened the node.
io::Task<Opened> open_file(block::OpenContext& context, const schema::BlockdevOptions& options) {
  co_return open_host_file(context, options, false);
}

io::Task<Opened> open_device(block::OpenContext& context, const schema::BlockdevOptions& options) {
  co_return open_host_file(context, options, true);
}

constexpr block::CreateOptionInfo kFileCreateOptions[] = {
    {.name = "size", .type = Type::kSize, .help = "Virtual disk size"},
    {.name = "nocow", .type = Type::kBool, .help = "Turn off copy-on-write (valid only on btrfs)"},
    {.name = "preallocation",
     .type = Type::kString,
     .help = "Preallocation mode (allowed values: off, falloc, full)"},
    {.name = "extent_size_hint",
     .type = Type::kSize,
     .help = "Extent size hint for the image file, 0 to disable"},
};

constexpr block::CreateOptionInfo kDeviceCreateOptions[] = {
    {.name = "size", .type = Type::kSize, .help = "Virtual disk size"},
};

constexpr std::string_view kReopenOptions[] = {"drop-cache"};

}  // namespace

const block::DriverInfo kFileDriver = {
    .name = "file",
    .kind = block::DriverInfo::Kind::kProtocol,
    .open = open_file,
    .create_options = kFileCreateOptions,
    .create = create_from_options,
    .reopen_options = kReopenOptions,
};

const block::DriverInfo kHostDeviceDriver = {
    .name = "host_device",
    .kind = block::DriverInfo::Kind::kProtocol,
    .open = open_device,
    .create_options = kDeviceCreateOptions,
    .create = create_from_options,
    .reopen_options = kReopenOptions,
};

}  // namespace cairn::file
