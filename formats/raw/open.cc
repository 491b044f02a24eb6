// The raw format's entry in the driver table: opening and creating.
#include <cerrno>
#include <memory>
#include <string_view>
#include <utility>
#include <variant>

#include "base/bytes.h"
#include "block/create_file.h"
#include "block/create_options.h"
#include "block/graph.h"
#include "formats/raw/probed_raw_driver.h"
#include "formats/raw/raw.h"
#include "formats/raw/raw_driver.h"
#include "schema/types_block_options.h"

namespace cairn::raw {

namespace {

using Opened = Result<std::unique_ptr<block::Driver>>;

// `options` lives until the graph has opened the node.
io::Task<Opened> open(block::OpenContext& context, const schema::BlockdevOptions& options) {
  const auto& raw = std::get<schema::BlockdevOptionsRaw>(options.branch);
  const Result<block::Edge*> file =
      co_await context.open_child("file", raw.file, block::ChildRole::kFiltered);
  if (!file) {
    co_return std::unexpected(file.error());
  }
  const Result<RawWindow> window = RawWindow::create(raw, (*file)->length());
  if (!window) {
    co_return std::unexpected(window.error());
  }
  if (context.flags().probed && context.writable()) {
    co_return std::make_unique<ProbedRawDriver>(**file, *window, context.graph().drivers());
  }
  co_return std::make_unique<RawDriver>(**file, *window);
}

// Everything is a raw image, but anything else is more likely.
int probe(std::span<const std::byte> /*head*/, std::string_view /*filename*/) { return 1; }

constexpr block::CreateOptionInfo kCreateOptions[] = {
    {.name = "size", .type = block::CreateOptionInfo::Type::kSize, .help = "Virtual disk size"},
};

// A raw image is its file, or its export.
io::Task<Result<void>> create(block::Graph& graph, std::string filename,
                              const block::CreateOptions& options) {
  const block::DriverInfo* protocol = graph.drivers().find(block::creation_protocol(filename));
  if (protocol == nullptr || protocol->create == nullptr) {
    return [](std::string name) -> io::Task<Result<void>> {
      co_return fail(ENOTSUP, "This build can not create the file '{}'", name);
    }(std::move(filename));
  }
  return protocol->create(graph, std::move(filename), options);
}

// A raw image can have holes, but nobody promises that it gets them.
io::Task<Result<block::MeasuredSize>> measure(const block::CreateOptions& options,
                                              block::Edge* /*source*/) {
  constexpr uint64_t kSector = 512;
  const auto size = checked_align_up(options.number("size").value_or(0), kSector);
  if (!size) {
    co_return fail(EFBIG, "The image size is too large for file format 'raw'");
  }
  co_return block::MeasuredSize{.required = *size, .fully_allocated = *size, .bitmaps = {}};
}

constexpr std::string_view kReopenOptions[] = {"offset", "size"};

}  // namespace

const block::DriverInfo kRawDriver = {
    .name = "raw",
    .kind = block::DriverInfo::Kind::kFormat,
    .open = open,
    .probe = probe,
    .create_options = kCreateOptions,
    .create = create,
    .measure = measure,
    .reopen_options = kReopenOptions,
};

}  // namespace cairn::raw
