// What lies where in sparse extents (Virtual Disk Format, "Hosted Sparse Extents" and "ESX Server
// Sparse Extents"). All numbers are little-endian; places are counted in sectors.
#pragma once

#include <cstdint>

namespace cairn::vmdk {

inline constexpr uint32_t kSparseMagic = 0x564d444b;  // "KDMV"
inline constexpr uint32_t kCowMagic = 0x44574f43;     // "COWD"

// Bytes of a hosted sparse header that have a meaning; it takes a sector.
inline constexpr uint64_t kSparseHeaderBytes = 79;

inline constexpr uint32_t kFlagNewLineTest = 1u << 0;
inline constexpr uint32_t kFlagRedundantTable = 1u << 1;
inline constexpr uint32_t kFlagZeroedGrain = 1u << 2;
inline constexpr uint32_t kFlagCompressed = 1u << 16;
inline constexpr uint32_t kFlagMarkers = 1u << 17;

inline constexpr uint16_t kCompressionNone = 0;
inline constexpr uint16_t kCompressionDeflate = 1;

// gdOffset of a stream whose header is repeated, with the true offset, at its end.
inline constexpr uint64_t kDirectoryAtEnd = UINT64_MAX;
inline constexpr uint32_t kMarkerFooter = 3;

inline constexpr uint64_t kTableEntryBytes = 4;
inline constexpr uint32_t kMostTableEntries = 512;
inline constexpr uint32_t kCowTableEntries = 4096;
inline constexpr uint64_t kLargestGrain = 0x200000;          // sectors
inline constexpr uint64_t kMostDirectoryEntries = 32 << 20;  // 1 PiB with grains of 64 KiB

// Entries of a grain table that are no place.
inline constexpr uint32_t kEntryHole = 0;
inline constexpr uint32_t kEntryZeroed = 1;  // where the header says that there are such

// "Grain Marker": in front of compressed data.
inline constexpr uint64_t kMarkerBytes = 12;

// Where embedded descriptors are, and how much room they have.
inline constexpr uint64_t kDescriptorOffset = 512;
inline constexpr uint64_t kDescriptorSectors = 20;

// The content id of an image without a parent.
inline constexpr uint32_t kNoParent = 0xffffffff;

}  // namespace cairn::vmdk
