// What one NBD request costs the server besides time: coroutine frames, heap allocations and
// system calls.
//
//   request_cost_bench [io_uring|epoll]
//
// A child process serves a file in memory and a null node. This process is its client, and traces
// it (ptrace) to count the system calls between the first and the last request of a run.
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/nbd_protocol.h"
#include "exports/export.h"
#include "exports/nbd/server.h"
#include "io/frame_pool.h"
#include "io/reactor.h"
#include "protocols/file/file.h"
#include "protocols/null/null.h"
#include "schema/types_block_export.h"
#include "schema/types_block_options.h"

namespace {

using namespace cairn;  // NOLINT(google-build-using-namespace): a program of one page

constexpr int kRequests = 32 * 1000;
constexpr uint64_t kBlock = 4096;
constexpr uint64_t kSize = uint64_t{64} << 20;

// Shared between the two processes.
struct Counters {
  std::atomic<uint64_t> frames;
  std::atomic<uint64_t> frame_allocations;
  std::atomic<uint64_t> heap_allocations;
  std::atomic<uint64_t> system_calls;
  std::atomic<bool> serving;
};
Counters* counters = nullptr;
bool counting = false;  // in the server's process

void die(std::string_view what) {
  fmt::print(stderr, "request_cost_bench: {}: {}\n", what, std::strerror(errno));
  std::exit(1);
}

}  // namespace

// Counts; the C++ parts of the server allocate with these.
void* operator new(std::size_t size) {
  if (counting) {
    counters->heap_allocations.fetch_add(1, std::memory_order_relaxed);
  }
  void* const memory = std::malloc(size);
  if (memory == nullptr) {
    std::abort();
  }
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*size*/) noexcept { std::free(memory); }

namespace {

// ---------------------------------------------------------------- the server

template <typename T>
void require(const Result<T>& result) {
  if (!result) {
    fmt::print(stderr, "request_cost_bench: {}\n", result.error().message());
    std::exit(1);
  }
}

void add_node(io::Reactor& reactor, block::Graph& graph, exports::ExportRegistry& registry,
              const schema::BlockdevOptions& options) {
  require(reactor.block_on(graph.add_monitor_node(options)));
  schema::BlockExportOptions served;
  served.id = *options.node_name;
  served.node_name = *options.node_name;
  served.writable = true;
  require(reactor.block_on(registry.add(served)));
}

[[noreturn]] void serve(std::string_view backend, const std::string& path,
                        const std::string& image) {
  const auto kind = io::parse_backend_kind(backend);
  require(kind);
  auto reactor = io::Reactor::create(*kind);
  require(reactor);
  block::DriverTable drivers;
  drivers.add(file::kFileDriver);
  drivers.add(null::kNullCoDriver);
  block::Graph graph(drivers);
  exports::ExportRegistry registry(graph);
  nbd::Server server(registry);
  registry.add_type(server);
  nbd::ServerOptions options{.address = io::SocketAddress::unix_path(path)};
  require((*reactor)->block_on(server.start(std::move(options))));

  schema::BlockdevOptions in_memory;
  in_memory.driver = schema::BlockdevDriver::kFile;
  in_memory.node_name = "file";
  schema::BlockdevOptionsFile where;
  where.filename = image;
  in_memory.branch = where;
  add_node(**reactor, graph, registry, in_memory);
  schema::BlockdevOptions null;
  null.driver = schema::BlockdevDriver::kNullCo;
  null.node_name = "null-co";
  null.branch = schema::BlockdevOptionsNull{};
  add_node(**reactor, graph, registry, null);

  counters->serving = true;
  for (;;) {
    (*reactor)->run_once();
    const io::FrameCounts frames = io::frame_counts();
    counters->frames = frames.taken;
    counters->frame_allocations = frames.heap_allocations;
  }
}

// ---------------------------------------------------------------- the client

class Client {
 public:
  Client(const std::string& path, std::string_view name)
      : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    if (connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      die("connect");
    }
    receive(18);
    std::string option(20, '\0');
    store_be<uint32_t>(&option[0], nbd::kFixedNewstyle | nbd::kNoZeroes);
    store_be<uint64_t>(&option[4], nbd::kOptionMagic);
    store_be<uint32_t>(&option[12], 1);  // EXPORT_NAME
    store_be<uint32_t>(&option[16], static_cast<uint32_t>(name.size()));
    transmit(option + std::string(name));
    receive(10);
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client() { close(fd_); }

