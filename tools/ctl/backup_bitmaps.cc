#include "tools/ctl/backup_bitmaps.h"

#include <charconv>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace cairn::ctl {

namespace {

using schema::JsonArray;
using schema::JsonObject;

// The point that a bitmap of the chain is for, from its name; 0 when the name does not say.
uint64_t point_of(std::string_view name, const BackupChain& chain) {
  name.remove_prefix(chain.bitmap_prefix().size());
  uint64_t number = 0;
  const auto parsed = std::from_chars(name.data(), name.data() + name.size(), number);
  return parsed.ec == std::errc() ? number : 0;
}

JsonObject bitmap_of(const DiskNode& disk, std::string_view name) {
  return json_object({{"node", disk.name}, {"name", name}});
}

}  // namespace

BitmapPlan plan_bitmaps(const BackupChain& chain, const DiskNode& disk) {
  BitmapPlan plan;
  const BackupPoint* last = chain.last();
  const DiskBitmap* old = last ? disk.find(last->bitmap) : nullptr;
  JsonArray newer;
  for (const DiskBitmap& bitmap : disk.bitmaps) {
    const bool ours = bitmap.name.starts_with(chain.bitmap_prefix());
    if (ours && last && !bitmap.inconsistent && point_of(bitmap.name, chain) > last->number) {
      newer.emplace_back(bitmap.name);
    }
  }
  if (!last) {
    plan.why_not = "it is the first one";
  } else if (!old) {
    plan.why_not = fmt::format("'{}' has no bitmap any more that recorded since point {}",
                               disk.name, last->number);
  } else if (old->inconsistent) {
    plan.why_not =
        fmt::format("the bitmap that recorded since point {} is inconsistent", last->number);
  } else if (!old->recording && newer.empty()) {
    plan.why_not =
        fmt::format("the bitmap that recorded since point {} was switched off", last->number);
  } else {
    plan.usable = true;
  }
  if (plan.usable && !newer.empty()) {
    plan.actions.push_back(transaction_action(
        "block-dirty-bitmap-merge",
        json_object({{"node", disk.name}, {"target", old->name}, {"bitmaps", newer}})));
  }
  if (plan.usable && !old->recording) {
    plan.actions.push_back(
        transaction_action("block-dirty-bitmap-enable", bitmap_of(disk, old->name)));
  }
  for (const DiskBitmap& bitmap : disk.bitmaps) {
    if (bitmap.name.starts_with(chain.bitmap_prefix()) && !(plan.usable && &bitmap == old)) {
      plan.actions.push_back(
          transaction_action("block-dirty-bitmap-remove", bitmap_of(disk, bitmap.name)));
    }
  }
  return plan;
}

Result<BitmapPlan> settle_bitmaps(BackupDaemon& daemon, const BackupChain& chain) {
  const auto disk = daemon.find_node(chain.node);
  if (!disk) {
    return std::unexpected(disk.error());
  }
  BitmapPlan plan = plan_bitmaps(chain, *disk);
  if (!plan.actions.empty()) {
    auto done = daemon.call("transaction", json_object({{"actions", plan.actions}}));
    if (!done) {
      return pass(done, "Could not bring the bitmaps in order: ");
    }
  }
  return plan;
}

}  // namespace cairn::ctl
