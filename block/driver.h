// Driver: what a node does with requests. One object per node, owned by it.
//
// There are two kinds. A TranslatingDriver (image formats) maps guest offsets to extents of its
// children and never moves data. A RequestDriver (protocols and filters) carries requests out.
//
// What a driver may rely on, because the choke point (block/node.h) has checked it
// - Offsets and lengths lie within length(), rounded up to 512 bytes and to the alignment in
//   limits(); lengths are at least 1; nothing overflows. Writes may go beyond the end when the edge
//   they come through uses the resize permission: the driver then grows.
// - Requests obey limits(): aligned offset, length and memory, no longer than max_transfer.
// - Nothing that writes arrives while the node is read-only; resize() and close() run alone.
// - All calls come on the node's home reactor.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "block/check.h"
#include "block/compact.h"
#include "block/extent.h"
#include "block/permissions.h"
#include "block/snapshot.h"
#include "io/iovector.h"
#include "io/task.h"

namespace cairn::schema {
struct BlockStatsSpecific;
struct BlockdevOptions;
struct ImageInfoSpecific;
}  // namespace cairn::schema

namespace cairn::block {

class BitmapStore;
class Codec;
class CreateOptions;
class Edge;
class FaultListener;
class Node;
class RequestDriver;
class SnapshotView;
class TranslatingDriver;
struct DriverInfo;
struct NodeOptions;

// What a parent uses a child for; decides default permissions and which child is which.
enum class ChildRole : uint8_t {
  kData,      // guest data only (an external data file)
  kMetadata,  // the format's tables only
  kImage,     // both: the usual "file" of a format
  kBacking,   // what holes read as
  kFiltered,  // the node below a filter
};

struct Limits {
  // In bytes. Requests are cut, widened and bounced above the driver to fit. Alignments are powers
  // of two, but for those of zeroing and discarding.
  uint32_t request_alignment = 1;
  uint32_t memory_alignment = 1;
  uint64_t max_transfer = 0;    // 0: none
  uint32_t zero_alignment = 1;  // write_zeroes() and discard() in multiples of this
  uint32_t discard_alignment = 1;
  uint64_t max_zeroes = 0;  // 0: none
  uint64_t max_discard = 0;
  bool native_fua = false;  // write() honours WriteFlags::fua itself
};

struct WriteFlags {
  bool fua = false;        // durable before it is acknowledged
  bool unchanged = false;  // the guest sees no change: needs only write-unchanged
  bool compressed = false;
  bool into_holes = false;  // only where the node has nothing of its own: copies what is behind it
};

struct ZeroFlags {
  bool fua = false;
  bool may_unmap = false;    // space may be given back
  bool no_fallback = false;  // fail with ENOTSUP rather than write zeroes out
  bool unchanged = false;    // as in WriteFlags
  bool into_holes = false;
};

enum class Preallocation : uint8_t { kOff, kMetadata, kFalloc, kFull };

struct ResizeOptions {
  Preallocation preallocation = Preallocation::kOff;
  bool exact = true;           // false: a longer result is fine, too
  bool zero_new_space = true;  // false: what is added may show a backing file that is longer
};

// What lies at a range of one node, leaving out what is below in the backing chain.
struct BlockStatus {
  uint64_t length = 0;     // bytes for which it holds
  bool data = false;       // stored as data here
  bool zero = false;       // known to read as zeroes
  bool allocated = false;  // decided by this node; false: by what is behind it
  bool compressed = false;
  const Node* host = nullptr;  // with host_offset: where the bytes are; null when not known
  uint64_t host_offset = 0;
};

class Driver {
 public:
  Driver() = default;
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;
  virtual ~Driver() = default;

  [[nodiscard]] virtual TranslatingDriver* as_translating() { return nullptr; }
  [[nodiscard]] virtual RequestDriver* as_request() { return nullptr; }

  // Bytes the guest sees.
  [[nodiscard]] virtual uint64_t length() const = 0;
  [[nodiscard]] virtual Limits limits() const { return {}; }
  // Clusters and such: the granularity of allocation that tools report; 0 when there is none.
  [[nodiscard]] virtual uint32_t cluster_size() const { return 0; }

  // Makes every acknowledged write durable: writes cached metadata in an order that survives a
  // power cut and flushes the children. The default flushes all children.
  [[nodiscard]] virtual io::Task<Result<void>> flush();

  // Called once, with no request in flight, before the node goes away: writes out and releases.
  // Errors are reported, and the node goes away all the same.
  [[nodiscard]] virtual io::Task<Result<void>> close();

  // Writes out all there is and leaves the image as close() would, with no request in flight. It
  // can be used again afterwards. The default flushes.
  [[nodiscard]] virtual io::Task<Result<void>> quiesce();

  // Has the driver go on with other options than it was opened with: those of its node, and its own
  // in `options`, of which only those that DriverInfo::reopen_options names differ. What they need
  // from outside is taken in prepare_permissions(), which follows. False, the default: it can not,
  // and a new driver is opened in its place, on the same children, after quiesce().
  [[nodiscard]] virtual Result<bool> adopt_options(const NodeOptions& node,
                                                   const schema::BlockdevOptions& options);
  // In place of close(), when another driver has taken the place of this one after quiesce(), or
  // this one is never to be used: ends what it does in the background.
  virtual void retire() {}
  // The node becomes active, and goes on with this driver: others may have changed the image.
  [[nodiscard]] virtual Result<void> refresh() { return {}; }

