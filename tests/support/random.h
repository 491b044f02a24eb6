// Random: the one source of chance of a test that has to replay from a seed.
//
// The sequence depends on the seed alone, not on the standard library, so that a seed printed on
// one machine replays on another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

namespace cairn::testing {

// A bijection of 64-bit integers that scatters its input (the finalizer of splitmix64).
[[nodiscard]] constexpr uint64_t scatter(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9U;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

// The inverse of scatter().
[[nodiscard]] constexpr uint64_t gather(uint64_t x) {
  x ^= (x >> 31) ^ (x >> 62);
  x *= 0x319642b2d24d8ec3U;
  x ^= (x >> 27) ^ (x >> 54);
  x *= 0x96de1b173f119089U;
  return x ^ (x >> 30) ^ (x >> 60);
}

class Random {
 public:
  explicit Random(uint64_t seed) : state_(scatter(seed + 0x9e3779b97f4a7c15U)) {}

  uint64_t next() { return scatter(state_ += 0x9e3779b97f4a7c15U); }

  // Uniform in [0, bound); `bound` is at least 1.
  uint64_t below(uint64_t bound) { return next() % bound; }
  // Uniform in [low, high].
  uint64_t between(uint64_t low, uint64_t high) { return low + below(high - low + 1); }
  // True `percent` times in a hundred.
  bool chance(unsigned percent) { return below(100) < percent; }

  // One of `items`, each as likely as the others.
  template <typename T>
  T pick(std::initializer_list<T> items) {
    return items.begin()[below(items.size())];
  }

  // An index into `weights`, as likely as its weight.
  std::size_t weighted(std::span<const unsigned> weights) {
    uint64_t total = 0;
    for (const unsigned weight : weights) {
      total += weight;
    }
    uint64_t point = below(total);
    std::size_t index = 0;
    while (point >= weights[index]) {
      point -= weights[index++];
    }
    return index;
  }

  // A generator of its own for a part of the work, so that one part's draws do not shift another's.
  Random fork() { return Random(next()); }

 private:
  uint64_t state_;
};

}  // namespace cairn::testing
