#include "exports/fuse/session.h"

#include <poll.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "io/operation.h"

namespace cairn::fuse {

std::span<std::byte> Session::Incoming::room() { return buffer.span().subspan(kPage - kWriteHead); }

std::span<std::byte> Session::Incoming::data() { return buffer.span().subspan(kPage); }

Session::Session(int descriptor, FileRequests& requests, MakeQueues make_queues)
    : descriptor_(descriptor), requests_(requests), make_queues_(std::move(make_queues)) {}

io::Task<void> Session::run(io::CancelToken stop) {
  stop_ = stop;
  co_await serve(stop);
  co_await tasks_.join();
  queues_.reset();  // on the thread that has used them
}

Result<io::AlignedBuffer> Session::take_buffer() {
  if (spare_.empty()) {
    return io::AlignedBuffer::allocate(kPage + kLargestWrite);
  }
  io::AlignedBuffer buffer = std::move(spare_.back());
  spare_.pop_back();
  return buffer;
}

void Session::keep_buffer(io::AlignedBuffer buffer) {
  if (spare_.size() < kSpareBuffers) {
    spare_.push_back(std::move(buffer));
  }
}

io::Task<void> Session::serve(io::CancelToken stop) {
  while (!stop.cancelled()) {
    Incoming incoming;
    incoming.place = co_await places_.acquire();
    Result<io::AlignedBuffer> buffer = take_buffer();
    if (!buffer) {
      co_return;  // the kernel's requests end with errors when the export is removed
    }
    incoming.buffer = std::move(*buffer);
    const bool received = co_await receive(incoming, stop);
    if (!received) {
      co_return;
    }
    tasks_.spawn(handle(std::move(incoming)));
  }
}

io::Task<bool> Session::receive(Incoming& incoming, io::CancelToken stop) {
  const std::span<std::byte> room = incoming.room();
  while (!stop.cancelled()) {
    const ssize_t length = ::read(descriptor_, room.data(), room.size());
    if (length > 0) {
      incoming.length = static_cast<std::size_t>(length);
      co_return true;
    }
    // ENOENT: the request was given up while it was read. ENODEV: the file system is unmounted.
    const int error = length < 0 ? errno : ENODEV;
    if (error == EINTR || error == ENOENT) {
      continue;
    }
    if (error != EAGAIN) {
      co_return false;
    }
    const io::OperationRequest request{
        .kind = io::OperationRequest::Kind::kPoll, .fd = descriptor_, .flags = POLLIN};
    const int64_t ready = co_await io::OperationAwaiter(request, stop);
    if (ready < 0) {
      co_return false;
    }
  }
  co_return false;
}

io::Task<void> Session::handle(Incoming incoming) {
  const std::optional<Request> request = Request::parse(incoming.room().first(incoming.length));
  if (request && request->opcode() == FUSE_INIT) {
    initialise(*request);
  } else if (request) {
    const std::span<std::byte> data = incoming.data();
    auto serving = requests_.serve(*request, data);
    const Reply reply = co_await std::move(serving);
    if (reply.wanted) {
      answer(*request, reply.code, data.first(reply.length));
    }
  }
  keep_buffer(std::move(incoming.buffer));
}

void Session::initialise(const Request& request) {
  const auto offer = read_offer(request);
  if (offer && offers_ring(*offer) && queues_ == nullptr) {
    if (auto made = make_queues_()) {
      queues_ = std::move(*made);
    }
  }
  const auto reply = offer ? negotiate(*offer, queues_ != nullptr) : std::nullopt;
  if (!reply) {
    answer(request, EPROTO);
    return;
  }
  answer(request, 0, std::as_bytes(std::span(&*reply, 1)));
  // From here on the kernel waits for them.
  if (queues_ != nullptr && offers_ring(*offer)) {
    tasks_.spawn(queues_->run(stop_));
  }
}

// `code` is an errno, 0 for success; the bytes belong to a success.
void Session::answer(const Request& request, int code, std::span<const std::byte> bytes) {
  fuse_out_header header{};
  header.unique = request.unique();
  header.error = -code;
  header.len = static_cast<uint32_t>(sizeof header + bytes.size());
  // writev() wants pointers that could be written through.
  std::array<iovec, 2> parts = {iovec{&header, sizeof header},
                                iovec{const_cast<std::byte*>(bytes.data()), bytes.size()}};
  // It never blocks. It fails when the request was given up, or the mount is gone: nobody waits.
  [[maybe_unused]] const ssize_t written = writev(descriptor_, parts.data(), bytes.empty() ? 1 : 2);
}

}  // namespace cairn::fuse
