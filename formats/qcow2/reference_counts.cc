// Counting references in bounded memory.
#include "formats/qcow2/reference_counts.h"

#include <algorithm>

namespace cairn::qcow2 {

ReferenceCounts::Piece* ReferenceCounts::find(uint64_t index) const {
  if (index != last_index_) {
    const auto piece = pieces_.find(index);
    last_ = piece == pieces_.end() ? nullptr : piece->second.get();
    last_index_ = index;
  }
  return last_;
}

uint64_t ReferenceCounts::add(uint64_t cluster, Flag flag) {
  const uint64_t index = cluster / kPiece;
  Piece* piece = find(index);
  if (piece == nullptr) {
    if (pieces_.size() >= kMaxPieces) {
      return 0;
    }
    piece = pieces_.emplace(index, std::make_unique<Piece>()).first->second.get();
    last_ = piece;
  }
  uint8_t& entry = (*piece)[cluster % kPiece];
  entry |= static_cast<uint8_t>(flag);
  const uint8_t count = entry & kLarge;
  if (count < kLarge - 1) {
    ++entry;
    return uint64_t{count} + 1;
  }
  entry |= kLarge;
  return ++large_.try_emplace(cluster, count).first->second;
}

uint64_t ReferenceCounts::get(uint64_t cluster) const {
  const Piece* piece = find(cluster / kPiece);
  if (piece == nullptr) {
    return 0;
  }
  const uint8_t count = (*piece)[cluster % kPiece] & kLarge;
  return count < kLarge ? count : large_.at(cluster);
}

bool ReferenceCounts::has(uint64_t cluster, Flag flag) const {
  const Piece* piece = find(cluster / kPiece);
  return piece != nullptr && ((*piece)[cluster % kPiece] & static_cast<uint8_t>(flag)) != 0;
}

uint64_t ReferenceCounts::next(uint64_t cluster) const {
  const auto piece = pieces_.lower_bound(cluster / kPiece);
  return piece == pieces_.end() ? UINT64_MAX : std::max(cluster, piece->first * kPiece);
}

}  // namespace cairn::qcow2
