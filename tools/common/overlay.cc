#include "tools/common/overlay.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <utility>

#include "block/create_options.h"
#include "tools/common/create.h"

namespace cairn::tools {
namespace {

// Makes an empty file for an overlay, in the directory for such files.
Result<std::string> make_temporary_file() {
  const char* directory = std::getenv("TMPDIR");
  std::string path = std::string(directory != nullptr ? directory : "/var/tmp") + "/cairn.XXXXXX";
  const int fd = mkstemp(path.data());
  if (fd < 0) {
    return fail_errno(errno, "Could not open temporary file '{}'", path);
  }
  ::close(fd);
  return path;
}

}  // namespace

io::Task<Result<std::shared_ptr<block::Node>>> open_overlay(
    block::Graph& graph, std::shared_ptr<block::Node> base,
    schema::BlockdevDetectZeroesOptions detect_zeroes) {
  Result<std::string> path = make_temporary_file();
  if (!path) {
    co_return pass(path);
  }
  const Result<CreationTable> table = CreationTable::find(graph.drivers(), "qcow2", *path);
  if (!table) {
    co_return std::unexpected(table.error());
  }
  block::CreateOptions options(table->options());
  if (auto set = options.set("size", std::to_string(base->length())); !set) {
    co_return pass(set);
  }
  Result<void> created = co_await table->format().create(graph, *path, options);
  Result<std::shared_ptr<block::Node>> node = base;
  if (created) {
    schema::BlockdevOptionsFile file;
    file.filename = *path;
    schema::BlockdevOptions below;
    below.driver = schema::BlockdevDriver::kFile;
    below.branch = std::move(file);
    schema::BlockdevOptionsQcow2 overlay;
    overlay.file.value = schema::Box<schema::BlockdevOptions>(std::move(below));
    overlay.backing = schema::BlockdevRefOrNull{.value = base->name()};
    schema::BlockdevOptions top;
    top.driver = schema::BlockdevDriver::kQcow2;
    top.detect_zeroes = detect_zeroes;
    top.branch = std::move(overlay);
    node = co_await graph.open(top, {.discard_unmap = true, .no_flush = true});
  } else {
    node = pass(created);
  }
  (void)unlink(path->c_str());
  co_return node;
}

}  // namespace cairn::tools
