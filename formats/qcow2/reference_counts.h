// ReferenceCounts: how often each host cluster is referred to, as a check finds it.
//
// One byte a cluster, in pieces that exist once a cluster of theirs is referred to, so that memory
// follows what the tables say and not the length of a sparse file; it is bounded all the same.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>

namespace cairn::qcow2 {

class ReferenceCounts {
 public:
  // Clusters in one piece: small, so that references strewn over a large range cost little each.
  static constexpr uint64_t kPiece = 512;
  static constexpr uint64_t kMaxPieces = (uint64_t{1} << 30) / kPiece;

  // What an active table says with its COPIED flag: the cluster's refcount is one.
  enum class Flag : uint8_t { kNone = 0, kUncopied = 0x40, kCopied = 0x80 };

  // The references of the cluster with this one; 0 when the bound on memory is reached and it is
  // not counted.
  [[nodiscard]] uint64_t add(uint64_t cluster, Flag flag = Flag::kNone);

  [[nodiscard]] uint64_t get(uint64_t cluster) const;
  [[nodiscard]] bool has(uint64_t cluster, Flag flag) const;
  // The first cluster at or after `cluster` that may have references; UINT64_MAX: none.
  [[nodiscard]] uint64_t next(uint64_t cluster) const;

 private:
  using Piece = std::array<uint8_t, kPiece>;
  // A count this high is kept in `large_` instead.
  static constexpr uint8_t kLarge = 0x3f;

  // Null when no cluster of the piece has references.
  [[nodiscard]] Piece* find(uint64_t index) const;

  std::map<uint64_t, std::unique_ptr<Piece>> pieces_;
  std::unordered_map<uint64_t, uint64_t> large_;
  // The piece that was asked for last; null when there is none yet.
  mutable uint64_t last_index_ = UINT64_MAX;
  mutable Piece* last_ = nullptr;
};

}  // namespace cairn::qcow2
