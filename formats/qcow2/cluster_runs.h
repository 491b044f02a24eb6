// Collections of host clusters, for operations that touch very many.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace cairn::qcow2 {

struct ClusterRun {
  uint64_t first = 0;  // cluster index
  uint64_t count = 0;
};

// A list of clusters; one may be in it several times. Neighbours that are added one after the other
// take no more room than one.
class ClusterRuns {
 public:
  void add(uint64_t cluster, uint64_t count = 1) {
    if (!runs_.empty() && runs_.back().first + runs_.back().count == cluster) {
      runs_.back().count += count;
    } else {
      runs_.push_back({cluster, count});
    }
  }
  void sort() { std::ranges::sort(runs_, {}, &ClusterRun::first); }
  void clear() { runs_.clear(); }
  [[nodiscard]] std::size_t size() const { return runs_.size(); }
  [[nodiscard]] bool empty() const { return runs_.empty(); }
  [[nodiscard]] const std::vector<ClusterRun>& runs() const { return runs_; }

 private:
  std::vector<ClusterRun> runs_;
};

// A set: one bit a cluster, in pieces that exist once a cluster of theirs is a member. Neighbours
// are asked for one after the other most of the time, so the piece that was asked for last is
// remembered; that makes contains() a change, as far as threads are concerned.
class ClusterSet {
 public:
  ClusterSet() = default;
  ClusterSet(const ClusterSet&) = delete;
  ClusterSet& operator=(const ClusterSet&) = delete;

  // False when it was a member already.
  bool insert(uint64_t cluster) {
    if (last_ == nullptr || last_number_ != cluster / kPiece) {
      last_ = &pieces_[cluster / kPiece];
      last_number_ = cluster / kPiece;
    }
    uint64_t& word = (*last_)[cluster % kPiece / 64];
    const uint64_t bit = uint64_t{1} << (cluster % 64);
    const bool added = (word & bit) == 0;
    word |= bit;
    return added;
  }
  [[nodiscard]] bool contains(uint64_t cluster) {
    if (pieces_.empty()) {
      return false;
    }
    if (last_ == nullptr || last_number_ != cluster / kPiece) {
      const auto piece = pieces_.find(cluster / kPiece);
      if (piece == pieces_.end()) {
        return false;
      }
      last_ = &piece->second;
      last_number_ = cluster / kPiece;
    }
    return ((*last_)[cluster % kPiece / 64] >> (cluster % 64) & 1) != 0;
  }
  [[nodiscard]] bool empty() const { return pieces_.empty(); }

 private:
  static constexpr uint64_t kPiece = 4096;
  using Piece = std::array<uint64_t, kPiece / 64>;
  std::unordered_map<uint64_t, Piece> pieces_;  // references to them stay valid
  Piece* last_ = nullptr;
  uint64_t last_number_ = 0;
};

}  // namespace cairn::qcow2
