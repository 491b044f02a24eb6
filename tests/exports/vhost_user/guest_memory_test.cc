// Shared memory: regions, and what happens when it is cut short.
#include "exports/vhost_user/guest_memory.h"

#include <fcntl.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <cstring>

#include "tests/exports/vhost_user/guest.h"

namespace cairn::vhost_user {
namespace {

TEST(GuestMemory, IsFoundByEitherAddress) {
  Guest guest;
  GuestMemory memory;
  guest.share_with(memory);
  EXPECT_NE(memory.at_user(Guest::kUser + 4096, Guest::kSize - 4096), nullptr);
  EXPECT_EQ(memory.at_user(Guest::kUser + 4096, Guest::kSize - 4095), nullptr);
  EXPECT_EQ(memory.at_user(Guest::kUser - 1, 1), nullptr);
  EXPECT_EQ(memory.at_user(Guest::kUser + 1, ~uint64_t{0}), nullptr);
  io::IoVector vector;
  EXPECT_TRUE(memory.append(vector, Guest::kBase, Guest::kSize));
  EXPECT_EQ(vector.size(), Guest::kSize);
}

TEST(GuestMemory, MayBeginAnywhereInItsFile) {
  Guest guest;
  *guest.at(5000) = std::byte{5};
  GuestMemory memory;
  MemoryRegion region = Guest::region();
  region.offset = 5000;
  region.size = 100;
  ASSERT_TRUE(memory.add(region, guest.fd()));
  EXPECT_EQ(*memory.at_user(Guest::kUser, 1), std::byte{5});
}

TEST(GuestMemory, RefusesRegionsThatCanNotBe) {
  Guest guest;
  const auto code = [&guest](MemoryRegion region, int fd = -1) {
    GuestMemory memory;
    const auto added = memory.add(region, fd < 0 ? guest.fd() : fd);
    EXPECT_TRUE(memory.empty() || added);
    return added ? 0 : added.error().code();
  };
  MemoryRegion region = Guest::region();
  EXPECT_EQ(code(region), 0);
  region.size = 0;
  EXPECT_EQ(code(region), EINVAL);
  region = Guest::region();
  region.size += 1;
  EXPECT_EQ(code(region), EINVAL) << "beyond the end of the file";
  region = Guest::region();
  region.offset = ~uint64_t{0};
  EXPECT_EQ(code(region), EINVAL);
  region = Guest::region();
  region.guest_address = ~uint64_t{0} - 5;
  EXPECT_EQ(code(region), EINVAL);
  region = Guest::region();
  region.user_address = ~uint64_t{0} - 5;
  EXPECT_EQ(code(region), EINVAL);
  region = Guest::region();
  region.size = uint64_t{1} << 50;
  EXPECT_EQ(code(region), ENOMEM);
  const io::Fd event(eventfd(0, 0));
  EXPECT_EQ(code(Guest::region(), event.get()), EINVAL);
  const io::Fd read_only(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  region = Guest::region();
  region.size = 4096;
  EXPECT_EQ(code(region, read_only.get()), EACCES);
}

TEST(GuestMemory, RefusesRegionsThatOverlap) {
  Guest guest;
  GuestMemory memory;
  guest.share_with(memory);
  MemoryRegion region = Guest::region();
  region.user_address += Guest::kSize;
  EXPECT_FALSE(memory.add(region, guest.fd()));
  region = Guest::region();
  region.guest_address += Guest::kSize - 1;
  region.user_address += Guest::kSize;
  EXPECT_FALSE(memory.add(region, guest.fd()));
  region.guest_address += 1;
  EXPECT_TRUE(memory.add(region, guest.fd()));
}

TEST(GuestMemory, RemovesARegionByItsAddresses) {
  Guest guest;
  GuestMemory memory;
  guest.share_with(memory);
  MemoryRegion region = Guest::region();
  region.user_address += 1;
  EXPECT_FALSE(memory.remove(region));
  EXPECT_TRUE(memory.remove(Guest::region()));
  EXPECT_TRUE(memory.empty());
  EXPECT_EQ(memory.at_user(Guest::kUser, 1), nullptr);
}

TEST(GuestMemory, HoldsNoMoreRegionsThanAreOffered) {
  Guest guest;
  GuestMemory memory;
  MemoryRegion region = Guest::region();
  region.size = 4096;
  for (std::size_t i = 0; i < kMostRegions; ++i) {
    ASSERT_TRUE(memory.add(region, guest.fd()));
    region.guest_address += 4096;
    region.user_address += 4096;
  }
  EXPECT_FALSE(memory.add(region, guest.fd()));
}

TEST(GuestMemory, ReadsAsZeroesWhenItWasCutShort) {
  Guest guest;
  std::memset(guest.at(0), 'x', Guest::kSize);
  GuestMemory memory;
  guest.share_with(memory);
  std::byte* const end = memory.at_user(Guest::kUser + Guest::kSize - 1, 1);
  ASSERT_EQ(*end, std::byte{'x'});
  EXPECT_FALSE(memory.faulted());
  ASSERT_EQ(ftruncate(guest.fd(), 4096), 0);
  const std::byte now = *static_cast<volatile std::byte*>(end);
  EXPECT_EQ(now, std::byte{0});
  EXPECT_TRUE(memory.faulted());
  *end = std::byte{1};  // and can be written, with no effect on anybody
  memory.clear();
  EXPECT_FALSE(memory.faulted());
}

}  // namespace
}  // namespace cairn::vhost_user
