// Session: what a program works with: a reactor and a graph with all drivers; and the options that
// all programs share.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"
#include "block/graph.h"
#include "io/reactor.h"
#include "io/task.h"

namespace cairn::tools {

class Session {
 public:
  // The back end of the reactor is what the environment variable CAIRN_IO says: auto (default),
  // io_uring or epoll.
  [[nodiscard]] static Result<std::unique_ptr<Session>> create();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  // Closes what is still open.
  ~Session();

  [[nodiscard]] io::Reactor& reactor() { return *reactor_; }
  [[nodiscard]] block::Graph& graph() { return graph_; }

  template <typename T>
  T run(io::Task<T> task) {
    return reactor_->block_on(std::move(task));
  }

 private:
  explicit Session(std::unique_ptr<io::Reactor> reactor);

  std::unique_ptr<io::Reactor> reactor_;
  block::DriverTable drivers_;
  block::Graph graph_;
};

// The values of -t and -T: "none", "directsync", "writeback", "writethrough", "unsafe".
struct CacheMode {
  bool direct = false;
  bool no_flush = false;
  bool writethrough = false;  // every write is durable when it is done
};
[[nodiscard]] std::optional<CacheMode> parse_cache_mode(std::string_view text);

// The values of --discard: "unmap"/"on" and "ignore"/"off".
[[nodiscard]] std::optional<bool> parse_discard_mode(std::string_view text);

// "off", "metadata", "falloc", "full".
[[nodiscard]] Result<block::Preallocation> parse_preallocation(std::string_view text);

// A number of bytes for the argument that messages call `what`: EINVAL with the field's message
// when it is none, or below `minimum` or above `maximum`.
[[nodiscard]] Result<uint64_t> parse_size_argument(std::string_view what, std::string_view text,
                                                   uint64_t minimum = 0,
                                                   uint64_t maximum = INT64_MAX);

}  // namespace cairn::tools
