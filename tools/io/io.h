// cairn-io: single requests to an image, from the command line or a prompt. For tests and repair.
//
//   main.cc      the program's options, -c and the prompt
//   shell.cc     finding and running commands, help
//   open.cc      open, close, reopen
//   transfer.cc  read, write, readv, writev
//   break.cc     break, remove_break, resume, wait_break
//   aio.cc       aio_read, aio_write, aio_flush
//   image.cc     the other commands on an image: discard, map, truncate, …
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "block/graph.h"
#include "io/task_group.h"
#include "tools/common/image.h"
#include "tools/common/session.h"

namespace cairn::tools {

class IoShell;
using IoArguments = std::vector<std::string>;  // the command's name first

struct IoCommand {
  std::string_view name;
  std::string_view short_name;  // empty: none
  int least_arguments = 0;
  int most_arguments = 0;  // -1: any number
  std::string_view usage;
  std::string_view summary;
  bool needs_image = true;
  bool writes = false;
  // Returns 0, or another number when it failed; what went wrong is told already.
  int (*run)(IoShell& shell, const IoArguments& arguments) = nullptr;
};

[[nodiscard]] std::span<const IoCommand> io_commands();
[[nodiscard]] const IoCommand* find_io_command(std::string_view name);
// "read [-q] off len -- reads a number of bytes", on standard output.
void print_io_usage(std::string_view command);

// How an image was opened: what reopen starts from.
struct IoOpenRequest {
  ImageName image{.implied_key = ""};
  std::string options;  // of -o
  bool read_only = false;
  bool snapshot = false;  // write to a temporary overlay
  bool copy_on_read = false;
  bool force_share = false;
  bool discard = true;
  bool native_aio = false;                // checked and otherwise ignored
  CacheMode cache{.writethrough = true};  // as the field does, unless -t says otherwise
};

class IoShell {
 public:
  explicit IoShell(Session& session) : session_(session) {}
  IoShell(const IoShell&) = delete;
  IoShell& operator=(const IoShell&) = delete;
  ~IoShell() { close(); }

  [[nodiscard]] Session& session() { return session_; }
  [[nodiscard]] bool is_open() const { return root_ != nullptr; }
  [[nodiscard]] block::Edge& root() { return *root_; }
  [[nodiscard]] const IoOpenRequest& request() const { return request_; }

  // Opens an image, of which there is one at a time. The message of a failure names the image.
  [[nodiscard]] Result<void> open(IoOpenRequest request);
  // Waits for what is under way, and closes.
  void close();

  // Runs one line; not 0 when it failed.
  int run_line(const std::string& line);

  // Requests that run while the shell goes on.
  [[nodiscard]] io::TaskGroup& background() { return background_; }
  void wait_for_background();

  [[nodiscard]] bool quitting() const { return quitting_; }
  void quit() { quitting_ = true; }

 private:
  Result<void> attach(std::shared_ptr<block::Node> node);

  Session& session_;
  std::unique_ptr<block::Edge> root_;
  IoOpenRequest request_;
  io::TaskGroup background_;
  bool quitting_ = false;
};

// Commands, by file.
int io_open(IoShell& shell, const IoArguments& arguments);
int io_close(IoShell& shell, const IoArguments& arguments);
int io_reopen(IoShell& shell, const IoArguments& arguments);
int io_read(IoShell& shell, const IoArguments& arguments);
int io_write(IoShell& shell, const IoArguments& arguments);
int io_readv(IoShell& shell, const IoArguments& arguments);
int io_writev(IoShell& shell, const IoArguments& arguments);
int io_aio_read(IoShell& shell, const IoArguments& arguments);
int io_aio_write(IoShell& shell, const IoArguments& arguments);
int io_aio_flush(IoShell& shell, const IoArguments& arguments);
int io_break(IoShell& shell, const IoArguments& arguments);
int io_remove_break(IoShell& shell, const IoArguments& arguments);
int io_resume(IoShell& shell, const IoArguments& arguments);
int io_wait_break(IoShell& shell, const IoArguments& arguments);
int io_discard(IoShell& shell, const IoArguments& arguments);
int io_flush(IoShell& shell, const IoArguments& arguments);
int io_truncate(IoShell& shell, const IoArguments& arguments);
int io_length(IoShell& shell, const IoArguments& arguments);
int io_info(IoShell& shell, const IoArguments& arguments);
int io_map(IoShell& shell, const IoArguments& arguments);
int io_alloc(IoShell& shell, const IoArguments& arguments);

}  // namespace cairn::tools
