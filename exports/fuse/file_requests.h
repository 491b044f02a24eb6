// FileRequests: what the kernel's requests ask of the file, and the answers, however they come and
// go.
//
// On the reactor of the export's front end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "exports/fuse/exported_file.h"
#include "exports/fuse/protocol.h"
#include "exports/node_access.h"
#include "io/task.h"

namespace cairn::fuse {

struct Reply {
  int code = 0;            // an errno, 0 for success
  std::size_t length = 0;  // of what belongs to a success, at the beginning of the request's data
  bool wanted = true;      // some requests have no answer
};

// Where the file's content may be besides the node.
enum class Caching : uint8_t {
  kPageCache,  // in the kernel, unless who opens the file objects
  kNone,
};

class FileRequests {
 public:
  // The file and the way to it outlive this.
  FileRequests(ExportedFile& file, const exports::NodeAccess& home, Caching caching)
      : file_(file), home_(home), caching_(caching) {}

  // Carries out any request but INIT. `data` has room for the largest read; it begins with what
  // follows the fixed part of a write, and then with the reply. It stays until the task is done,
  // and so does what the request refers to.
  [[nodiscard]] io::Task<Reply> serve(Request request, std::span<std::byte> data);

 private:
  [[nodiscard]] io::Task<Reply> get_attributes(std::span<std::byte> data);
  [[nodiscard]] io::Task<Reply> set_attributes(Request request, std::span<std::byte> data);
  [[nodiscard]] io::Task<Reply> read(Request request, std::span<std::byte> data);
  [[nodiscard]] io::Task<Reply> write(Request request, std::span<std::byte> data);
  [[nodiscard]] io::Task<Reply> flush();
  [[nodiscard]] io::Task<Reply> allocate(Request request);
  [[nodiscard]] io::Task<Reply> seek(Request request, std::span<std::byte> data);
  // Those that need no waiting.
  [[nodiscard]] io::Task<Reply> answer_at_once(Request request, std::span<std::byte> data);

  ExportedFile& file_;
  const exports::NodeAccess& home_;
  const Caching caching_;
};

}  // namespace cairn::fuse