  // Makes room in the metadata for a disk of `length` bytes, more than now, while length() stays.
  // True: what is beyond the end can be cleared from now on, and will be, before resize() makes it
  // part of the disk. False, the default: it reads as zeroes as soon as it is part of it.
  [[nodiscard]] virtual io::Task<Result<bool>> prepare_growth(uint64_t length);

  // Changes length(). Shrinking drops what lies beyond.
  [[nodiscard]] virtual io::Task<Result<void>> resize(uint64_t length, ResizeOptions options);

  // The permissions this node needs on a child, given what its own parents use and share.
  // `writable` says whether the node may write at all. The default is right for formats whose
  // `file` child holds an image, for backing children and for filters.
  [[nodiscard]] virtual Permissions child_permissions(ChildRole role, Permissions parents,
                                                      bool writable) const;

  // A leaf takes what its parents need, for example by locking a file. Two steps, since a graph
  // change may fail elsewhere: prepare() may fail and changes nothing others see except to reserve;
  // then exactly one of commit() and abort().
  [[nodiscard]] virtual Result<void> prepare_permissions(Permissions permissions);
  virtual void commit_permissions() {}
  virtual void abort_permissions() {}
  // It still uses of its children what its own parents have given up, until clear_leftovers() has
  // put in order what they left behind; an error leaves it so.
  [[nodiscard]] virtual bool has_leftovers() const { return false; }
  [[nodiscard]] virtual io::Task<Result<void>> clear_leftovers();

  // A drain begins: requests that are held back on purpose are to go on, and while the graph is
  // drained none may be held back.
  virtual void drain_begins() {}

  // Consistency check of the image; ENOTSUP when the format has none.
  [[nodiscard]] virtual io::Task<Result<CheckResult>> check(CheckOptions options);

  // Snapshots inside the image, oldest first; ENOTSUP when the format has none. Changing them runs
  // alone, as resize() does, and is durable when it succeeds. A failure changes nothing.
  [[nodiscard]] virtual Result<std::vector<Snapshot>> snapshots() const;
  // Makes one of the current state of the disk. The driver chooses id and disk size.
  [[nodiscard]] virtual io::Task<Result<void>> create_snapshot(Snapshot snapshot);
  // Makes the current state, length() included, what it was then; the snapshot stays.
  [[nodiscard]] virtual io::Task<Result<void>> apply_snapshot(std::string id);
  [[nodiscard]] virtual io::Task<Result<void>> delete_snapshot(std::string id);
  // Of a read-only node: shows what the disk held then, length() included, until it is closed.
  [[nodiscard]] virtual io::Task<Result<void>> show_snapshot(std::string id);

  // Changes of the image as a whole, which run alone and are durable when they succeed.
  //
  // Writes what backing_filename() and backing_format() are from now on; empty: there is none. What
  // holes read as until the node is closed does not change.
  [[nodiscard]] virtual io::Task<Result<void>> change_backing(std::string filename,
                                                              std::string format);
  // Drops everything that is stored, so that the whole disk reads as what is behind it.
  [[nodiscard]] virtual io::Task<Result<void>> make_empty();
  // Gives the image those of the options that DriverInfo::amend_options lists. After a failure some
  // of them may have been changed. May leave the node without use until it is opened again.
  [[nodiscard]] virtual io::Task<Result<void>> amend(CreateOptions options);
  // Moves what is stored to the beginning of the file, and cuts the file behind it. At every
  // moment, power cuts included, the image reads the same. ENOTSUP, with the reason, when it is of
  // a kind that can not be moved.
  [[nodiscard]] virtual io::Task<Result<void>> compact(CompactOptions options);

  // The disk is stored encrypted.
  [[nodiscard]] virtual bool encrypted() const { return false; }

  // Who wants to hear how far work on this node has got (fault_point.h); null: nobody.
  [[nodiscard]] virtual FaultListener* fault_listener() { return nullptr; }

  // Children that come and go at run time, for drivers that have any number of them. The name of
  // the next one; ENOTSUP when the driver has none.
  [[nodiscard]] virtual Result<std::string> name_new_child() const;
  // Whether a child may go.
  [[nodiscard]] virtual Result<void> may_remove_child(const Edge& child) const;
  // Called after children came or went, with no request in flight.
  virtual void children_changed() {}

  // Where the image keeps dirty bitmaps; null when it can not.
  [[nodiscard]] virtual BitmapStore* bitmap_store() { return nullptr; }

  // The state of the disk at an earlier moment, which it keeps beside the current one; null when it
  // keeps none.
  [[nodiscard]] virtual SnapshotView* snapshot_view() { return nullptr; }

  // Format-specific part of `info`; null when there is none.
  [[nodiscard]] virtual io::Task<Result<std::unique_ptr<schema::ImageInfoSpecific>>>
  specific_info();

