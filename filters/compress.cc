// Only whole clusters can be compressed: the filter asks for requests of these, and the choke point
// reads what is missing around a smaller one. The last cluster of an image may be short.
#include "filters/compress.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>
#include <variant>

#include "block/graph.h"
#include "filters/filter_driver.h"
#include "schema/types_block_options.h"

namespace cairn::filters {

namespace {

// The node that stores what is written to `node`: it, or the one below the filters it stands for.
const block::Node& storage_of(const block::Node& node) {
  const block::Node* found = &node;
  while (found->info().kind == block::DriverInfo::Kind::kFilter && found->backing() != nullptr) {
    found = &found->backing()->node();
  }
  return *found;
}

bool can_compress(const block::Node& node) {
  auto* format = storage_of(node).driver().as_translating();
  return format != nullptr && format->encoder() != nullptr;
}

class CompressDriver final : public FilterDriver {
 public:
  using FilterDriver::FilterDriver;

  block::Limits limits() const override {
    return {.request_alignment = std::max(cluster_size(), 1U), .native_fua = true};
  }

  io::Task<Result<void>> read(uint64_t offset, io::IoVector data) override {
    return offset + data.size() <= length() ? FilterDriver::read(offset, std::move(data))
                                            : read_last(offset, std::move(data));
  }

  io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                               block::WriteFlags flags) override {
    flags.compressed = true;
    if (offset + data.size() > length()) {
      data = data.slice(0, length() - offset);
    }
    return FilterDriver::write(offset, std::move(data), flags);
  }

 private:
  io::Task<Result<void>> read_last(uint64_t offset, io::IoVector data) {
    const uint64_t present = length() - offset;
    data.fill(std::byte{0}, present, data.size() - present);
    io::IoVector inside = data.slice(0, present);
    co_return co_await FilterDriver::read(offset, std::move(inside));
  }
};

// `options` lives until the graph has opened the node.
io::Task<Result<std::unique_ptr<block::Driver>>> open_compress(
    block::OpenContext& context, const schema::BlockdevOptions& options) {
  const auto& own = std::get<schema::BlockdevOptionsGenericFormat>(options.branch);
  const Result<block::Edge*> file =
      co_await context.open_child("file", own.file, block::ChildRole::kFiltered);
  if (!file) {
    co_return std::unexpected(file.error());
  }
  if (!can_compress((*file)->node())) {
    co_return fail(ENOTSUP, "Compression is not supported for underlying format: {}",
                   (*file)->node().info().name);
  }
  co_return std::make_unique<CompressDriver>(**file);
}

}  // namespace

const block::DriverInfo kCompressDriver = {
    .name = "compress",
    .kind = block::DriverInfo::Kind::kFilter,
    .open = open_compress,
    .can_reopen = false,
};

}  // namespace cairn::filters
