#include "exports/fuse/file_requests.h"

#include <cerrno>
#include <cstring>
#include <optional>

namespace cairn::fuse {
namespace {

// For how long the kernel may take what it was told of the file for true, in seconds.
constexpr uint64_t kAttributesHold = 1;

Reply refuse(int code) { return {.code = code}; }

Reply reply_of(const Result<void>& result) { return {.code = result ? 0 : result.error().code()}; }

fuse_open_out open_answer(Caching caching) {
  // Several writes at a time, within the file's length; <linux/fuse.h> has it since 7.38.
  constexpr uint32_t kParallelDirectWrites = 1u << 6;
  fuse_open_out answer{};
  if (caching == Caching::kNone) {
    answer.open_flags = FOPEN_DIRECT_IO | kParallelDirectWrites;
  }
  return answer;
}

template <typename Body>
Reply reply_with(const Body& body, std::span<std::byte> data) {
  std::memcpy(data.data(), &body, sizeof body);
  return {.length = sizeof body};
}

}  // namespace

io::Task<Reply> FileRequests::serve(Request request, std::span<std::byte> data) {
  switch (request.opcode()) {
    case FUSE_GETATTR:
      return get_attributes(data);
    case FUSE_SETATTR:
      return set_attributes(request, data);
    case FUSE_READ:
      return read(request, data);
    case FUSE_WRITE:
      return write(request, data);
    case FUSE_FLUSH:
    case FUSE_FSYNC:
      return flush();
    case FUSE_FALLOCATE:
      return allocate(request);
    case FUSE_LSEEK:
      return seek(request, data);
    default:
      return answer_at_once(request, data);
  }
}

io::Task<Reply> FileRequests::answer_at_once(Request request, std::span<std::byte> data) {
  switch (request.opcode()) {
    case FUSE_OPEN:
      co_return reply_with(open_answer(caching_), data);
    case FUSE_RELEASE:
    case FUSE_DESTROY:
      co_return Reply{};
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
      co_return Reply{.wanted = false};
    case FUSE_STATFS: {
      fuse_statfs_out status{};
      status.st.bsize = status.st.frsize = 512;
      status.st.namelen = 255;
      co_return reply_with(status, data);
    }
    default:
      co_return refuse(ENOSYS);
  }
}

io::Task<Reply> FileRequests::get_attributes(std::span<std::byte> data) {
  fuse_attr_out answer{};
  answer.attr_valid = kAttributesHold;
  answer.attr = co_await home_.at_home([this] { return file_.get_attributes(); });
  co_return reply_with(answer, data);
}

io::Task<Reply> FileRequests::set_attributes(Request request, std::span<std::byte> data) {
  const auto wanted = request.arguments<fuse_setattr_in>();
  if (!wanted) {
    co_return refuse(EINVAL);
  }
  const Result<void> result =
      co_await home_.at_home([this, &wanted] { return file_.set_attributes(*wanted); });
  if (!result) {
    co_return reply_of(result);
  }
  co_return co_await get_attributes(data);
}

io::Task<Reply> FileRequests::read(Request request, std::span<std::byte> data) {
  const auto wanted = request.arguments<fuse_read_in>();
  if (!wanted || wanted->size > data.size()) {
    co_return refuse(EINVAL);
  }
  const std::span<std::byte> place = data.first(wanted->size);
  const Result<uint64_t> length = co_await home_.at_home(
      [this, &wanted, place] { return file_.read(wanted->offset, io::IoVector(place)); });
  if (!length) {
    co_return refuse(length.error().code());
  }
  co_return Reply{.length = *length};
}

io::Task<Reply> FileRequests::write(Request request, std::span<std::byte> data) {
  const auto wanted = request.arguments<fuse_write_in>();
  if (!wanted || wanted->size != request.payload_size(sizeof *wanted) ||
      wanted->size > data.size()) {
    co_return refuse(EINVAL);
  }
  const std::span<std::byte> payload = data.first(wanted->size);
  const Result<uint64_t> written = co_await home_.at_home(
      [this, &wanted, payload] { return file_.write(wanted->offset, io::IoVector(payload)); });
  if (!written) {
    co_return refuse(written.error().code());
  }
  fuse_write_out answer{};
  answer.size = static_cast<uint32_t>(*written);
  co_return reply_with(answer, data);
}

io::Task<Reply> FileRequests::flush() {
  const Result<void> result = co_await home_.at_home([this] { return file_.flush(); });
  co_return reply_of(result);
}

io::Task<Reply> FileRequests::allocate(Request request) {
  const auto wanted = request.arguments<fuse_fallocate_in>();
  if (!wanted) {
    co_return refuse(EINVAL);
  }
  const Result<void> result = co_await home_.at_home(
      [this, &wanted] { return file_.allocate(wanted->offset, wanted->length, wanted->mode); });
  co_return reply_of(result);
}

io::Task<Reply> FileRequests::seek(Request request, std::span<std::byte> data) {
  const auto wanted = request.arguments<fuse_lseek_in>();
  if (!wanted) {
    co_return refuse(EINVAL);
  }
  const Result<uint64_t> found = co_await home_.at_home(
      [this, &wanted] { return file_.seek(wanted->offset, wanted->whence); });
  if (!found) {
    co_return refuse(found.error().code());
  }
  co_return reply_with(fuse_lseek_out{.offset = *found}, data);
}

}  // namespace cairn::fuse
