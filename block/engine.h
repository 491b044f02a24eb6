// Engine: carries requests out. Written once, for every format.
//
// Each entry takes the edge a request comes through, checks the request at the choke point of the
// edge's node and then, by the kind of its driver, translates and moves the data, or hands the
// request to the driver in a form that obeys the driver's limits.
//
//   engine_read.cc    reads: holes from backing nodes, zeroes, plain data, coded units
//   engine_write.cc   writes: in place, or allocating with copy-on-write
//   engine_holes.cc   what is behind holes, copied into them
//   engine_sectors.cc  encrypted extents, by whole sectors
//   engine_compress.cc  writes of compressed units
//   engine_copy_up.cc  copying what lies below into a node
//   engine_zero.cc    zeroes and discards, whole units by metadata and ragged ends as data
//   engine_status.cc  block status of one node and along a chain
//   engine_leaf.cc    what protocols and filters need: alignment, splitting, emulation
//   engine_change.cc  changing an image as a whole: snapshots, options, its backing file
//   engine_resize.cc  changing the length, and what the new space holds
//   engine.cc         the choke point: checks, accounting, flush
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/result.h"
#include "block/codec.h"
#include "block/node.h"
#include "io/buffer.h"
#include "io/iovector.h"
#include "io/task.h"

namespace cairn::block {

class Engine {
 public:
  using Outcome = io::Task<Result<void>>;

  static Outcome read(Edge& edge, uint64_t offset, io::IoVector data);
  static Outcome write(Edge& edge, uint64_t offset, io::IoVector data, WriteFlags flags);
  static Outcome write_zeroes(Edge& edge, uint64_t offset, uint64_t length, ZeroFlags flags);
  static Outcome discard(Edge& edge, uint64_t offset, uint64_t length);
  static Outcome flush(Edge& edge);
  // Gives the range space of its own in the edge's node, where it has none, with what it reads as:
  // copy-on-read without the read. Needs write-unchanged; nothing that is read changes. Safe beside
  // any other request.
  static Outcome copy_up(Edge& edge, uint64_t offset, uint64_t length);
  static Outcome resize(Edge& edge, uint64_t length, ResizeOptions options);
  // Has the driver change the image as a whole while no request is in flight. `needed` are the
  // permissions that the edge must have.
  using Change = std::function<Outcome(Driver&)>;
  static Outcome change_image(Edge& edge, PermissionSet needed, Change change);
  static io::Task<Result<BlockStatus>> status(Node& node, uint64_t offset, uint64_t length);
  static io::Task<Result<ChainStatus>> chain_status(Node& node, uint64_t offset, uint64_t length,
                                                    const Node* base);

  // Waits while a drain keeps requests of root edges out. Its end may find other nodes: what an
  // edge points to is to be looked up afterwards.
  static io::Task<void> admitted(Graph& graph);
  static bool must_wait(const Edge& edge);
  // EPERM when nothing may go through a root edge.
  static Result<void> check_active(const Edge& edge);

 private:
  friend class Graph;
  friend class Reopening;

  // Choke point (engine.cc).
  static Result<void> check_range(const Edge& edge, uint64_t offset, uint64_t length,
                                  bool may_grow);
  static Result<void> check_writable(const Edge& edge, PermissionSet::Bit needed);
  static Result<void> check_change(const Edge& edge, uint64_t offset, uint64_t length,
                                   PermissionSet::Bit needed, bool may_grow);
  static Node* plain_leaf(const Extent& extent, const io::IoVector& data);
  static void mark_bitmaps(Node& node, uint64_t offset, uint64_t length);
  class Stopwatch;
  static BitmapStore* begin_change(Node& node, uint64_t offset, uint64_t length, bool into_holes);
  static void account(Node& node, RequestCounters Statistics::* kind, uint64_t length,
                      bool succeeded, Stopwatch& watch);
  static void account_write(Node& node, uint64_t offset, uint64_t length, bool succeeded,
                            Stopwatch& watch);
  static const Edge* primary_child(const Node& node);
  // `of_write`: as the end of a write with FUA, which is not over.
  static Outcome flush_node(Node& node, bool of_write = false);
  static Outcome resize_node(Node& node, uint64_t length, ResizeOptions options);
  static Outcome change_node(Node& node, Change change);
  static Outcome clear_before_growth(Node& node, uint64_t length, ResizeOptions options);
  static io::Task<Result<bool>> clear_new_space(Node& node, uint64_t offset, uint64_t end,
                                                bool hide_backing);

