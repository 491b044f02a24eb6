// Writeback: makes metadata durable in an order that survives a power cut at any instant
// (docs/durability.md, invariant I3 of the design).
//
// One run at a time:
//   1. copy the changed L2 entries; note the L1 entries and the freed clusters that go with them
//   2. write the changed refcounts (for new blocks: flush, then the refcount table)
//   3. flush: data, refcounts
//   4. write the copies of the L2 entries
//   5. for new L2 tables: flush, then write their L1 entries
//   6. flush, if 4 or 5 wrote anything
//   7. hand the freed clusters on to Reclaim
// With lazy refcounts step 2 is left out as long as there is room for changed counts: the header
// says "dirty" instead, durably before the first entry is written whose count is not, and until
// end_postponing().
//
// An entry that changes after step 1 belongs to the next run: its data may not be covered by the
// flush in step 3. A failure leaves everything changed and queued for the next run.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/mapping.h"
#include "formats/qcow2/reclaim.h"
#include "formats/qcow2/refcounts.h"
#include "io/mutex.h"
#include "io/task.h"

namespace cairn::qcow2 {

class Writeback {
 public:
  Writeback(Image& image, Refcounts& refcounts, Reclaim& reclaim, Mapping& mapping,
            io::AsyncMutex& writeout, bool lazy_refcounts)
      : image_(image),
        refcounts_(refcounts),
        reclaim_(reclaim),
        mapping_(mapping),
        writeout_(writeout),
        lazy_refcounts_(lazy_refcounts) {}

  // Everything that was written and committed before the call is durable when it succeeds. Calls
  // that wait for the same run share it.
  [[nodiscard]] io::Task<Result<void>> flush();
  // The same, and no refcount is postponed.
  [[nodiscard]] io::Task<Result<void>> flush_all();
  // All is written out, as flush_all() does it, and nothing has changed since: the counts on disk
  // can be trusted again.
  [[nodiscard]] io::Task<Result<void>> end_postponing();

  // Runs a flush when the caches are full of changes or too many freed clusters wait.
  [[nodiscard]] bool pressed() const;
  [[nodiscard]] io::Task<Result<void>> relieve();

  // No committed mapping is in memory only.
  [[nodiscard]] bool mapping_durable() const { return !writing_tables_ && !mapping_.dirty(); }

 private:
  [[nodiscard]] io::Task<Result<void>> run();
  [[nodiscard]] io::Task<Result<void>> write(Mapping::Writeout& tables,
                                             Refcounts::Writeout& counts);
  [[nodiscard]] io::Task<Result<void>> postpone_counts();

  Image& image_;
  Refcounts& refcounts_;
  Reclaim& reclaim_;
  Mapping& mapping_;
  io::AsyncMutex& writeout_;
  uint64_t started_ = 0;    // runs
  uint64_t completed_ = 0;  // the last run that succeeded
  bool writing_tables_ = false;
  const bool lazy_refcounts_;
  bool counts_wanted_ = false;  // of the next run
  bool postponed_ = false;      // the header says so
};

}  // namespace cairn::qcow2
