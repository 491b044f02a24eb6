// BlkdebugDriver: passes requests on to its "image" child, unless a rule lets them fail, within the
// limits that its options impose.
#pragma once

#include <cstdint>
#include <memory>

#include "block/driver.h"
#include "block/fault_point.h"
#include "filters/blkdebug/breakpoints.h"
#include "filters/blkdebug/rules.h"
#include "filters/filter_driver.h"

namespace cairn::filters::blkdebug {

class BlkdebugDriver final : public FilterDriver, public block::FaultListener {
 public:
  struct Settings {
    Rules rules;
    block::Limits limits;
    block::PermissionSet take;     // on the child, whatever users ask for
    block::PermissionSet unshare;  // with others
  };

  BlkdebugDriver(block::Edge& image, Settings settings);

  [[nodiscard]] Breakpoints& breakpoints() { return breakpoints_; }

  [[nodiscard]] block::Limits limits() const override { return settings_.limits; }
  [[nodiscard]] io::Task<Result<void>> read(uint64_t offset, io::IoVector data) override;
  [[nodiscard]] io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                                             block::WriteFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    block::ZeroFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> discard(uint64_t offset, uint64_t length) override;
  [[nodiscard]] io::Task<Result<void>> flush() override;
  [[nodiscard]] io::Task<Result<block::BlockStatus>> status(uint64_t offset,
                                                            uint64_t length) override;
  [[nodiscard]] block::Permissions child_permissions(block::ChildRole role,
                                                     block::Permissions parents,
                                                     bool writable) const override;

  [[nodiscard]] block::FaultListener* fault_listener() override { return this; }
  [[nodiscard]] io::WaiterList* reached(block::FaultPoint point) override;

 private:
  // What the rules say of a request, after a moment unless they want it at once.
  [[nodiscard]] io::Task<Result<void>> pass_rules(RequestKind kind, uint64_t offset,
                                                  uint64_t length);
  // How much of a request there is room for in the child: alignment may have widened it beyond.
  [[nodiscard]] uint64_t present(uint64_t offset, uint64_t length) const;

  Settings settings_;
  Breakpoints breakpoints_;
};

}  // namespace cairn::filters::blkdebug
