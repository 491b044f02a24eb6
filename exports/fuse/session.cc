#include "exports/fuse/session.h"

#include <poll.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "io/operation.h"

namespace cairn::fuse {
namespace {

// For how long the kernel may take what it was told of the file for true, in seconds.
constexpr uint64_t kAttributesHold = 1;

bool wants_no_answer(uint32_t opcode) {
  return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_INTERRUPT;
}

}  // namespace

std::span<std::byte> Session::Incoming::room() { return buffer.span().subspan(kPage - kWriteHead); }

std::span<std::byte> Session::Incoming::data() { return buffer.span().subspan(kPage); }

Session::Session(int descriptor, ExportedFile& file, const exports::NodeAccess& home)
    : descriptor_(descriptor), file_(file), home_(home) {}

io::Task<void> Session::run(io::CancelToken stop) {
  co_await serve(stop);
  co_await tasks_.join();
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
    if (!co_await receive(incoming, stop)) {
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
  if (request) {
    co_await dispatch(*request, incoming.data());
  }
  keep_buffer(std::move(incoming.buffer));
}

io::Task<void> Session::dispatch(Request request, std::span<std::byte> data) {
  switch (request.opcode()) {
    case FUSE_GETATTR:
      co_await answer_attributes(request);
      break;
    case FUSE_SETATTR:
      co_await set_attributes(request);
      break;
    case FUSE_READ:
      co_await read(request, data);
      break;
    case FUSE_WRITE:
      co_await write(request, data);
      break;
    case FUSE_FLUSH:
    case FUSE_FSYNC:
      co_await flush(request);
      break;
    case FUSE_FALLOCATE:
      co_await allocate(request);
      break;
    case FUSE_LSEEK:
      co_await seek(request);
      break;
    default:
      if (!answer_at_once(request) && !wants_no_answer(request.opcode())) {
        answer(request, ENOSYS);
      }
      break;
  }
}

bool Session::answer_at_once(const Request& request) {
  switch (request.opcode()) {
    case FUSE_INIT:
      initialise(request);
      return true;
    case FUSE_OPEN:
      answer_with(request, fuse_open_out{});
      return true;
    case FUSE_RELEASE:
    case FUSE_DESTROY:
      answer(request, 0);
      return true;
    case FUSE_STATFS: {
      fuse_statfs_out reply{};
      reply.st.bsize = reply.st.frsize = 512;
      reply.st.namelen = 255;
      answer_with(request, reply);
      return true;
    }
    default:
      return false;
  }
}

void Session::initialise(const Request& request) {
  const auto offer = request.arguments<InitOffer>();
  const auto reply = offer ? negotiate(*offer) : std::nullopt;
  if (reply) {
    answer_with(request, *reply);
  } else {
    answer(request, EPROTO);
  }
}

io::Task<void> Session::answer_attributes(Request request) {
  fuse_attr_out reply{};
  reply.attr_valid = kAttributesHold;
  reply.attr = co_await home_.at_home([this] { return file_.get_attributes(); });
  answer_with(request, reply);
}

io::Task<void> Session::set_attributes(Request request) {
  const auto wanted = request.arguments<fuse_setattr_in>();
  if (!wanted) {
    answer(request, EINVAL);
    co_return;
  }
  const Result<void> result =
      co_await home_.at_home([this, &wanted] { return file_.set_attributes(*wanted); });
  if (result) {
    co_await answer_attributes(request);
  } else {
    answer_result(request, result);
  }
}

io::Task<void> Session::read(Request request, std::span<std::byte> data) {
  const auto wanted = request.arguments<fuse_read_in>();
  if (!wanted || wanted->size > data.size()) {
    answer(request, EINVAL);
    co_return;
  }
  const std::span<std::byte> place = data.first(wanted->size);
  const Result<uint64_t> length = co_await home_.at_home(
      [this, &wanted, place] { return file_.read(wanted->offset, io::IoVector(place)); });
  if (length) {
    answer(request, 0, place.first(*length));
  } else {
    answer(request, length.error().code());
  }
}

io::Task<void> Session::write(Request request, std::span<std::byte> data) {
  const auto wanted = request.arguments<fuse_write_in>();
  if (!wanted || wanted->size != request.data(sizeof *wanted).size()) {
    answer(request, EINVAL);
    co_return;
  }
  const std::span<std::byte> payload = data.first(wanted->size);
  const Result<uint64_t> written = co_await home_.at_home(
      [this, &wanted, payload] { return file_.write(wanted->offset, io::IoVector(payload)); });
  if (written) {
    fuse_write_out reply{};
    reply.size = static_cast<uint32_t>(*written);
    answer_with(request, reply);
  } else {
    answer(request, written.error().code());
  }
}

io::Task<void> Session::flush(Request request) {
  const Result<void> result = co_await home_.at_home([this] { return file_.flush(); });
  answer_result(request, result);
}

io::Task<void> Session::allocate(Request request) {
  const auto wanted = request.arguments<fuse_fallocate_in>();
  if (!wanted) {
    answer(request, EINVAL);
    co_return;
  }
  const Result<void> result = co_await home_.at_home(
      [this, &wanted] { return file_.allocate(wanted->offset, wanted->length, wanted->mode); });
  answer_result(request, result);
}

io::Task<void> Session::seek(Request request) {
  const auto wanted = request.arguments<fuse_lseek_in>();
  if (!wanted) {
    answer(request, EINVAL);
    co_return;
  }
  const Result<uint64_t> found = co_await home_.at_home(
      [this, &wanted] { return file_.seek(wanted->offset, wanted->whence); });
  if (found) {
    answer_with(request, fuse_lseek_out{.offset = *found});
  } else {
    answer(request, found.error().code());
  }
}

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

template <typename Reply>
void Session::answer_with(const Request& request, const Reply& reply) {
  answer(request, 0, std::as_bytes(std::span(&reply, 1)));
}

void Session::answer_result(const Request& request, const Result<void>& result) {
  answer(request, result ? 0 : result.error().code());
}

}  // namespace cairn::fuse
