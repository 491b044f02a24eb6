// FrontEnd: the other side of a vhost-user-blk export, as small as a load generator needs it:
// memory that both share, split rings in it, and requests of one size that are begun and completed.
//
// Invariants
// - Slot i of a queue has its own descriptors, header, data and status, so that a request costs
//   nothing to make ready but its sector.
// - What goes wrong ends the program, with a word about it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/fd.h"

namespace cairn::bench {

// Memory that is shared with the device, and where the next piece of it is.
class SharedMemory {
 public:
  explicit SharedMemory(std::size_t size);
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory();

  [[nodiscard]] int fd() const { return file_.get(); }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::byte* at(uint64_t offset) const { return base_ + offset; }
  // The offset of so many bytes, on a page of their own.
  [[nodiscard]] uint64_t take(std::size_t bytes);

 private:
  io::Fd file_;
  std::size_t size_;
  std::size_t taken_ = 0;
  std::byte* base_ = nullptr;
};

// One queue, used by one thread.
class LoadQueue {
 public:
  LoadQueue(SharedMemory& memory, uint16_t depth, uint32_t bytes, bool writes);

  [[nodiscard]] uint16_t places() const { return places_; }
  [[nodiscard]] uint64_t descriptors() const { return descriptors_; }
  [[nodiscard]] uint64_t available() const { return available_; }
  [[nodiscard]] uint64_t used() const { return used_; }
  [[nodiscard]] int kick() const { return kick_.get(); }
  [[nodiscard]] int call() const { return call_.get(); }
  [[nodiscard]] std::span<std::byte> data(uint16_t slot) const;

  // Begins the request of a slot; submit() tells the device, unless it looks by itself.
  void begin(uint16_t slot, uint64_t sector);
  void submit();
  // The slots whose requests are done, at least one. Sleeps, or looks on while it waits.
  std::span<const uint16_t> wait(bool spin);

 private:
  [[nodiscard]] bool collect();

  SharedMemory& memory_;
  const uint16_t depth_;
  const uint32_t bytes_;
  uint16_t places_;
  uint64_t descriptors_;
  uint64_t available_;
  uint64_t used_;
  uint64_t headers_;
  uint64_t statuses_;
  uint64_t data_;
  io::Fd kick_;
  io::Fd call_;
  uint16_t made_ = 0;
  uint16_t submitted_ = 0;
  uint16_t seen_ = 0;
  std::vector<uint16_t> done_;
};

class FrontEnd {
 public:
  // Connects and agrees on features.
  explicit FrontEnd(const std::string& path);

  // In bytes.
  [[nodiscard]] uint64_t capacity();
  void start(const SharedMemory& memory, const std::vector<std::unique_ptr<LoadQueue>>& queues);

 private:
  void send(uint32_t kind, std::span<const std::byte> payload, int descriptor = -1);
  [[nodiscard]] std::vector<std::byte> receive();
  [[nodiscard]] uint64_t ask(uint32_t kind);

  io::Fd socket_;
};

}  // namespace cairn::bench
