#include "tools/common/drivers.h"

#include "filters/blkdebug/blkdebug.h"
#include "filters/blklogwrites/blklogwrites.h"
#include "filters/blkreplay.h"
#include "filters/blkverify.h"
#include "filters/chaos/chaos.h"
#include "filters/compress.h"
#include "filters/copy_before_write.h"
#include "filters/copy_on_read.h"
#include "filters/preallocate.h"
#include "filters/quorum/quorum.h"
#include "filters/replication.h"
#include "filters/snapshot_access.h"
#include "filters/throttle.h"
#include "formats/luks/luks.h"
#include "formats/qcow2/driver.h"
#include "formats/raw/raw.h"
#include "formats/vmdk/vmdk.h"
#include "protocols/file/file.h"
#include "protocols/nbd/nbd.h"
#include "protocols/null/null.h"

namespace cairn::tools {

void register_all_drivers(block::DriverTable& table) {
  table.add(filters::kCompressDriver);
  table.add(filters::kCopyBeforeWriteDriver);
  table.add(filters::kCopyOnReadDriver);
  table.add(filters::kBlkdebugDriver);
  table.add(filters::kBlklogwritesDriver);
  table.add(filters::kBlkreplayDriver);
  table.add(filters::kBlkverifyDriver);
  table.add(filters::kChaosDriver);
  table.add(file::kFileDriver);
  table.add(file::kHostDeviceDriver);
  table.add(nbd::client::kNbdDriver);
  table.add(null::kNullAioDriver);
  table.add(null::kNullCoDriver);
  table.add(filters::kPreallocateDriver);
  table.add(luks::kLuksDriver);
  table.add(qcow2::kQcow2Driver);
  table.add(filters::kQuorumDriver);
  table.add(raw::kRawDriver);
  table.add(filters::kReplicationDriver);
  table.add(filters::kSnapshotAccessDriver);
  table.add(filters::kThrottleDriver);
  table.add(vmdk::kVmdkDriver);
}

block::DriverTable all_drivers() {
  block::DriverTable table;
  register_all_drivers(table);
  return table;
}

}  // namespace cairn::tools
