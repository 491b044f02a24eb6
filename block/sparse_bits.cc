#include "block/sparse_bits.h"

#include <algorithm>
#include <bit>
#include <cassert>

#include "base/bytes.h"

namespace cairn::block {

namespace {

// Bits first to end - 1 of a word; end - first is 1 to 64.
uint64_t mask(uint64_t first, uint64_t end) {
  return (~uint64_t{0} >> (64 - (end - first))) << first;
}

}  // namespace

SparseBits::SparseBits(const SparseBits& other) { *this = other; }

SparseBits& SparseBits::operator=(const SparseBits& other) {
  if (this != &other) {
    size_ = other.size_;
    count_ = other.count_;
    chunks_.clear();
    chunks_.resize(other.chunks_.size());
    for (std::size_t i = 0; i < chunks_.size(); ++i) {
      chunks_[i].set = other.chunks_[i].set;
      if (other.chunks_[i].words != nullptr) {
        chunks_[i].words = std::make_unique<Words>(*other.chunks_[i].words);
      }
    }
  }
  return *this;
}

uint32_t SparseBits::chunk_bits(uint64_t chunk) const {
  return static_cast<uint32_t>(std::min(kChunkBits, size_ - chunk * kChunkBits));
}

uint64_t SparseBits::word(uint64_t index) const {
  const uint64_t chunk = index / (kChunkBits / kWordBits);
  if (chunk >= chunks_.size() || chunks_[chunk].set == 0) {
    return 0;
  }
  if (chunks_[chunk].words != nullptr) {
    return (*chunks_[chunk].words)[index % (kChunkBits / kWordBits)];
  }
  const uint64_t first = index * kWordBits;
  return first >= size_ ? 0 : mask(0, std::min(kWordBits, size_ - first));
}

bool SparseBits::test(uint64_t index) const {
  return index < size_ && (word(index / kWordBits) >> (index % kWordBits) & 1) != 0;
}

void SparseBits::make_words(Chunk& chunk, uint64_t index) {
  auto words = std::make_unique<Words>();
  for (uint64_t i = 0; i < words->size(); ++i) {
    (*words)[i] = word(index * words->size() + i);
  }
  chunk.words = std::move(words);
}

// Gives the words back when all bits are alike.
void SparseBits::settle(Chunk& chunk, uint64_t index) {
  if (chunk.set == 0 || chunk.set == chunk_bits(index)) {
    chunk.words.reset();
  }
}

// Of one chunk, bits first to end - 1 counted from its start.
void SparseBits::change(uint64_t index, uint64_t first, uint64_t end, bool value) {
  Chunk& chunk = chunks_[index];
  const uint32_t whole = chunk_bits(index);
  if (chunk.set == (value ? whole : 0)) {
    return;
  }
  count_ -= chunk.set;
  if (first == 0 && end == whole) {
    chunk.set = value ? whole : 0;
    chunk.words.reset();
    count_ += chunk.set;
    return;
  }
  if (chunk.words == nullptr) {
    make_words(chunk, index);
  }
  for (uint64_t at = first; at < end;) {
    const uint64_t word_end = std::min(end, align_down(at, kWordBits) + kWordBits);
    uint64_t& target = (*chunk.words)[at / kWordBits];
    const uint64_t bits = mask(at % kWordBits, at % kWordBits + (word_end - at));
    const auto before = static_cast<uint32_t>(std::popcount(target));
    target = value ? target | bits : target & ~bits;
    chunk.set += static_cast<uint32_t>(std::popcount(target)) - before;
    at = word_end;
  }
  count_ += chunk.set;
  settle(chunk, index);
}

void SparseBits::change_range(uint64_t first, uint64_t length, bool value) {
  if (first >= size_) {
    return;
  }
  const uint64_t end = first + std::min(length, size_ - first);
  while (first < end) {
    const uint64_t chunk = first / kChunkBits;
    const uint64_t base = chunk * kChunkBits;
    const uint64_t here = std::min(end, base + kChunkBits);
    change(chunk, first - base, here - base, value);
    first = here;
  }
}

void SparseBits::set(uint64_t first, uint64_t length) {
  if (first >= size_ || length == 0) {
    return;
  }
  if (chunks_.empty()) {
    chunks_.resize(chunk_count());
  }
  change_range(first, length, true);
}

void SparseBits::clear(uint64_t first, uint64_t length) {
  if (!chunks_.empty()) {
    change_range(first, length, false);
  }
}

void SparseBits::clear_all() {
  chunks_ = std::vector<Chunk>();
  count_ = 0;
}

void SparseBits::resize(uint64_t size) {
  if (size == size_) {
    return;
  }
  if (size < size_) {
    clear(size, size_ - size);
  } else if (!chunks_.empty() && size_ % kChunkBits != 0) {
    // The last chunk grows: it may be full no more.
    const uint64_t last = size_ / kChunkBits;
    if (chunks_[last].set != 0 && chunks_[last].words == nullptr) {
      make_words(chunks_[last], last);
    }
  }
  size_ = size;
  if (!chunks_.empty()) {
    chunks_.resize(chunk_count());
    if (!chunks_.empty()) {
      settle(chunks_.back(), chunks_.size() - 1);
    }
  }
}

void SparseBits::merge(const SparseBits& other) {
  assert(size_ == other.size_);
  if (other.count_ == 0 || this == &other) {
    return;
  }
  chunks_.resize(chunk_count());
  for (uint64_t i = 0; i < chunks_.size(); ++i) {
    const Chunk& from = other.chunks_[i];
    Chunk& to = chunks_[i];
    if (from.set == 0 || to.set == chunk_bits(i)) {
      continue;
    }
    count_ -= to.set;
    if (from.words == nullptr) {
      to.words.reset();
      to.set = from.set;
    } else if (to.set == 0) {
      to.words = std::make_unique<Words>(*from.words);
      to.set = from.set;
    } else {
      to.set = 0;
      for (std::size_t w = 0; w < to.words->size(); ++w) {
        (*to.words)[w] |= (*from.words)[w];
        to.set += static_cast<uint32_t>(std::popcount((*to.words)[w]));
      }
    }
    count_ += to.set;
    settle(to, i);
  }
}

std::optional<uint64_t> SparseBits::next(uint64_t from, uint64_t end, bool value) const {
  end = std::min(end, size_);
  while (from < end) {
    const uint64_t chunk = from / kChunkBits;
    const uint32_t set = chunk < chunks_.size() ? chunks_[chunk].set : 0;
    const bool none = value ? set == 0 : set == chunk_bits(chunk);
    if (none) {
      from = (chunk + 1) * kChunkBits;
      continue;
    }
    const uint64_t bits = word(from / kWordBits);
    const uint64_t found = (value ? bits : ~bits) >> (from % kWordBits);
    if (found == 0) {
      from = align_down(from, kWordBits) + kWordBits;
      continue;
    }
    from += static_cast<uint64_t>(std::countr_zero(found));
    return from < end ? std::optional(from) : std::nullopt;
  }
  return std::nullopt;
}

std::optional<uint64_t> SparseBits::next_set(uint64_t from, uint64_t end) const {
  return next(from, end, true);
}

std::optional<uint64_t> SparseBits::next_clear(uint64_t from, uint64_t end) const {
  return next(from, end, false);
}

void SparseBits::merge_word(uint64_t index, uint64_t bits) {
  const uint64_t first = index * kWordBits;
  if (first >= size_) {
    return;
  }
  bits &= mask(0, std::min(kWordBits, size_ - first));
  const uint64_t missing = bits & ~word(index);
  if (missing == 0) {
    return;
  }
  if (chunks_.empty()) {
    chunks_.resize(chunk_count());
  }
  const uint64_t number = first / kChunkBits;
  Chunk& chunk = chunks_[number];
  if (chunk.words == nullptr) {
    make_words(chunk, number);
  }
  (*chunk.words)[index % chunk.words->size()] |= missing;
  const auto added = static_cast<uint32_t>(std::popcount(missing));
  chunk.set += added;
  count_ += added;
  settle(chunk, number);
}

void SparseBits::merge_bytes(uint64_t first, std::span<const std::byte> bytes) {
  assert(first % kWordBits == 0);
  for (std::size_t i = 0; i < bytes.size(); i += sizeof(uint64_t)) {
    std::array<std::byte, sizeof(uint64_t)> raw{};
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(i),
                std::min(raw.size(), bytes.size() - i), raw.begin());
    const auto bits = load_le<uint64_t>(raw.data());
    if (bits != 0) {
      merge_word((first + i * 8) / kWordBits, bits);
    }
  }
}

void SparseBits::copy_bytes(uint64_t first, std::span<std::byte> bytes) const {
  assert(first % 8 == 0);
  for (std::size_t i = 0; i < bytes.size();) {
    const uint64_t at = first + i * 8;
    std::array<std::byte, 8> word_bytes{};
    store_le(word_bytes.data(), word(at / kWordBits));
    const std::size_t skip = at % kWordBits / 8;
    const std::size_t here = std::min(bytes.size() - i, word_bytes.size() - skip);
    std::copy_n(word_bytes.begin() + static_cast<std::ptrdiff_t>(skip), here,
                bytes.begin() + static_cast<std::ptrdiff_t>(i));
    i += here;
  }
}

}  // namespace cairn::block
