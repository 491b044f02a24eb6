// The LUKS format's entry in the driver table, and opening.
#include <cerrno>
#include <memory>
#include <string_view>
#include <utility>
#include <variant>

#include "block/graph.h"
#include "formats/encryption/luks1_header.h"
#include "formats/encryption/luks2_header.h"
#include "formats/luks/create.h"
#include "formats/luks/luks.h"
#include "formats/luks/luks_driver.h"
#include "schema/types_block_options.h"

namespace cairn::luks {
namespace {

using Opened = Result<std::unique_ptr<block::Driver>>;

// `options` lives until the graph has opened the node.
io::Task<Opened> open(block::OpenContext& context, const schema::BlockdevOptions& options) {
  const auto& luks = std::get<schema::BlockdevOptionsLUKS>(options.branch);
  const bool detached = luks.header.has_value();
  const auto role = detached ? block::ChildRole::kData : block::ChildRole::kImage;
  const Result<block::Edge*> file = co_await context.open_child("file", luks.file, role);
  if (!file) {
    co_return std::unexpected(file.error());
  }
  block::Edge* header = *file;
  if (detached) {
    Result<block::Edge*> opened =
        co_await context.open_child("header", *luks.header, block::ChildRole::kMetadata);
    if (!opened) {
      co_return pass(opened);
    }
    header = *opened;
  }
  encryption::LuksOpening opening{.graph = &context.graph(),
                                  .secret = luks.key_secret,
                                  .prefix = "",
                                  .without_key = context.flags().no_io,
                                  .detached = detached,
                                  .numbering = encryption::Numbering::kGuestOffset};
  const encryption::HeaderArea area{.file = header};
  auto volume = co_await encryption::open_luks(area, std::move(opening));
  if (!volume) {
    co_return pass(volume);
  }
  if ((*volume)->payload_offset() > (*file)->length()) {
    co_return fail_errno(EIO, "Could not refresh total sector count");
  }
  co_return std::make_unique<LuksDriver>(**file, std::move(*volume));
}

int probe(std::span<const std::byte> head, std::string_view /*filename*/) {
  constexpr int kCertain = 100;
  const unsigned version = encryption::luks_version(head);
  const bool known = version == 1 || (version == 2 && encryption::luks2_header_follows(head));
  return known ? kCertain : 0;
}

}  // namespace

const block::DriverInfo kLuksDriver = {
    .name = "luks",
    .kind = block::DriverInfo::Kind::kFormat,
    .open = open,
    .probe = probe,
    .create_options = create_option_table(),
    .create = create_volume,
    .create_on = create_volume_on,
    .measure = measure_volume,
    .amend_options = amend_option_table(),
};

}  // namespace cairn::luks
