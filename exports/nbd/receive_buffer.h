// ReceiveBuffer: what has arrived on a connection and is not taken yet.
//
// One receive call brings as many requests as the client has sent. Small payloads are used where
// they lie: a request that does so holds a Chunk::Ref, and memory that is referred to is not
// written to again. How much is asked for at once adapts to the client: the window grows while the
// client fills it, and shrinks when it swallowed a large payload that should have gone straight to
// its own buffer.
//
// Invariant: begin_ <= end_ <= kCapacity; the bytes between them are those of the stream that come
// next. There is no memory while none is needed (release()).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "exports/nbd/buffer_pool.h"

namespace cairn::nbd {

class ReceiveBuffer {
 public:
  static constexpr std::size_t kCapacity = std::size_t{256} * 1024;
  static constexpr std::size_t kMinWindow = std::size_t{4} * 1024;
  static constexpr std::size_t kMaxWindow = std::size_t{64} * 1024;
  // Payloads above this go to a buffer of their own.
  static constexpr std::size_t kMaxInPlace = std::size_t{64} * 1024;

  // Counted references to one piece of memory, on one thread.
  class Chunk {
   public:
    class Ref {
     public:
      Ref() = default;
      explicit Ref(Chunk* chunk) : chunk_(chunk) { retain(); }
      Ref(const Ref& other) : chunk_(other.chunk_) { retain(); }
      Ref(Ref&& other) noexcept : chunk_(std::exchange(other.chunk_, nullptr)) {}
      Ref& operator=(Ref other) noexcept {
        std::swap(chunk_, other.chunk_);
        return *this;
      }
      ~Ref() {
        if (chunk_ != nullptr && --chunk_->references_ == 0) {
          delete chunk_;
        }
      }
      [[nodiscard]] explicit operator bool() const { return chunk_ != nullptr; }
      [[nodiscard]] std::byte* data() const { return chunk_->memory_.data(); }
      [[nodiscard]] bool shared() const { return chunk_->references_ > 1; }

     private:
      void retain() {
        if (chunk_ != nullptr) {
          ++chunk_->references_;
        }
      }
      Chunk* chunk_ = nullptr;
    };

    // Empty when there is no memory.
    [[nodiscard]] static Ref make(BufferPool& pool);

   private:
    explicit Chunk(BufferPool::Lease memory) : memory_(std::move(memory)) {}
    BufferPool::Lease memory_;
    std::size_t references_ = 0;
  };

  explicit ReceiveBuffer(BufferPool& pool) : pool_(pool) {}

  // What has arrived and is not consumed.
  [[nodiscard]] std::span<const std::byte> bytes() const {
    return chunk_ ? std::span<const std::byte>(chunk_.data() + begin_, end_ - begin_)
                  : std::span<const std::byte>();
  }
  void consume(std::size_t count) { begin_ += count; }

  // Keeps the memory behind bytes() as it is.
  [[nodiscard]] Chunk::Ref hold() const { return chunk_; }

  // Where to receive into, so that bytes() can grow to `wanted` (at most kCapacity) in one piece.
  // Empty when there is no memory. Moves bytes().
  [[nodiscard]] std::span<std::byte> prepare(std::size_t wanted);
  void received(std::size_t count);

  // The last receive call swallowed `count` bytes of a large payload.
  void swallowed(std::size_t count) {
    if (count > kMinWindow) {
      window_ = kMinWindow;
    }
  }

  // Gives the memory back if there is nothing in it.
  void release();

 private:
  static constexpr std::size_t kFirstWindow = std::size_t{16} * 1024;

  [[nodiscard]] bool start_chunk();

  BufferPool& pool_;
  Chunk::Ref chunk_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t window_ = kFirstWindow;
  std::size_t offered_ = 0;
};

}  // namespace cairn::nbd
