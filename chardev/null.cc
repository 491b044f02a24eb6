// null: nobody is there.
#include "chardev/device.h"

namespace cairn::chardev {

namespace {

class NullDevice final : public Device {
 public:
  NullDevice() : Device(schema::ChardevBackendKind::kNull) {}

  // A frontend never gets a connection, so that nothing is made to be thrown away.
  [[nodiscard]] io::Task<void> run(io::CancelToken) override { co_return; }
};

}  // namespace

OpenResult open_null() { return std::make_unique<NullDevice>(); }

}  // namespace cairn::chardev
