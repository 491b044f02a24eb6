// The bitmaps of a chain of backups on its disk, and what becomes of those that an interrupted
// backup has left.
//
// Each point has a bitmap that records since. While a backup runs there are two: that of the last
// point, switched off, says what the backup has to copy, and a new one records. Only when the new
// point is in chain.json the old one goes. So there is always one that, or two that together, have
// all changes since the last point.
#pragma once

#include <string>

#include "schema/json.h"
#include "tools/ctl/backup_chain.h"
#include "tools/ctl/backup_daemon.h"

namespace cairn::ctl {

struct BitmapPlan {
  // What brings things in order, all at one moment; empty when they are.
  schema::JsonArray actions;
  // After that the bitmap of the last point has all changes since. Otherwise:
  bool usable = false;
  std::string why_not;
};

[[nodiscard]] BitmapPlan plan_bitmaps(const BackupChain& chain, const DiskNode& disk);

// Carries the plan out.
[[nodiscard]] Result<BitmapPlan> settle_bitmaps(BackupDaemon& daemon, const BackupChain& chain);

}  // namespace cairn::ctl
