// The on-disk layout of qcow2: constants, bit fields and the arithmetic between guest offsets,
// table indices and host offsets. Section names are those of docs/interop/qcow2.rst.
//
// Everything here is pure: numbers in, numbers out, and any 64-bit input is allowed.
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace cairn::qcow2 {

// Section "Header".
inline constexpr uint32_t kMagic = 0x514649fb;  // "QFI\xfb"
inline constexpr uint32_t kHeaderLengthV2 = 72;
inline constexpr uint32_t kHeaderLengthV3 = 104;
// Version 3 with the fields that this implementation knows: up to compression_type and padding.
inline constexpr uint32_t kHeaderLengthKnown = 112;

inline constexpr uint32_t kMinClusterBits = 9;
inline constexpr uint32_t kMaxClusterBits = 21;
inline constexpr uint32_t kMaxRefcountOrder = 6;
inline constexpr uint32_t kV2RefcountOrder = 4;
inline constexpr uint32_t kMaxBackingNameLength = 1023;

// Implementation limits that readers share (notes in "Header" and "Host cluster management").
inline constexpr uint64_t kMaxL1Bytes = 32u << 20;
inline constexpr uint64_t kMaxRefcountTableBytes = 8u << 20;
inline constexpr uint64_t kMaxSnapshots = 65536;
inline constexpr uint64_t kMaxBitmapDirectoryBytes = 64u << 20;
inline constexpr uint64_t kMaxSnapshotTableBytes = 1024 * kMaxSnapshots;
// Host offsets in L1 and L2 entries have 56 bits.
// Bytes of the extension that says where the encryption header lies.
inline constexpr uint64_t kCryptExtensionLength = 16;
inline constexpr uint64_t kMaxHostOffset = uint64_t{1} << 56;

// Byte offsets of header fields that are updated in place while an image is open. All of them lie
// in the first 512 bytes, so that an update is one sector.
namespace header_offset {
inline constexpr uint32_t kSize = 24;
inline constexpr uint32_t kL1Size = 36;         // followed by the 8-byte L1 table offset
inline constexpr uint32_t kRefcountTable = 48;  // followed by the 4-byte count of its clusters
inline constexpr uint32_t kSnapshots = 60;      // count, then the 8-byte offset of the table
inline constexpr uint32_t kIncompatible = 72;
inline constexpr uint32_t kCompatible = 80;
inline constexpr uint32_t kAutoclear = 88;
}  // namespace header_offset

// incompatible_features
inline constexpr uint64_t kIncompatibleDirty = 1u << 0;
inline constexpr uint64_t kIncompatibleCorrupt = 1u << 1;
inline constexpr uint64_t kIncompatibleDataFile = 1u << 2;
inline constexpr uint64_t kIncompatibleCompression = 1u << 3;
inline constexpr uint64_t kIncompatibleExtendedL2 = 1u << 4;
inline constexpr uint64_t kIncompatibleKnown = kIncompatibleDirty | kIncompatibleCorrupt |
                                               kIncompatibleDataFile | kIncompatibleCompression |
                                               kIncompatibleExtendedL2;

// compatible_features
inline constexpr uint64_t kCompatibleLazyRefcounts = 1u << 0;

// autoclear_features
inline constexpr uint64_t kAutoclearBitmaps = 1u << 0;
inline constexpr uint64_t kAutoclearDataFileRaw = 1u << 1;
// Ours: the map of write_intent.h is kept.
inline constexpr uint64_t kAutoclearWriteIntent = uint64_t{1} << 63;

enum class CompressionType : uint8_t { kDeflate = 0, kZstd = 1 };
enum class CryptMethod : uint32_t { kNone = 0, kAes = 1, kLuks = 2 };

// Section "Header extensions".
enum class ExtensionType : uint32_t {
  kEnd = 0x00000000,
  kBackingFormat = 0xe2792aca,
  kFeatureNames = 0x6803f857,
  kBitmaps = 0x23852875,
  kCryptHeader = 0x0537be77,
  kDataFile = 0x44415441,
};
// Section "Feature name table": one entry.
inline constexpr uint32_t kFeatureEntryLength = 48;
inline constexpr uint32_t kFeatureNameLength = 46;

// Section "Cluster mapping".
inline constexpr uint64_t kEntryCopied = uint64_t{1} << 63;       // L1 and L2: refcount is one
inline constexpr uint64_t kEntryCompressed = uint64_t{1} << 62;   // L2
inline constexpr uint64_t kEntryZero = 1;                         // L2, version 3
inline constexpr uint64_t kEntryOffsetMask = 0x00fffffffffffe00;  // bits 9 to 55
inline constexpr uint64_t kL1ReservedMask = 0x7f000000000001ff;
inline constexpr uint64_t kL2ReservedMask = 0x3f000000000001fe;  // of standard descriptors
inline constexpr uint64_t kL1EntryBytes = 8;
inline constexpr uint64_t kL2EntryBytes = 8;  // 16 with extended L2 entries
inline constexpr uint64_t kL2ExtendedEntryBytes = 16;
inline constexpr uint32_t kSubclusterBitmapOffset = 8;  // in an extended entry
inline constexpr uint32_t kSubclustersPerCluster = 32;
inline constexpr uint64_t kRefcountTableEntryBytes = 8;
inline constexpr uint64_t kRefcountTableOffsetMask = 0xfffffffffffffe00;  // bits 9 to 63

inline constexpr uint64_t kSectorSize = 512;  // of compressed cluster descriptors

// What an L2 entry says about a cluster.
enum class ClusterKind : uint8_t {
  kUnallocated,    // ask the backing file
  kZeroPlain,      // reads as zeroes, no host cluster
  kZeroAllocated,  // reads as zeroes, host cluster kept
  kData,
  kCompressed,
};

// "Compressed Clusters Descriptor": where the stored form lies.
struct CompressedRange {
  uint64_t host_offset = 0;  // any byte
  uint64_t length = 0;       // up to the end of the last 512-byte sector that is used
};

// Sizes and shifts that follow from the header.
struct Geometry {
  uint32_t cluster_bits = 16;
  uint32_t refcount_order = 4;
  uint64_t l2_entry_bytes = kL2EntryBytes;
  // Data clusters lie in a file of their own, each at its guest offset.
  bool external_data = false;

  [[nodiscard]] constexpr uint64_t cluster_size() const { return uint64_t{1} << cluster_bits; }
  [[nodiscard]] constexpr uint64_t cluster_mask() const { return cluster_size() - 1; }
  [[nodiscard]] constexpr uint64_t l2_entries() const { return cluster_size() / l2_entry_bytes; }
  [[nodiscard]] constexpr bool extended_l2() const {
    return l2_entry_bytes == kL2ExtendedEntryBytes;
  }
  // What can be allocated or zeroed on its own: the cluster where there are no subclusters.
  [[nodiscard]] constexpr uint64_t subcluster_size() const {
    return extended_l2() ? cluster_size() / kSubclustersPerCluster : cluster_size();
  }
  // Guest bytes that one L2 table, that is one L1 entry, covers.
  [[nodiscard]] constexpr uint64_t l2_coverage() const { return l2_entries() * cluster_size(); }
  [[nodiscard]] constexpr uint64_t l1_index(uint64_t guest_offset) const {
    return guest_offset / l2_coverage();
  }
  [[nodiscard]] constexpr uint64_t l2_index(uint64_t guest_offset) const {
    return (guest_offset >> cluster_bits) & (l2_entries() - 1);
  }
  // Entries of the L1 table that a disk of `size` bytes needs.
  [[nodiscard]] constexpr uint64_t l1_entries_for(uint64_t size) const {
    return div_round_up(size, l2_coverage());
  }

  // Whether an L2 entry, not of a compressed cluster, gives the cluster a place for its data.
  // Offset 0 is one in an external data file, when the "copied" flag says so.
  [[nodiscard]] constexpr bool has_place(uint64_t l2_entry) const {
    return (l2_entry & (kEntryOffsetMask | (external_data ? kEntryCopied : 0))) != 0;
  }
  [[nodiscard]] constexpr ClusterKind classify(uint64_t l2_entry) const {
    if ((l2_entry & kEntryCompressed) != 0) {
      return ClusterKind::kCompressed;
    }
    if ((l2_entry & kEntryZero) != 0) {
      // Here the flag says nothing: a cluster at offset 0 that is zeroed gets its place anew.
      return (l2_entry & kEntryOffsetMask) != 0 ? ClusterKind::kZeroAllocated
                                                : ClusterKind::kZeroPlain;
    }
    return has_place(l2_entry) ? ClusterKind::kData : ClusterKind::kUnallocated;
  }

  [[nodiscard]] constexpr uint32_t refcount_bits() const { return 1u << refcount_order; }
  [[nodiscard]] constexpr uint64_t refcount_max() const {
    return ~uint64_t{0} >> (64 - refcount_bits());
  }
  // Entries of one refcount block.
  [[nodiscard]] constexpr uint64_t refcount_block_entries() const {
    return cluster_size() * 8 >> refcount_order;
  }
  // Host bytes that one refcount block, that is one refcount table entry, covers.
  [[nodiscard]] constexpr uint64_t refcount_block_coverage() const {
    return refcount_block_entries() << cluster_bits;
  }

  // "Compressed Clusters Descriptor": x = 62 - (cluster_bits - 8).
  [[nodiscard]] constexpr uint32_t compressed_shift() const { return 62 - (cluster_bits - 8); }
  [[nodiscard]] constexpr CompressedRange compressed_range(uint64_t l2_entry) const {
    const uint32_t shift = compressed_shift();
    const uint64_t offset = l2_entry & ((uint64_t{1} << shift) - 1) & (kMaxHostOffset - 1);
    const uint64_t extra_sectors = (l2_entry >> shift) & ((uint64_t{1} << (cluster_bits - 8)) - 1);
    return {offset, (extra_sectors + 1) * kSectorSize - offset % kSectorSize};
  }
  // The L2 entry for a stored form of `length` bytes at `host_offset`, which together do not exceed
  // compressed_limit().
  [[nodiscard]] constexpr uint64_t compressed_entry(uint64_t host_offset, uint64_t length) const {
    const uint64_t extra_sectors =
        (host_offset + length - 1) / kSectorSize - host_offset / kSectorSize;
    return kEntryCompressed | extra_sectors << compressed_shift() | host_offset;
  }
  // Where the host offsets end that an entry has room for.
  [[nodiscard]] constexpr uint64_t compressed_limit() const {
    return std::min(uint64_t{1} << compressed_shift(), kMaxHostOffset);
  }
};

}  // namespace cairn::qcow2
