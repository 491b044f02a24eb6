#include "tools/drivers.h"

#include "formats/qcow2/driver.h"
#include "formats/raw/raw.h"
#include "formats/vmdk/vmdk.h"
#include "protocols/file/file.h"
#include "protocols/nbd/nbd.h"
#include "protocols/null/null.h"

namespace cairn::tools {

void register_all_drivers(block::DriverTable& table) {
  table.add(file::kFileDriver);
  table.add(file::kHostDeviceDriver);
  table.add(nbd::client::kNbdDriver);
  table.add(null::kNullAioDriver);
  table.add(null::kNullCoDriver);
  table.add(qcow2::kQcow2Driver);
  table.add(raw::kRawDriver);
  table.add(vmdk::kVmdkDriver);
}

block::DriverTable all_drivers() {
  block::DriverTable table;
  register_all_drivers(table);
  return table;
}

}  // namespace cairn::tools
