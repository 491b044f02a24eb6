// Permissions: what a parent may do with a child, and what it lets others do meanwhile.
//
// The model is QEMU's: every edge uses some permissions and shares some; a graph is valid when each
// edge's used permissions are shared by all other edges to the same node.
#pragma once

#include <cstdint>
#include <string>

namespace cairn::block {

class PermissionSet {
 public:
  enum Bit : uint8_t {
    kConsistentRead = 1,  // what is read makes sense: not the middle of somebody's job
    kWrite = 2,           // change what the guest sees
    kWriteUnchanged = 4,  // write what is there already (copy-on-read, preallocation)
    kResize = 8,
  };

  constexpr PermissionSet() = default;
  constexpr PermissionSet(Bit bit) : bits_(bit) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] static constexpr PermissionSet none() { return {}; }
  [[nodiscard]] static constexpr PermissionSet all() { return from_bits(15); }

  [[nodiscard]] constexpr bool has(Bit bit) const { return (bits_ & bit) != 0; }
  [[nodiscard]] constexpr bool contains(PermissionSet other) const {
    return (other.bits_ & ~bits_) == 0;
  }
  [[nodiscard]] constexpr bool empty() const { return bits_ == 0; }
  [[nodiscard]] constexpr PermissionSet operator|(PermissionSet other) const {
    return from_bits(bits_ | other.bits_);
  }
  [[nodiscard]] constexpr PermissionSet operator&(PermissionSet other) const {
    return from_bits(bits_ & other.bits_);
  }
  [[nodiscard]] constexpr PermissionSet without(PermissionSet other) const {
    return from_bits(bits_ & ~other.bits_);
  }
  constexpr PermissionSet& operator|=(PermissionSet other) { return *this = *this | other; }
  constexpr PermissionSet& operator&=(PermissionSet other) { return *this = *this & other; }
  constexpr bool operator==(const PermissionSet&) const = default;

  // "consistent read, write", as messages name them.
  [[nodiscard]] std::string to_string() const;

 private:
  [[nodiscard]] static constexpr PermissionSet from_bits(int bits) {
    PermissionSet set;
    set.bits_ = static_cast<uint8_t>(bits);
    return set;
  }

  uint8_t bits_ = 0;
};

[[nodiscard]] constexpr PermissionSet operator|(PermissionSet::Bit a, PermissionSet::Bit b) {
  return PermissionSet(a) | PermissionSet(b);
}

// What one edge uses and what it shares.
struct Permissions {
  PermissionSet used;
  PermissionSet shared = PermissionSet::all();
  bool operator==(const Permissions&) const = default;
};

}  // namespace cairn::block
