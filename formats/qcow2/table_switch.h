// TableSwitch: replaces tables of an image by new ones with a single write of the header's sector.
//
// New tables, and copies of the refcount blocks that change, go to clusters that nothing refers to.
// When all of it is durable the header's sector is written, and what it named before is free. A
// power cut, or an error, leaves the image as it was or as it shall be, and nothing in between; at
// worst the clusters that were reserved are leaked.
//
// One use: reserve_table() for each table, begin(), the changes, then commit() or, after any
// failure, abandon(). No request is in flight meanwhile, and all has been written out before.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "formats/qcow2/reclaim.h"
#include "formats/qcow2/refcounts.h"
#include "formats/qcow2/writeback.h"
#include "io/mutex.h"
#include "io/task.h"

namespace cairn::qcow2 {

class TableSwitch {
 public:
  TableSwitch(Image& image, Refcounts& refcounts, Reclaim& reclaim, Writeback& writeback,
              io::AsyncMutex& writeout)
      : image_(image),
        refcounts_(refcounts),
        reclaim_(reclaim),
        writeback_(writeback),
        writeout_(writeout) {}

  // A host offset with room for a table of `bytes`; 0 for an empty one.
  [[nodiscard]] io::Task<Result<uint64_t>> reserve_table(uint64_t bytes);
  // Reserves `clusters` for take(), and what the refcounts may need. Nothing is written out by
  // anybody else from here on.
  [[nodiscard]] io::Task<Result<void>> begin(uint64_t clusters);

  // The host offset of a cluster that was reserved.
  [[nodiscard]] uint64_t take();
  // Writes a table to a place that was reserved; up to the next sector with zeroes.
  [[nodiscard]] io::Task<Result<void>> write_table(uint64_t host_offset,
                                                   std::span<const std::byte> bytes);
  // A table that is not in use any more, once all is switched: its count drops by one.
  void obsolete(uint64_t host_offset, uint64_t bytes);
  void obsolete(const ClusterRuns& runs, FreeCause cause);

  // Makes everything durable, then the header with `change`. What is obsolete is on its way to be
  // free when it succeeds.
  [[nodiscard]] io::Task<Result<void>> commit(std::function<void(Header&)> change);
  // Leaves the image as it was.
  void abandon();

 private:
  [[nodiscard]] io::Task<Result<void>> reserve_clusters(uint64_t clusters);
  void release(std::vector<FreedClusters> freed);

  Image& image_;
  Refcounts& refcounts_;
  Reclaim& reclaim_;
  Writeback& writeback_;
  io::AsyncMutex& writeout_;
  std::optional<io::AsyncMutex::Guard> lock_;
  std::vector<FreedClusters> reserved_;  // tables, and clusters that were taken
  std::vector<uint64_t> spare_;          // host offsets of single clusters
  std::vector<FreedClusters> obsolete_;
  uint64_t refcount_table_ = 0;  // where a new refcount table would go
  uint64_t refcount_table_length_ = 0;
};

}  // namespace cairn::qcow2
