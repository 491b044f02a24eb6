#include "block/dirty_bitmap.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cerrno>
#include <utility>

#include "base/bytes.h"

namespace cairn::block {

DirtyBitmap::DirtyBitmap(std::string name, uint32_t granularity, uint64_t length)
    : name_(std::move(name)),
      shift_(static_cast<unsigned>(std::countr_zero(granularity))),
      length_(length),
      bits_(bits_for(length)) {
  assert(good_granularity(granularity));
}

bool DirtyBitmap::good_granularity(uint64_t granularity) {
  return std::has_single_bit(granularity) && granularity >= kLeastGranularity &&
         granularity <= kMostGranularity;
}

uint64_t DirtyBitmap::bits_for(uint64_t length) const {
  return div_round_up(length, uint64_t{1} << shift_);
}

void DirtyBitmap::set_inconsistent() {
  inconsistent_ = true;
  bits_.clear_all();
}

Result<void> DirtyBitmap::check(BitmapTolerance tolerance) const {
  if (busy()) {
    return fail(EBUSY, "Bitmap '{}' is currently in use by another operation and cannot be used",
                name_);
  }
  if (read_only_ && !tolerance.read_only) {
    return fail(EPERM, "Bitmap '{}' is readonly and cannot be modified", name_);
  }
  if (inconsistent_ && !tolerance.inconsistent) {
    return std::unexpected(
        Error(EINVAL, fmt::format("Bitmap '{}' is inconsistent and cannot be used", name_))
            .with_hint("Try block-dirty-bitmap-remove to delete this bitmap from disk"));
  }
  return {};
}

void DirtyBitmap::mark(uint64_t offset, uint64_t length) {
  if (length != 0 && offset < length_) {
    const uint64_t last = offset + std::min(length, length_ - offset) - 1;
    SparseBits& bits = aside_ ? *aside_ : bits_;
    bits.set(offset >> shift_, (last >> shift_) - (offset >> shift_) + 1);
  }
}

void DirtyBitmap::unmark(uint64_t offset, uint64_t length) {
  if (offset >= length_) {
    return;
  }
  const uint64_t end = offset + std::min(length, length_ - offset);
  const uint64_t first = bits_for(offset);
  const uint64_t bits_end = end == length_ ? bits_.size() : end >> shift_;
  if (first < bits_end) {
    bits_.clear(first, bits_end - first);
    ++losses_;
  }
}

std::optional<uint64_t> DirtyBitmap::next_marked(uint64_t from, uint64_t end) const {
  end = std::min(end, length_);
  const auto bit = bits_.next_set(from >> shift_, bits_for(end));
  return bit && from < end ? std::optional(std::max(from, *bit << shift_)) : std::nullopt;
}

std::optional<uint64_t> DirtyBitmap::next_unmarked(uint64_t from, uint64_t end) const {
  end = std::min(end, length_);
  const auto bit = bits_.next_clear(from >> shift_, bits_for(end));
  return bit && from < end ? std::optional(std::max(from, *bit << shift_)) : std::nullopt;
}

void DirtyBitmap::gather_aside() {
  assert(!aside_);
  aside_.emplace(bits_.size());
}

void DirtyBitmap::merge_aside() {
  bits_.merge(*aside_);
  aside_.reset();
}

void DirtyBitmap::adopt_aside() {
  bits_ = std::move(*aside_);
  aside_.reset();
  ++losses_;
}

SparseBits DirtyBitmap::everything() const {
  SparseBits all = bits_;
  if (aside_) {
    all.merge(*aside_);
  }
  return all;
}

void DirtyBitmap::resize(uint64_t length) {
  length_ = length;
  bits_.resize(bits_for(length));
  if (aside_) {
    aside_->resize(bits_for(length));
  }
}

void DirtyBitmap::merge(const DirtyBitmap& other) {
  assert(length_ == other.length_);
  if (shift_ == other.shift_) {
    bits_.merge(other.bits_);
    return;
  }
  // Runs of the other's bits; they are few, or as short as its granules.
  const SparseBits& from = other.bits_;
  for (auto begin = from.next_set(0, from.size()); begin;) {
    const uint64_t end = from.next_clear(*begin, from.size()).value_or(from.size());
    mark(*begin << other.shift_, (end - *begin) << other.shift_);
    begin = from.next_set(end, from.size());
  }
}

Result<void> check_mergeable(const DirtyBitmap& target, const DirtyBitmap& source) {
  if (target.length() != source.length()) {
    return fail(EINVAL,
                "Bitmaps are of different sizes (destination size is {}, source size is {}) and "
                "can't be merged",
                target.length(), source.length());
  }
  return {};
}

DirtyBitmap* DirtyBitmaps::find(std::string_view name) const {
  const auto found =
      std::ranges::find_if(bitmaps_, [name](const auto& bitmap) { return bitmap->name() == name; });
  return found == bitmaps_.end() ? nullptr : found->get();
}

Result<DirtyBitmap*> DirtyBitmaps::get(std::string_view name) const {
  DirtyBitmap* found = find(name);
  if (found == nullptr) {
    return fail(ENOENT, "Dirty bitmap '{}' not found", name);
  }
  return found;
}

DirtyBitmap& DirtyBitmaps::add(std::unique_ptr<DirtyBitmap> bitmap) {
  bitmaps_.push_back(std::move(bitmap));
  return *bitmaps_.back();
}

void DirtyBitmaps::remove(std::string_view name) {
  std::erase_if(bitmaps_, [name](const auto& bitmap) { return bitmap->name() == name; });
}

std::vector<std::unique_ptr<DirtyBitmap>> DirtyBitmaps::take_persistent() {
  std::vector<std::unique_ptr<DirtyBitmap>> taken;
  for (auto& bitmap : bitmaps_) {
    if (bitmap->persistent()) {
      taken.push_back(std::move(bitmap));
    }
  }
  std::erase(bitmaps_, nullptr);
  return taken;
}

void DirtyBitmaps::mark(uint64_t offset, uint64_t length, uint64_t node_length) {
  for (const auto& bitmap : bitmaps_) {
    // A format makes the file below it longer by writing.
    if (bitmap->length() != node_length) {
      bitmap->resize(node_length);
    }
    if (bitmap->recording()) {
      bitmap->mark(offset, length);
    }
  }
}

void DirtyBitmaps::resize(uint64_t length) {
  for (const auto& bitmap : bitmaps_) {
    bitmap->resize(length);
  }
}

}  // namespace cairn::block
