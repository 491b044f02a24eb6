// FaultPoint: a moment in the work of a format, or of the engine, that the node it works on may
// want to hear of. The blkdebug filter does, to let requests fail there, or wait.
//
//   co_await block::fault_point(file, FaultPoint::kL2Load);
//
// Where nobody listens this costs a load and a branch, and changes nothing. Nothing that must hold
// together may be half done when it is awaited.
#pragma once

#include <coroutine>
#include <cstdint>

#include "block/node.h"
#include "io/waiter.h"

namespace cairn::block {

// In the order of the schema's BlkdebugEvent, which says what each of them is.
enum class FaultPoint : uint8_t {
  kL1Update,
  kL1GrowAllocTable,
  kL1GrowWriteTable,
  kL1GrowActivateTable,
  kL2Load,
  kL2Update,
  kL2UpdateCompressed,
  kL2AllocCowRead,
  kL2AllocWrite,
  kReadAio,
  kReadBackingAio,
  kReadCompressed,
  kWriteAio,
  kWriteCompressed,
  kVmstateLoad,
  kVmstateSave,
  kCowRead,
  kCowWrite,
  kReftableLoad,
  kReftableGrow,
  kReftableUpdate,
  kRefblockLoad,
  kRefblockUpdate,
  kRefblockUpdatePart,
  kRefblockAlloc,
  kRefblockAllocHookup,
  kRefblockAllocWrite,
  kRefblockAllocWriteBlocks,
  kRefblockAllocWriteTable,
  kRefblockAllocSwitchTable,
  kClusterAlloc,
  kClusterAllocBytes,
  kClusterFree,
  kFlushToOs,
  kFlushToDisk,
  kPwritevRmwHead,
  kPwritevRmwAfterHead,
  kPwritevRmwTail,
  kPwritevRmwAfterTail,
  kPwritev,
  kPwritevZero,
  kPwritevDone,
  kEmptyImagePrepare,
  kL1ShrinkWriteTable,
  kL1ShrinkFreeL2Clusters,
  kCorWrite,
  kClusterAllocSpace,
  kNone,
};

// What a driver has that wants to hear of them. Its node counts as observed.
class FaultListener {
 public:
  FaultListener() = default;
  FaultListener(const FaultListener&) = delete;
  FaultListener& operator=(const FaultListener&) = delete;

  // Called when somebody gets there. Where they have to wait until they are woken; null: they go
  // on.
  [[nodiscard]] virtual io::WaiterList* reached(FaultPoint point) = 0;

 protected:
  ~FaultListener() = default;
};

class [[nodiscard]] AtFaultPoint {
 public:
  AtFaultPoint(FaultListener* listener, FaultPoint point) : listener_(listener), point_(point) {}

  [[nodiscard]] bool await_ready() {
    if (listener_ == nullptr) [[likely]] {
      return true;
    }
    queue_ = listener_->reached(point_);
    return queue_ == nullptr;
  }
  void await_suspend(std::coroutine_handle<> handle) {
    waiter_.bind(handle);
    queue_->push(waiter_);
  }
  void await_resume() const {}

 private:
  FaultListener* listener_;
  FaultPoint point_;
  io::WaiterList* queue_ = nullptr;
  io::Waiter waiter_;
};

inline AtFaultPoint fault_point(const Node& node, FaultPoint point) {
  return {node.fault_listener(), point};
}
// Of the work of a node on its child.
inline AtFaultPoint fault_point(const Edge& edge, FaultPoint point) {
  return fault_point(edge.node(), point);
}

}  // namespace cairn::block
