// The least that an NBD server can do: one client at a time, one thread, and for its requests the
// system calls recv, pread, pwrite and sendmsg, as few as the client's own batches allow. It checks
// nothing, so it serves nobody but a benchmark: what it costs is what the kernel costs, and no
// server that moves data through its memory gets below it.
//
//   bare_server SOCKET IMAGE [WINDOW]      receives at most WINDOW bytes at once (65536)
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/nbd_protocol.h"

namespace cairn::nbd {
namespace {

// What may not go wrong here ends the program when it does.
void insist(bool condition) {
  if (!condition) {
    std::exit(EXIT_FAILURE);
  }
}

bool receive_exactly(int fd, std::span<std::byte> memory) {
  return recv(fd, memory.data(), memory.size(), MSG_WAITALL) == static_cast<ssize_t>(memory.size());
}

bool send_exactly(int fd, std::span<const std::byte> memory) {
  return send(fd, memory.data(), memory.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(memory.size());
}

bool reply_to_option(int fd, uint32_t option, OptionReply type, std::span<const std::byte> data) {
  std::array<std::byte, 20> head;
  store_be<uint64_t>(head.data(), kOptionReplyMagic);
  store_be<uint32_t>(head.data() + 8, option);
  store_be<uint32_t>(head.data() + 12, std::to_underlying(type));
  store_be<uint32_t>(head.data() + 16, static_cast<uint32_t>(data.size()));
  return send_exactly(fd, head) && (data.empty() || send_exactly(fd, data));
}

// Refuses every option until the client asks to go on with whatever export it names. False when
// the client left.
bool shake_hands(int fd, uint64_t size) {
  std::array<std::byte, 18> greeting;
  store_be<uint64_t>(greeting.data(), kInitMagic);
  store_be<uint64_t>(greeting.data() + 8, kOptionMagic);
  store_be<uint16_t>(greeting.data() + 16, kFixedNewstyle | kNoZeroes);
  std::array<std::byte, 4> flags;
  std::array<std::byte, 16> head;
  bool here = send_exactly(fd, greeting) && receive_exactly(fd, flags);
  while (here && receive_exactly(fd, head)) {
    const auto option = load_be<uint32_t>(head.data() + 8);
    std::vector<std::byte> data(load_be<uint32_t>(head.data() + 12));
    here = data.empty() || receive_exactly(fd, data);
    if (option == std::to_underlying(Option::kGo)) {
      std::array<std::byte, 12> info;
      store_be<uint16_t>(info.data(), std::to_underlying(Info::kExport));
      store_be<uint64_t>(info.data() + 2, size);
      store_be<uint16_t>(info.data() + 10, kHasFlags);
      return here && reply_to_option(fd, option, OptionReply::kInfo, info) &&
             reply_to_option(fd, option, OptionReply::kAck, {});
    }
    here = here && reply_to_option(fd, option, OptionReply::kErrUnsupported, {});
  }
  return false;
}

class Transmission {
 public:
  Transmission(int client, int image, std::size_t window)
      : client_(client), image_(image), input_(window), replies_(kMost), data_(kMost * kDataSize) {}

  void run() {
    std::size_t end = 0;
    for (;;) {
      const ssize_t got = recv(client_, input_.data() + end, input_.size() - end, 0);
      if (got <= 0) {
        return;
      }
      end += static_cast<std::size_t>(got);
      const std::size_t used = take(std::span(input_).first(end));
      std::memmove(input_.data(), input_.data() + used, end - used);
      end -= used;
      send_replies();
    }
  }

 private:
  static constexpr std::size_t kMost = 256;            // requests in one window
  static constexpr std::size_t kDataSize = 64 * 1024;  // of a read, at most

  // Carries out the requests that are whole; how many bytes they had.
  std::size_t take(std::span<const std::byte> bytes) {
    std::size_t used = 0;
    while (bytes.size() - used >= kRequestSize && count_ < kMost) {
      const std::byte* const head = bytes.data() + used;
      const auto command = static_cast<Command>(load_be<uint16_t>(head + 6));
      const auto offset = static_cast<off_t>(load_be<uint64_t>(head + 16));
      const auto length = load_be<uint32_t>(head + 24);
      if (command == Command::kDisconnect) {
        break;
      }
      insist((command == Command::kRead && length <= kDataSize) || command == Command::kWrite);
      std::byte* const reply = replies_[count_].data();
      if (command == Command::kWrite) {
        if (bytes.size() - used < kRequestSize + length) {
          break;
        }
        insist(pwrite(image_, head + kRequestSize, length, offset) == ssize_t{length});
        used += length;
        vectors_[vector_count_++] = {reply, kSimpleReplySize};
      } else {
        std::byte* const data = data_.data() + count_ * kDataSize;
        insist(pread(image_, data, length, offset) == ssize_t{length});
        vectors_[vector_count_++] = {reply, kSimpleReplySize};
        vectors_[vector_count_++] = {data, length};
      }
      store_be<uint32_t>(reply, kSimpleReplyMagic);
      store_be<uint32_t>(reply + 4, 0);
      std::memcpy(reply + 8, head + 8, sizeof(uint64_t));
      ++count_;
      used += kRequestSize;
    }
    return used;
  }

  void send_replies() {
    std::size_t next = 0;
    while (next < vector_count_) {
      msghdr message{};
      message.msg_iov = vectors_.data() + next;
      message.msg_iovlen = vector_count_ - next;
      const ssize_t sent = sendmsg(client_, &message, MSG_NOSIGNAL);
      insist(sent > 0);
      auto rest = static_cast<std::size_t>(sent);
      while (next < vector_count_ && rest >= vectors_[next].iov_len) {
        rest -= vectors_[next++].iov_len;
      }
      if (rest > 0) {
        iovec& part = vectors_[next];
        part = {static_cast<std::byte*>(part.iov_base) + rest, part.iov_len - rest};
      }
    }
    count_ = vector_count_ = 0;
  }

  int client_;
  int image_;
  std::vector<std::byte> input_;
  std::vector<std::array<std::byte, kSimpleReplySize>> replies_;
  std::vector<std::byte> data_;
  std::array<iovec, 2 * kMost> vectors_;
  std::size_t count_ = 0;
  std::size_t vector_count_ = 0;
};

void serve(const std::string& path, const std::string& image_path, std::size_t window) {
  const int image = open(image_path.c_str(), O_RDWR | O_CLOEXEC);
  struct stat status{};
  insist(image >= 0 && fstat(image, &status) == 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  insist(path.size() < sizeof address.sun_path);
  path.copy(address.sun_path, path.size());
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  insist(listener >= 0 &&
         bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
         listen(listener, 4) == 0);
  for (;;) {
    const int client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    insist(client >= 0);
    if (shake_hands(client, static_cast<uint64_t>(status.st_size))) {
      Transmission(client, image, window).run();
    }
    close(client);
  }
}

}  // namespace
}  // namespace cairn::nbd

int main(int argc, char** argv) {
  if (argc < 3) {
    return EXIT_FAILURE;
  }
  cairn::nbd::serve(argv[1], argv[2], argc > 3 ? std::strtoul(argv[3], nullptr, 10) : 64 * 1024);
}
