// BlockRequests: carries out what the kernel asks of a block device, on the node.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "exports/node_access.h"
#include "exports/ublk/protocol.h"
#include "io/task.h"

namespace cairn::ublk {

class BlockRequests {
 public:
  struct Settings {
    bool writable = false;
    bool writethrough = false;
  };

  // `node` outlives this.
  BlockRequests(const exports::NodeAccess& node, Settings settings)
      : node_(node), settings_(settings) {}

  // `memory` holds the data of a write, and gets that of a read; it is the request's until it is
  // done. Returns how many bytes were transferred, or a negative errno.
  [[nodiscard]] io::Task<int32_t> serve(RequestDescription asked,
                                        std::span<std::byte> memory) const;

 private:
  [[nodiscard]] io::Task<Result<void>> change(RequestDescription asked, uint64_t offset,
                                              uint64_t length, std::span<std::byte> memory) const;

  const exports::NodeAccess& node_;
  const Settings settings_;
};

}  // namespace cairn::ublk
