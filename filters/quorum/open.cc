// quorum's entry in the driver table.
#include <cerrno>
#include <memory>
#include <utility>
#include <variant>

#include "block/graph.h"
#include "filters/quorum/quorum.h"
#include "filters/quorum/quorum_driver.h"
#include "schema/types_block_options.h"

namespace cairn::filters::quorum {

namespace {

Result<QuorumDriver::Settings> parse_settings(const schema::BlockdevOptionsQuorum& options) {
  const std::size_t children = options.children.size();
  if (children == 0) {
    return fail(EINVAL, "Number of provided children must be 1 or more");
  }
  if (options.vote_threshold < 1) {
    return fail(ERANGE, "Parameter 'vote-threshold' expects a value >= 1");
  }
  if (static_cast<uint64_t>(options.vote_threshold) > children) {
    return fail(ERANGE, "threshold may not exceed children count");
  }
  QuorumDriver::Settings settings{
      .threshold = static_cast<std::size_t>(options.vote_threshold),
      .first_only = options.read_pattern == schema::QuorumReadPattern::kFifo};
  if (settings.first_only) {
    return settings;  // nothing to compare, and nothing to mend
  }
  settings.end_on_difference = options.blkverify.value_or(false);
  if (settings.end_on_difference && (children != 2 || settings.threshold != 2)) {
    return fail(EINVAL,
                "blkverify=on can only be set if there are exactly two files and vote-threshold "
                "is 2");
  }
  settings.rewrite = options.rewrite_corrupted.value_or(false);
  if (settings.rewrite && settings.end_on_difference) {
    return fail(EINVAL, "rewrite-corrupted=on cannot be used with blkverify=on");
  }
  return settings;
}

// `options` lives until the graph has opened the node.
io::Task<Result<std::unique_ptr<block::Driver>>> open(block::OpenContext& context,
                                                      const schema::BlockdevOptions& all_options) {
  const auto& options = std::get<schema::BlockdevOptionsQuorum>(all_options.branch);
  const Result<QuorumDriver::Settings> settings = parse_settings(options);
  if (!settings) {
    co_return std::unexpected(settings.error());
  }
  std::size_t index = 0;
  for (const schema::BlockdevRef& ref : options.children) {
    std::string name = fmt::format("children.{}", index++);
    const Result<block::Edge*> child =
        co_await context.open_child(std::move(name), ref, block::ChildRole::kData);
    if (!child) {
      co_return std::unexpected(child.error());
    }
  }
  block::Node& node = context.node();
  for (const auto& child : node.children()) {
    if (child->length() != node.children().front()->length()) {
      co_return fail_errno(EIO, "Could not refresh total sector count");
    }
  }
  co_return std::make_unique<QuorumDriver>(node, *settings);
}

}  // namespace

}  // namespace cairn::filters::quorum

namespace cairn::filters {

const block::DriverInfo kQuorumDriver = {
    .name = "quorum",
    .kind = block::DriverInfo::Kind::kFormat,
    .open = quorum::open,
    .can_reopen = false,
};

}  // namespace cairn::filters
