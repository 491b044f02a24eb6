// Coverage: which parts of a read have arrived.
//
// A server may send the chunks of a reply in any order, but each byte once and all of them
// ("NBD_CMD_READ"). What it leaves out would be memory that the caller never filled.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace cairn::nbd::client {

class Coverage {
 public:
  // Takes note of [offset, offset + length); false when a part of it was there already, or when
  // there are more separate pieces than any sensible server makes.
  [[nodiscard]] bool add(uint64_t offset, uint64_t length) {
    auto next = pieces_.lower_bound(offset);
    if (next != pieces_.end() && next->first - offset < length) {
      return false;
    }
    if (next != pieces_.begin()) {
      const auto previous = std::prev(next);
      if (previous->second > offset) {
        return false;
      }
      if (previous->second == offset) {
        previous->second = offset + length;
        join(previous, next);
        return true;
      }
    }
    if (pieces_.size() == kMaxPieces) {
      return false;
    }
    join(pieces_.emplace(offset, offset + length).first, next);
    return true;
  }

  // Whether [0, length) has arrived, and nothing else.
  [[nodiscard]] bool complete(uint64_t length) const {
    return pieces_.size() == 1 && pieces_.begin()->first == 0 && pieces_.begin()->second == length;
  }
  void clear() { pieces_.clear(); }

 private:
  using Pieces = std::map<uint64_t, uint64_t>;  // begin to end; they do not touch
  static constexpr std::size_t kMaxPieces = 4096;

  void join(Pieces::iterator piece, Pieces::iterator next) {
    if (next != pieces_.end() && next->first == piece->second) {
      piece->second = next->second;
      pieces_.erase(next);
    }
  }

  Pieces pieces_;
};

}  // namespace cairn::nbd::client