  // Counters that only this driver has; null when there are none.
  [[nodiscard]] virtual std::unique_ptr<schema::BlockStatsSpecific> specific_statistics() const;

  // Bytes of host storage in use by what this node itself stores (not its children); negative when
  // it can not be told. For leaves.
  [[nodiscard]] virtual int64_t allocated_size() const { return -1; }

  // For `info`: whether the image was not closed in order and has to be repaired before it is
  // written to. Nothing for drivers that store nothing.
  [[nodiscard]] virtual std::optional<bool> dirty() const { return false; }
  // Where, beyond the guest's disk, a machine's state would be saved; 0 when it can not be.
  [[nodiscard]] virtual uint64_t vm_state_offset() const { return 0; }

  // The backing file as the image's header names it; empty when there is none.
  [[nodiscard]] virtual std::string backing_filename() const { return {}; }
  [[nodiscard]] virtual std::string backing_format() const { return {}; }

 protected:
  friend class Node;
  // Set by the node before the driver is used.
  Node* node_ = nullptr;
};

class TranslatingDriver : public Driver {
 public:
  [[nodiscard]] TranslatingDriver* as_translating() final { return this; }

  // Writes that allocate, zero or discard are serialised in units of this many bytes (the cluster
  // size): at any time one of begin_write()…end_write(), write_zeroes(), discard() per unit.
  [[nodiscard]] virtual uint64_t allocation_unit() const = 0;

  // write_zeroes() zeroes multiples of this many bytes, which divides the allocation unit.
  [[nodiscard]] virtual uint64_t zeroing_unit() const { return allocation_unit(); }

  // The extent at `offset`, from cached metadata alone; false when the metadata has to be read.
  // Runs for every request: no allocation, no suspension.
  [[nodiscard]] virtual bool try_map(uint64_t offset, uint64_t length, Extent& extent) = 0;

  // The same, reading metadata as needed. Adjacent extents that continue each other on the child
  // should be merged, within reason.
  [[nodiscard]] virtual io::Task<Result<Extent>> map(uint64_t offset, uint64_t length) = 0;

  // Reserves space for a write to a range whose extent is not in place.
  [[nodiscard]] virtual io::Task<Result<WritePlan>> begin_write(uint64_t offset, uint64_t length);

  // The data is written (ok) or is not (the error): makes the mapping point to the new place, or
  // gives the space back and leaves the image as it was. An error from here fails the request.
  [[nodiscard]] virtual io::Task<Result<void>> end_write(WritePlan plan, uint64_t offset,
                                                         bool written);

  // What is written encoded: what a write asks it for, everything, or nothing, even when asked.
  enum class Encoding : uint8_t { kOnRequest, kAlways, kNever };
  [[nodiscard]] virtual Encoding encoding() const { return Encoding::kOnRequest; }
  // Encodes units for compressed writes; null when the format, or this image, has none.
  [[nodiscard]] virtual const Codec* encoder() const { return nullptr; }
  // Reserves `stored_length` bytes, less than a unit, for the compressed form of the unit at
  // `offset`. The plan is settled by end_write() and has neither head nor tail. EIO when the unit
  // has data already.
  [[nodiscard]] virtual io::Task<Result<WritePlan>> begin_compressed_write(uint64_t offset,
                                                                           uint64_t stored_length);

  // Makes whole zeroing units (but for the image's last, which may be short) read as zeroes by
  // metadata alone. ENOTSUP: not possible here; the engine writes zeroes instead.
  [[nodiscard]] virtual io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                            ZeroFlags flags);

  // Gives whole allocation units back. What they read as afterwards is the format's choice.
  [[nodiscard]] virtual io::Task<Result<void>> discard(uint64_t offset, uint64_t length);

  // No mapping that an acknowledged write relies on is still only in memory: FUA needs no more
  // than FUA of the data.
  [[nodiscard]] virtual bool metadata_durable() const { return true; }
};

class RequestDriver : public Driver {
 public:
  [[nodiscard]] RequestDriver* as_request() final { return this; }

  // `data` is the memory to fill or to take from; it stays valid until the task is done.
  [[nodiscard]] virtual io::Task<Result<void>> read(uint64_t offset, io::IoVector data) = 0;
  [[nodiscard]] virtual io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                                                     WriteFlags flags);
  // ENOTSUP makes the choke point write zeroes out, unless flags forbid it.
  [[nodiscard]] virtual io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                            ZeroFlags flags);
  // ENOTSUP counts as success: a discard is advice.
  [[nodiscard]] virtual io::Task<Result<void>> discard(uint64_t offset, uint64_t length);

  // The default says: data, at the same offset of this node.
  [[nodiscard]] virtual io::Task<Result<BlockStatus>> status(uint64_t offset, uint64_t length);
};

// What an edge of `role` uses and shares when a driver has no rules of its own, given what the
// parents of its node use and share together. `writable`: the node may write to its image.
[[nodiscard]] Permissions default_child_permissions(ChildRole role, Permissions parents,
                                                    bool writable);

}  // namespace cairn::block