  void run(nbd::Command command, int depth, int requests) {
    const bool writes = command == nbd::Command::kWrite;
    std::string batch;
    for (int i = 0; i < depth; ++i) {
      std::array<char, nbd::kRequestSize> header{};
      store_be<uint32_t>(&header[0], nbd::kRequestMagic);
      store_be<uint16_t>(&header[6], static_cast<uint16_t>(command));
      store_be<uint64_t>(&header[16], static_cast<uint64_t>(i) * 37 * kBlock % kSize);
      store_be<uint32_t>(&header[24], kBlock);
      batch.append(header.data(), header.size());
      batch.append(writes ? kBlock : 0, 'x');
    }
    const std::size_t answer = 16 + (writes ? 0 : kBlock);
    for (int i = 0; i < requests; i += depth) {
      transmit(batch);
      receive(answer * static_cast<std::size_t>(depth));
    }
  }

 private:
  void transmit(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) {
        die("send");
      }
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
  }
  void receive(std::size_t count) {
    memory_.resize(std::max(memory_.size(), count));
    if (recv(fd_, memory_.data(), count, MSG_WAITALL) != static_cast<ssize_t>(count)) {
      die("recv");
    }
  }

  int fd_;
  std::vector<char> memory_;
};

void measure(const std::string& path, std::string_view node, nbd::Command command, int depth) {
  Client client(path, node);
  client.run(command, depth, kRequests / 10);  // warms pools and tables
  const std::array before = {counters->frames.load(), counters->frame_allocations.load(),
                             counters->heap_allocations.load(), counters->system_calls.load()};
  client.run(command, depth, kRequests);
  const std::array after = {counters->frames.load(), counters->frame_allocations.load(),
                            counters->heap_allocations.load(), counters->system_calls.load()};
  const auto each = [&](std::size_t i) {
    return static_cast<double>(after[i] - before[i]) / kRequests;
  };
  fmt::print(
      "{:<8} {:<6} depth {:<3} frames {:5.2f} (new ones {:5.3f})  heap allocations {:6.3f}  "
      "system calls {:5.2f}\n",
      node, command == nbd::Command::kRead ? "read" : "write", depth, each(0), each(1), each(2),
      each(3));
}

// ---------------------------------------------------------------- the tracer

// Runs the child from one system call stop to the next until it ends.
void trace(pid_t child) {
  bool entering = true;
  int status = 0;
  int signal = 0;
  ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
  for (;;) {
    if (ptrace(PTRACE_SYSCALL, child, nullptr, signal) != 0 || waitpid(child, &status, 0) < 0 ||
        WIFEXITED(status) || WIFSIGNALED(status)) {
      return;
    }
    const bool at_call = WSTOPSIG(status) == (SIGTRAP | 0x80);
    if (at_call) {
      counters->system_calls += entering ? 1 : 0;
      entering = !entering;
    }
    signal = at_call || WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
  }
}

}  // namespace

int main(int argc, char** argv) {
  void* const shared =
      mmap(nullptr, sizeof(Counters), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) {
    die("mmap");
  }
  auto* const made = new (shared) Counters{};
  std::string folder = "/dev/shm/cairn-bench-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) {
    die("mkdtemp");
  }
  const std::string path = folder + "/nbd.sock";
  const std::string image = folder + "/image";
  std::FILE* const file = std::fopen(image.c_str(), "w");
  if (file == nullptr || ftruncate(fileno(file), kSize) != 0 || std::fclose(file) != 0) {
    die("image");
  }
  const pid_t child = fork();
  if (child == 0) {
    counters = made;
    counting = true;
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    (void)raise(SIGSTOP);
    serve(argc > 1 ? argv[1] : "auto", path, image);
  }
  waitpid(child, nullptr, 0);
  counters = made;
  std::thread client([&] {
    while (!counters->serving) {
      usleep(1000);
    }
    for (const std::string_view node : {"null-co", "file"}) {
      for (const int depth : {1, 32}) {
        measure(path, node, nbd::Command::kRead, depth);
        measure(path, node, nbd::Command::kWrite, depth);
      }
    }
    kill(child, SIGKILL);
  });
  trace(child);
  client.join();
  unlink(image.c_str());
  unlink(path.c_str());
  rmdir(folder.c_str());
  return 0;
}