  // Translating nodes. The caller holds a RequestScope on `node`.
  static Outcome read_translated(Node& node, uint64_t offset, io::IoVector data);
  static Outcome read_extent(Node& node, Extent extent, uint64_t offset, io::IoVector data);
  static Outcome read_hole(Node& node, uint64_t offset, io::IoVector data);
  static Outcome read_coded(Node& node, Extent extent, uint64_t offset, io::IoVector data);
  static Outcome decode_unit(Extent extent, std::span<std::byte> unit);
  static Outcome decode_sectors(const SectorCodec& codec, CodecPosition position,
                                std::span<std::byte> data);
  static Outcome encode_sectors(const SectorCodec& codec, CodecPosition position,
                                std::span<const std::byte> plain, std::span<std::byte> stored);
  static Outcome read_sectors(Extent extent, CodecPosition position, std::span<std::byte> sectors);
  static Outcome read_encrypted(Extent extent, uint64_t offset, io::IoVector data);
  static Outcome read_edges(Extent extent, uint64_t offset, uint64_t begin, uint64_t at,
                            uint64_t length, std::span<std::byte> sectors);
  static Outcome write_encrypted(Node& node, Extent extent, uint64_t offset, io::IoVector data,
                                 WriteFlags flags);
  static Outcome write_in_place(Node& node, Extent extent, uint64_t offset, io::IoVector data,
                                WriteFlags flags);
  static Outcome write_new_sectors(WritePlan plan, CodecPosition position, io::IoVector data);
  static Outcome write_translated(Node& node, uint64_t offset, io::IoVector data, WriteFlags flags);
  static Outcome write_holes(Node& node, uint64_t offset, io::IoVector data, WriteFlags flags);
  static Outcome zero_holes(Node& node, uint64_t offset, uint64_t length, ZeroFlags flags);
  static Outcome write_allocating(Node& node, uint64_t offset, io::IoVector data);
  static Outcome write_in_units(Node& node, uint64_t offset, io::IoVector data);
  static Outcome write_planned(Node& node, WritePlan plan, uint64_t offset, io::IoVector data);
  struct EncodedUnit;
  // Whether a node takes compressed writes at all, of nothing, too.
  static Result<void> check_compression(const Node& node);
  static Outcome write_compressed(Node& node, uint64_t offset, io::IoVector data, WriteFlags flags);
  static io::Task<void> encode_unit(const Codec& codec, uint64_t unit_length, EncodedUnit& unit);
  static Outcome encode_units(const Codec& codec, uint64_t unit_length,
                              std::vector<EncodedUnit>& units);
  static Outcome place_units(Node& node, std::vector<EncodedUnit>& units);
  static Outcome store_units(Node& node, std::vector<EncodedUnit>& units);
  static Outcome settle_units(Node& node, std::vector<EncodedUnit>& units, bool written);
  static io::Task<Result<io::AlignedBuffer>> read_around(Node& node, const WritePlan& plan,
                                                         uint64_t offset, uint64_t length,
                                                         bool& zero);
  static Outcome copy_holes(Node& node, uint64_t offset, uint64_t length);
  static Outcome copy_hole(Node& node, uint64_t offset, uint64_t length);
  static Outcome zero_translated(Node& node, uint64_t offset, uint64_t length, ZeroFlags flags);
  static Outcome zero_units(Node& node, uint64_t offset, uint64_t length, ZeroFlags flags);
  static Outcome zero_partial_unit(Node& node, uint64_t offset, uint64_t length, ZeroFlags flags);
  static Outcome zero_by_writing(Node& node, uint64_t offset, uint64_t length);
  static io::Task<void> writes_in_place_ended(Node& node);
  static Outcome discard_translated(Node& node, uint64_t offset, uint64_t length);
  static io::Task<Result<Extent>> map(Node& node, uint64_t offset, uint64_t length);
  static io::Task<Result<bool>> reads_zero(Node& node, uint64_t offset, uint64_t length);

  // Protocols and filters. The caller holds a RequestScope on `node`.
  static bool fits(const Node& node, uint64_t offset, const io::IoVector& data);
  static Outcome read_leaf(Node& node, uint64_t offset, io::IoVector data);
  static Outcome write_leaf(Node& node, uint64_t offset, io::IoVector data, WriteFlags flags);
  static Outcome read_overwritten(Node& node, uint64_t block, io::IoVector old, bool head,
                                  bool tail);
  static Outcome write_leaf_unaligned(Node& node, uint64_t offset, io::IoVector data);
  static Outcome zero_leaf(Node& node, uint64_t offset, uint64_t length, ZeroFlags flags);
  static Outcome zero_leaf_by_writing(Node& node, uint64_t offset, uint64_t length);
  static Outcome discard_leaf(Node& node, uint64_t offset, uint64_t length);
};

}  // namespace cairn::block
