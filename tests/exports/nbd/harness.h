// NbdHarness: a server over memory nodes on a reactor of its own, and NbdClient: the other end,
// which speaks raw bytes so that it can say what a proper client would not.
//
// Everything runs on one thread, unless the environment variable CAIRN_EXPORT_THREAD is set: then
// exports have a thread of their own, and the same tests hold for them. While a client waits for
// bytes it turns the reactor. A wait that takes longer than kPatience fails the test instead of
// hanging it.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/nbd_protocol.h"
#include "block/graph.h"
#include "exports/export.h"
#include "exports/nbd/server.h"
#include "io/fd.h"
#include "io/reactor.h"
#include "io/reactor_thread.h"
#include "tests/exports/nbd/memory_driver.h"

namespace cairn::testing {

// Big-endian integers one after the other: wire(uint32_t{1}, uint16_t{2}).
template <typename... T>
[[nodiscard]] std::string wire(T... values) {
  std::string out;
  const auto put = [&out](auto value) {
    for (int shift = 8 * (static_cast<int>(sizeof value) - 1); shift >= 0; shift -= 8) {
      out += static_cast<char>((value >> shift) & 0xff);
    }
  };
  (put(values), ...);
  return out;
}

// Takes big-endian integers off the front of bytes; zero when they have run out.
class WireReader {
 public:
  explicit WireReader(std::string bytes) : bytes_(std::move(bytes)) {}
  template <typename T>
  T take() {
    T value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      value = static_cast<T>(value << 8 | static_cast<uint8_t>(bytes_[at_ + i]));
    }
    at_ += sizeof(T);
    return value;
  }
  [[nodiscard]] std::string rest() const { return bytes_.substr(at_); }

 private:
  std::string bytes_;
  std::size_t at_ = 0;
};

class NbdHarness {
 public:
  static constexpr auto kPatience = std::chrono::seconds(10);

  explicit NbdHarness(std::size_t disk_size = 1 << 20);
  ~NbdHarness();

  void start(uint32_t max_connections = 100, uint32_t handshake_seconds = 0);
  Result<void> stop() { return reactor_->block_on(server_.stop()); }
  // An export with the id and name `name`, of the node "disk" (memory) or "zeroes" (ZeroDriver).
  Result<void> add(std::string name, bool writable = true, std::string description = {},
                   std::string node = "disk");

  // Turns the reactor until `done()`; false when patience ran out.
  template <typename Done>
  bool until(Done done) {
    const auto give_up = std::chrono::steady_clock::now() + kPatience;
    while (!done()) {
      if (std::chrono::steady_clock::now() > give_up) {
        return false;
      }
      turn();
    }
    return true;
  }
  // Turns the reactor once, for at most a few milliseconds.
  void turn();

  [[nodiscard]] MemoryDisk& disk() { return disk_; }
  [[nodiscard]] block::Graph& graph() { return graph_; }
  [[nodiscard]] exports::ExportRegistry& registry() { return registry_; }
  [[nodiscard]] nbd::Server& server() { return server_; }
  [[nodiscard]] io::Reactor& reactor() { return *reactor_; }
  [[nodiscard]] const std::string& socket_path() const { return socket_path_; }
  [[nodiscard]] const std::vector<std::string>& deleted() const { return deleted_; }

 private:
  std::unique_ptr<io::Reactor> reactor_;
  std::shared_ptr<io::ReactorThread> thread_;
  MemoryDisk disk_;
  block::DriverTable drivers_;
  block::Graph graph_;
  exports::ExportRegistry registry_;
  nbd::Server server_;
  std::string folder_;
  std::string socket_path_;
  std::vector<std::string> deleted_;
};

// What a client sees of a reply in the transmission phase.
struct Reply {
  bool structured = false;
  uint64_t cookie = 0;
  uint32_t error = 0;        // of a simple reply, or of an error chunk
  uint16_t chunk_flags = 0;  // of a structured one
  uint16_t chunk_type = 0;
  std::string payload;  // of a structured one
};

struct OptionAnswer {
  uint32_t type = 0;
  std::string data;
};

class NbdClient {
 public:
  explicit NbdClient(NbdHarness& harness);

  void send(std::string_view bytes);
  // `count` bytes, or what came before the end of the connection or of patience.
  std::string receive(std::size_t count);
  // Whether the server closes the connection, with nothing more to be read before.
  bool sees_end();
  void shut_down_writing();
  void close() { fd_.reset(); }
  [[nodiscard]] int fd() const { return fd_.get(); }
  // So that the server's replies fill the socket soon.
  void shrink_receive_buffer();

  // Handshake.
  std::string greet(uint32_t flags = 3);
  void send_option(uint32_t option, std::string_view data = {});
  // All answers to one option, the last of which is an ACK or an error.
  std::vector<OptionAnswer> option(uint32_t option, std::string_view data = {});
  // The whole handshake. True when the server agrees.
  bool go(std::string_view name, bool structured = false, bool contexts = false);

  // Transmission.
  void request(nbd::Command command, uint64_t offset, uint32_t length, uint16_t flags = 0,
               uint64_t cookie = 1, std::string_view payload = {});
  // The next reply. `data_length` is what a simple reply to a read brings when it has no error.
  Reply reply(std::size_t data_length = 0);
  // Requests and waits for the one reply.
  Reply ask(nbd::Command command, uint64_t offset, uint32_t length, uint16_t flags = 0,
            std::string_view payload = {});

 private:
  NbdHarness& harness_;
  io::Fd fd_;
};

}  // namespace cairn::testing
