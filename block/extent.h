// Extent: a driver's answer to "what lies at this guest range?".
//
// Formats translate, the engine moves: a format hands out extents and write plans, and the engine
// (block/engine.h) does all reading, copying, decoding and writing with them.
#pragma once

#include <cstdint>

namespace cairn::block {

class Codec;
class Edge;
class SectorCodec;

struct Extent {
  enum class Kind : uint8_t {
    kHole,  // not in this image: ask the backing node, or zeroes where there is none
    kZero,  // reads as zeroes, whatever lies below
    kData,  // at host_offset of `child`
  };

  // Bytes from the offset that was asked for which this answer covers; at least 1, and never more
  // than was asked for.
  uint64_t length = 0;
  Kind kind = Kind::kHole;

  // A plain write may go straight to host_offset; no mapping has to change.
  bool in_place = false;
  // `host_offset` is meaningful: always for kData, and for zero clusters that keep their space.
  bool host_valid = false;
  // kZero only because `child` ends within the unit of data that this is a part of: block status
  // calls it data, as the rest of the unit.
  bool beyond_child = false;
  // What block status takes from the child of a data extent.
  enum class ChildStatus : uint8_t {
    kNothing,  // data is data
    kZeroes,   // where the child is known to read as zeroes, this reads as zeroes, too
    kAll,      // this node is a window: the child's answer is the answer
  };
  ChildStatus child_status = ChildStatus::kNothing;

  // kData without codec: the byte of `child` that holds the first byte asked for.
  // kData with codec: where the stored form of the unit starts.
  uint64_t host_offset = 0;
  Edge* child = nullptr;

  // Set when the stored bytes have to be decoded, a whole unit at a time.
  const Codec* codec = nullptr;
  uint64_t unit_offset = 0;    // guest offset of the unit's first byte
  uint64_t unit_length = 0;    // decoded, in bytes
  uint64_t stored_length = 0;  // at most this many bytes at host_offset hold the unit

  // Set when what lies at host_offset is, or is to be, encrypted sector by sector. Offsets of
  // sectors are multiples of their size on both sides. Not together with `codec`.
  const SectorCodec* sectors = nullptr;
};

// How a format wants a range written. Made by begin_write(), settled by end_write() exactly once.
struct WritePlan {
  // Bytes from the offset asked for that the plan covers; at least 1.
  uint64_t length = 0;
  Edge* child = nullptr;
  // The byte of `child` that takes the first byte of the request.
  uint64_t host_offset = 0;

  // Copy-on-write: this many guest bytes before and after [offset, offset + length) get new space,
  // too. The engine fills them with what they read as now, and writes all in one piece, from
  // host_offset - head to host_offset + length + tail.
  uint64_t head = 0;
  uint64_t tail = 0;
  // The host area is known to read as zeroes: parts of head and tail that read as zeroes now need
  // no writing.
  bool host_reads_zero = false;
  // Encrypts what is written; with a ticket, head, request and tail together are whole sectors.
  const SectorCodec* sectors = nullptr;

  // For the driver: what it reserved, as a ticket into its own books. 0: nothing to settle, and
  // end_write() is not called.
  uint64_t ticket = 0;
};

}  // namespace cairn::block
