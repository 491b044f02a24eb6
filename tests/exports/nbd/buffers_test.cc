// The buffer pool and the receive buffer.
#include <cstring>

#include <gtest/gtest.h>

#include "exports/nbd/buffer_pool.h"
#include "exports/nbd/receive_buffer.h"

namespace cairn::nbd {
namespace {

void put(ReceiveBuffer& buffer, std::string_view text, std::size_t wanted = 1) {
  const std::span<std::byte> memory = buffer.prepare(wanted);
  ASSERT_GE(memory.size(), text.size());
  std::memcpy(memory.data(), text.data(), text.size());
  buffer.received(text.size());
}

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(BufferPoolTest, RoundsUpAndReusesTheWarmest) {
  BufferPool pool;
  std::byte* first = nullptr;
  {
    BufferPool::Lease lease = pool.take(5000);
    EXPECT_EQ(lease.capacity(), 8192U);
    first = lease.data();
  }
  EXPECT_EQ(pool.idle_bytes(), 8192U);
  BufferPool::Lease again = pool.take(8192);
  EXPECT_EQ(again.data(), first);
  EXPECT_EQ(pool.idle_bytes(), 0U);
}

TEST(BufferPoolTest, KeepsNoMoreThanItsLimit) {
  BufferPool pool;
  {
    BufferPool::Lease a = pool.take(std::size_t{32} << 20);
    BufferPool::Lease b = pool.take(BufferPool::kMaxIdle);
    BufferPool::Lease c = pool.take(4096);
  }
  EXPECT_LE(pool.idle_bytes(), BufferPool::kMaxIdle);
  pool.trim();
  EXPECT_EQ(pool.idle_bytes(), 0U);
}

TEST(BufferPoolTest, ALeaseGoesBackOnce) {
  BufferPool pool;
  BufferPool::Lease a = pool.take(4096);
  BufferPool::Lease b = std::move(a);
  a = {};
  EXPECT_EQ(pool.idle_bytes(), 0U);
  b = {};
  EXPECT_EQ(pool.idle_bytes(), 4096U);
}

TEST(ReceiveBufferTest, HasNoMemoryBeforeItIsNeeded) {
  BufferPool pool;
  ReceiveBuffer buffer(pool);
  EXPECT_TRUE(buffer.bytes().empty());
  put(buffer, "abc");
  EXPECT_EQ(text_of(buffer.bytes()), "abc");
  buffer.release();  // not while something is in it
  EXPECT_EQ(text_of(buffer.bytes()), "abc");
  buffer.consume(3);
  buffer.release();
  EXPECT_EQ(pool.idle_bytes(), ReceiveBuffer::kCapacity);
}

TEST(ReceiveBufferTest, StartsAtTheFrontAgainWhenItIsEmpty) {
  BufferPool pool;
  ReceiveBuffer buffer(pool);
  put(buffer, "abc");
  const std::byte* const front = buffer.bytes().data();
  buffer.consume(3);
  put(buffer, "def");
  EXPECT_EQ(buffer.bytes().data(), front);
}

TEST(ReceiveBufferTest, DoesNotOverwriteWhatIsHeld) {
  BufferPool pool;
  ReceiveBuffer buffer(pool);
  put(buffer, "held");
  const std::span<const std::byte> held = buffer.bytes();
  ReceiveBuffer::Chunk::Ref hold = buffer.hold();
  buffer.consume(4);
  // Far more than one chunk passes through meanwhile.
  for (int i = 0; i < 200; ++i) {
    put(buffer, std::string(4000, 'x'));
    buffer.consume(4000);
  }
  EXPECT_EQ(text_of(held), "held");
}

TEST(ReceiveBufferTest, KeepsAPartialMessageInOnePiece) {
  BufferPool pool;
  ReceiveBuffer buffer(pool);
  // Grow the window, then leave a beginning near the end of the chunk.
  std::size_t taken = 0;
  while (taken + 70000 < ReceiveBuffer::kCapacity) {
    const std::span<std::byte> memory = buffer.prepare(1);
    std::memset(memory.data(), 'x', memory.size());
    buffer.received(memory.size());
    taken += memory.size();
    buffer.consume(memory.size() - 5);
    const std::span<std::byte> more = buffer.prepare(6 + ReceiveBuffer::kMaxInPlace);
    ASSERT_GE(more.size(), 1 + ReceiveBuffer::kMaxInPlace);
    more[0] = std::byte{'!'};
    buffer.received(1);
    EXPECT_EQ(text_of(buffer.bytes()), "xxxxx!");
    buffer.consume(6);
  }
}

TEST(ReceiveBufferTest, TheWindowFollowsTheClient) {
  BufferPool pool;
  ReceiveBuffer buffer(pool);
  const std::size_t first = buffer.prepare(1).size();
  buffer.received(first);
  buffer.consume(first);
  const std::size_t second = buffer.prepare(1).size();
  EXPECT_EQ(second, 2 * first);
  buffer.received(1);
  buffer.consume(1);
  EXPECT_EQ(buffer.prepare(1).size(), second);
  buffer.received(1);
  buffer.consume(1);
  buffer.swallowed(100000);
  EXPECT_EQ(buffer.prepare(1).size(), ReceiveBuffer::kMinWindow);
}

}  // namespace
}  // namespace cairn::nbd
