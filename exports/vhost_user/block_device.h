// BlockDevice: a node as a virtio block device (virtio 1.2, section 5.2): its features, its
// configuration space, and what requests do. Data goes straight between the guest's memory and the
// node.
//
// Invariants
// - Every field of a request is copied from the guest's memory once, and checked.
// - The status is the last byte that is written, after the data.
// - Requests are carried out on reactor(); everything else is called at home, where the node is.
//   What both look at does not change while requests are carried out, but for the cache's mode.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "block/node.h"
#include "exports/node_access.h"
#include "exports/vhost_user/chain.h"
#include "io/reactor.h"
#include "io/task.h"

namespace cairn::vhost_user {

struct DeviceSettings {
  bool writable = false;
  bool writethrough = false;
  uint32_t block_size = 512;
  uint16_t queues = 1;
  io::Reactor* thread = nullptr;  // where queues are worked on; null: at home
};

class BlockDevice {
 public:
  static constexpr std::size_t kConfigBytes = 60;
  using Config = std::array<std::byte, kConfigBytes>;

  // The edge outlives this, and so does the thread. At home.
  BlockDevice(block::Edge& root, DeviceSettings settings);
  BlockDevice(const BlockDevice&) = delete;
  BlockDevice& operator=(const BlockDevice&) = delete;
  ~BlockDevice() = default;

  [[nodiscard]] const DeviceSettings& settings() const { return settings_; }
  // Where queues are worked on.
  [[nodiscard]] io::Reactor& reactor() const { return away() ? *settings_.thread : home_; }
  [[nodiscard]] bool away() const { return settings_.thread != nullptr; }
  // What is offered, but for what rings and messages can do.
  [[nodiscard]] uint64_t features() const;
  // What the driver has agreed to.
  void set_features(uint64_t features) { features_ = features; }

  [[nodiscard]] Config config() const;
  // The driver changes what it may, the cache's mode. A migration brings all of it, of which the
  // rest follows from the node. Fails for what can not be changed.
  [[nodiscard]] Result<void> set_config(uint32_t offset, std::span<const std::byte> bytes,
                                        bool migration);

  // The length in sectors.
  [[nodiscard]] uint64_t capacity() const;

  // A chain that has no room for a header and a status is none of this device.
  [[nodiscard]] static Result<void> check(const Chain& chain);
  // Carries a request out that has passed check(), and sets its status. Returns how many bytes were
  // written from the beginning of the chain's memory on. The chain's memory stays until then.
  [[nodiscard]] io::Task<uint32_t> execute(Chain& chain);

 private:
  struct Header {
    uint32_t type;
    uint64_t sector;
  };

  [[nodiscard]] io::Task<uint8_t> carry_out(Header header, io::IoVector out, io::IoVector in);
  [[nodiscard]] io::Task<uint8_t> discard_or_zero(uint32_t type, io::IoVector out);
  [[nodiscard]] uint8_t identify(const io::IoVector& in) const;
  // Writes are to be durable before they are answered.
  [[nodiscard]] bool durable_writes() const;

  block::Edge& root_;
  const DeviceSettings settings_;
  io::Reactor& home_ = io::Reactor::current();
  const exports::NodeAccess node_;
  uint64_t features_ = 0;
  std::atomic<bool> cache_enabled_;  // the driver changes it at any time
};

}  // namespace cairn::vhost_user
