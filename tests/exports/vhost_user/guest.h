// Guest: memory that a test shares with the device, and the driver's side of a split ring in it. It
// writes what it is told, so that it can say what a proper driver would not.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "exports/vhost_user/guest_memory.h"
#include "exports/vhost_user/ring.h"
#include "exports/vhost_user/virtio.h"
#include "io/fd.h"

namespace cairn::vhost_user {

class Guest {
 public:
  static constexpr uint64_t kBase = 0x40000000;  // where the guest sees it
  static constexpr uint64_t kUser = 0x7f0000000000;
  static constexpr uint64_t kSize = 1 << 20;
  static constexpr uint16_t kPlaces = 8;
  // Where the parts of the ring are, from the beginning of the memory, and what is free.
  static constexpr uint64_t kDescriptors = 0;
  static constexpr uint64_t kAvailable = 4096;
  static constexpr uint64_t kUsed = 8192;
  static constexpr uint64_t kFree = 16384;
  // What is free, as the guest sees it, and room for a table in it.
  static constexpr uint64_t kData = kBase + kFree;
  static constexpr uint64_t kTable = kFree + 65536;

  Guest() : file_(memfd_create("guest", MFD_CLOEXEC)) {
    EXPECT_EQ(ftruncate(file_.get(), kSize), 0);
    auto* const place = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
    EXPECT_NE(place, MAP_FAILED);
    bytes_ = static_cast<std::byte*>(place);
  }
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;
  ~Guest() { munmap(bytes_, kSize); }

  [[nodiscard]] int fd() const { return file_.get(); }
  [[nodiscard]] std::byte* at(uint64_t offset) { return bytes_ + offset; }
  [[nodiscard]] static MemoryRegion region() {
    return {.guest_address = kBase, .size = kSize, .user_address = kUser, .offset = 0};
  }
  void share_with(GuestMemory& memory) { ASSERT_TRUE(memory.add(region(), fd())); }

  void describe(uint64_t table, uint16_t index, uint64_t address, uint32_t length, uint16_t flags,
                uint16_t next = 0) {
    std::byte* const place = at(table + uint64_t{16} * index);
    store_le(place, address);
    store_le(place + 8, length);
    store_le(place + 12, flags);
    store_le(place + 14, next);
  }
  void make_available(uint16_t head) {
    store_le(at(kAvailable + 4 + uint64_t{2} * (available_ % kPlaces)), head);
    ++available_;
    store_le(at(kAvailable + 2), available_);
  }
  void set_available(uint16_t index) {
    available_ = index;
    store_le(at(kAvailable + 2), index);
  }
  [[nodiscard]] uint16_t used_index() { return load_le<uint16_t>(at(kUsed + 2)); }
  [[nodiscard]] uint32_t used_head(uint16_t place) {
    return load_le<uint32_t>(at(kUsed + 4 + uint64_t{8} * (place % kPlaces)));
  }
  [[nodiscard]] uint32_t used_length(uint16_t place) {
    return load_le<uint32_t>(at(kUsed + 8 + uint64_t{8} * (place % kPlaces)));
  }
  // The place at which the driver wants to be told.
  void set_used_event(uint16_t place) { store_le(at(kAvailable + 4 + 2 * kPlaces), place); }
  [[nodiscard]] uint16_t available_event() {
    return load_le<uint16_t>(at(kUsed + 4 + 8 * kPlaces));
  }

 private:
  io::Fd file_;
  std::byte* bytes_ = nullptr;
  uint16_t available_ = 0;
};

}  // namespace cairn::vhost_user
