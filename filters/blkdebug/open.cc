// blkdebug's entry in the driver table: from options to rules, limits and permissions.
#include <algorithm>
#include <bit>
#include <cerrno>
#include <climits>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "block/filename.h"
#include "block/graph.h"
#include "filters/blkdebug/blkdebug.h"
#include "filters/blkdebug/blkdebug_driver.h"
#include "filters/blkdebug/rule_file.h"
#include "schema/types_block_options.h"

namespace cairn::filters::blkdebug {

namespace {

using Opened = Result<std::unique_ptr<block::Driver>>;
using Permission = block::PermissionSet;

// Both lists have the same order.
static_assert(static_cast<int>(schema::BlkdebugEvent::kNone) ==
              static_cast<int>(block::FaultPoint::kNone));
static_assert(static_cast<int>(schema::BlkdebugEvent::kClusterAllocSpace) ==
              static_cast<int>(block::FaultPoint::kClusterAllocSpace));
static_assert(static_cast<int>(schema::BlkdebugEvent::kPwritevDone) ==
              static_cast<int>(block::FaultPoint::kPwritevDone));
static_assert(static_cast<int>(schema::BlkdebugEvent::kReftableLoad) ==
              static_cast<int>(block::FaultPoint::kReftableLoad));
static_assert(static_cast<int>(schema::BlkdebugIOType::kBlockStatus) ==
              static_cast<int>(RequestKind::kBlockStatus));

void add_rules(const schema::BlockdevOptionsBlkdebug& options, Rules& rules) {
  if (options.inject_error) {
    for (const schema::BlkdebugInjectErrorOptions& given : *options.inject_error) {
      ErrorRule rule{.state = given.state.value_or(0),
                     .error = static_cast<int>(given.errno_.value_or(EIO)),
                     .sector = given.sector.value_or(-1),
                     .once = given.once.value_or(false),
                     .immediately = given.immediately.value_or(false)};
      if (given.iotype) {
        rule.kind = static_cast<RequestKind>(*given.iotype);
      }
      rules.add(static_cast<block::FaultPoint>(given.event), rule);
    }
  }
  if (options.set_state) {
    for (const schema::BlkdebugSetStateOptions& given : *options.set_state) {
      rules.add(static_cast<block::FaultPoint>(given.event),
                StateRule{.state = given.state.value_or(0), .new_state = given.new_state});
    }
  }
}

// A size that is a multiple of `unit`; 0 when it is not given.
Result<uint32_t> size_option(std::string_view name, std::optional<int32_t> given, uint32_t unit) {
  const int32_t value = given.value_or(0);
  if (value < 0) {
    return fail(EINVAL, "Parameter '{}' expects a non-negative number below 2^64", name);
  }
  if (value == INT_MAX || static_cast<uint32_t>(value) % unit != 0) {
    return fail(EINVAL, "Cannot meet constraints with {} {}", name, value);
  }
  return static_cast<uint32_t>(value);
}

Result<block::Limits> parse_limits(const schema::BlockdevOptionsBlkdebug& options,
                                   uint32_t child_alignment) {
  const int64_t align = options.align.value_or(0);
  if (align < 0) {
    return fail(EINVAL, "Parameter 'align' expects a non-negative number below 2^64");
  }
  if (align >= INT_MAX || (align != 0 && !std::has_single_bit(static_cast<uint64_t>(align)))) {
    return fail(EINVAL, "Cannot meet constraints with align {}", align);
  }
  block::Limits limits{.native_fua = true};
  limits.request_alignment = std::max<uint32_t>(static_cast<uint32_t>(align), 1);
  const uint32_t unit = std::max(limits.request_alignment, child_alignment);
  const auto transfer = size_option("max-transfer", options.max_transfer, unit);
  if (!transfer) {
    return std::unexpected(transfer.error());
  }
  limits.max_transfer = *transfer;
  const auto zero_unit = size_option("opt-write-zero", options.opt_write_zero, unit);
  if (!zero_unit) {
    return std::unexpected(zero_unit.error());
  }
  limits.zero_alignment = std::max(*zero_unit, limits.request_alignment);
  const auto zeroes =
      size_option("max-write-zero", options.max_write_zero, std::max(*zero_unit, unit));
  if (!zeroes) {
    return std::unexpected(zeroes.error());
  }
  limits.max_zeroes = *zeroes;
  const auto discard_unit = size_option("opt-discard", options.opt_discard, unit);
  if (!discard_unit) {
    return std::unexpected(discard_unit.error());
  }
  limits.discard_alignment = std::max(*discard_unit, limits.request_alignment);
  const auto discard =
      size_option("max-discard", options.max_discard, std::max(*discard_unit, unit));
  if (!discard) {
    return std::unexpected(discard.error());
  }
  limits.max_discard = *discard;
  return limits;
}

Permission permissions_of(const std::optional<std::vector<schema::BlockPermission>>& names) {
  Permission set;
  if (names) {
    for (const schema::BlockPermission name : *names) {
      switch (name) {
        case schema::BlockPermission::kConsistentRead:
          set |= Permission::kConsistentRead;
          break;
        case schema::BlockPermission::kWrite:
          set |= Permission::kWrite;
          break;
        case schema::BlockPermission::kWriteUnchanged:
          set |= Permission::kWriteUnchanged;
          break;
        case schema::BlockPermission::kResize:
          set |= Permission::kResize;
          break;
      }
    }
  }
  return set;
}

// `options` lives until the graph has opened the node.
io::Task<Opened> open(block::OpenContext& context, const schema::BlockdevOptions& all_options) {
  const auto& options = std::get<schema::BlockdevOptionsBlkdebug>(all_options.branch);
  BlkdebugDriver::Settings settings;
  if (options.config) {
    if (auto read = read_rule_file(*options.config, settings.rules); !read) {
      co_return pass(read);
    }
  }
  add_rules(options, settings.rules);
  const Result<block::Edge*> image =
      co_await context.open_child("image", options.image, block::ChildRole::kFiltered);
  if (!image) {
    co_return std::unexpected(image.error());
  }
  const uint32_t child_alignment = (*image)->node().limits().request_alignment;
  const Result<block::Limits> limits = parse_limits(options, child_alignment);
  if (!limits) {
    co_return std::unexpected(limits.error());
  }
  settings.limits = *limits;
  settings.take = permissions_of(options.take_child_perms);
  settings.unshare = permissions_of(options.unshare_child_perms);
  co_return std::make_unique<BlkdebugDriver>(**image, std::move(settings));
}

std::string plain_name(const block::Node& node, const schema::BlockdevOptions& all_options) {
  const auto& options = std::get<schema::BlockdevOptionsBlkdebug>(all_options.branch);
  const std::string& image = node.child("image")->node().filename();
  const bool more = options.align || options.max_transfer || options.opt_write_zero ||
                    options.max_write_zero || options.opt_discard || options.max_discard ||
                    options.inject_error || options.set_state;
  if (more || block::is_json_filename(image)) {
    return {};
  }
  return fmt::format("blkdebug:{}:{}", options.config.value_or(""), image);
}

}  // namespace

}  // namespace cairn::filters::blkdebug

namespace cairn::filters {

// A protocol in the eyes of those who name images: formats are called as what they lie in.
const block::DriverInfo kBlkdebugDriver = {
    .name = "blkdebug",
    .kind = block::DriverInfo::Kind::kProtocol,
    .open = blkdebug::open,
    .plain_name = blkdebug::plain_name,
};

}  // namespace cairn::filters
